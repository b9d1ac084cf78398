"use strict";
// What the page carries inside: text blocks, base64, gzip, arrays.

/** An error whose message is for the person who looks at the page. */
class PageError extends Error {}

/** The text of a block of the page, or null where there is none. */
function block(id) {
  const element = document.getElementById(id);
  return element ? element.textContent.trim() : null;
}

/** base64 -> Uint8Array. */
function fromBase64(text) {
  let binary;
  try {
    binary = atob(text);
  } catch (error) {
    throw new PageError(`a part of this page is damaged: it is no base64 (${error.message})`);
  }
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i); // Uint8Array.from takes thirty times as long
  return bytes;
}

/** gzip -> Uint8Array. */
async function gunzip(bytes) {
  if (typeof DecompressionStream === "undefined") {
    throw new PageError("this browser cannot unpack gzip (DecompressionStream): take one from 2023 or later");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** What Python's `pack` wrote -> {data: Float32Array or Float64Array, shape, row(i)}. */
function unpack(packed) {
  const bytes = fromBase64(packed.float32 ?? packed.float64);
  const data = packed.float32 === undefined ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer);
  const width = packed.shape.slice(1).reduce((a, b) => a * b, 1);
  return { data, shape: packed.shape, row: (i) => data.subarray(i * width, (i + 1) * width) };
}

/** SHA-256 in hexadecimal, or null where the browser computes none (pages that come over plain http). */
async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
