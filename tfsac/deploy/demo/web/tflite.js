// Reads a .tflite file and runs it: the float operators that tfsac's files have, one row at a time.

/** A table of a flatbuffer: its fields are found by their number in the schema. */
class Table {
  constructor(view, at) {
    this.view = view;
    this.at = at;
    this.fields = at - view.getInt32(at, true);
  }

  /** Where field number `field` lies, or 0 where the file leaves it at its default. */
  place(field) {
    const entry = 4 + 2 * field;
    const offset = entry < this.view.getUint16(this.fields, true) ? this.view.getUint16(this.fields + entry, true) : 0;
    return offset ? this.at + offset : 0;
  }

  int8(field) { const at = this.place(field); return at ? this.view.getInt8(at) : 0; }
  uint32(field) { const at = this.place(field); return at ? this.view.getUint32(at, true) : 0; }

  /** {at, length} of a vector's elements. */
  vector(field) {
    const at = this.place(field);
    if (!at) return { at: 0, length: 0 };
    const start = at + this.view.getUint32(at, true);
    return { at: start + 4, length: this.view.getUint32(start, true) };
  }

  ints(field) {
    const { at, length } = this.vector(field);
    return Array.from({ length }, (_, i) => this.view.getInt32(at + 4 * i, true));
  }

  tables(field) {
    const { at, length } = this.vector(field);
    return Array.from({ length }, (_, i) => {
      const place = at + 4 * i;
      return new Table(this.view, place + this.view.getUint32(place, true));
    });
  }

  table(field) {
    const at = this.place(field);
    return at ? new Table(this.view, at + this.view.getUint32(at, true)) : null;
  }

  bytes(field) {
    const { at, length } = this.vector(field);
    if (at + length > this.view.byteLength) throw new RangeError("a vector passes the end of the file");
    return new Uint8Array(this.view.buffer, this.view.byteOffset + at, length);
  }

  text(field) { return new TextDecoder().decode(this.bytes(field)); }
}

// Numbers of TensorFlow Lite's schema (schema.fbs).
const TENSOR_TYPES = { 0: Float32Array, 6: Uint8Array };
const ACTIVATIONS = [
  (x) => x,
  (x) => Math.max(x, 0),
  (x) => Math.min(Math.max(x, -1), 1),
  (x) => Math.min(Math.max(x, 0), 6),
  Math.tanh,
];
const FULLY_CONNECTED = 9;
const UNARY = {
  14: (x) => 1 / (1 + Math.exp(-x)), // LOGISTIC
  19: ACTIVATIONS[1], // RELU
  20: ACTIVATIONS[2], // RELU_N1_TO_1
  21: ACTIVATIONS[3], // RELU6
  22: (x) => x, // RESHAPE: a row stays a row
  28: Math.tanh,
  101: Math.abs,
};
const BINARY = {
  0: (a, b) => a + b,
  18: (a, b) => a * b,
  41: (a, b) => a - b,
  42: (a, b) => a / b,
  55: Math.max, // MAXIMUM
  57: Math.min, // MINIMUM
  58: (a, b) => a < b, // LESS
  61: (a, b) => a > b, // GREATER
  71: (a, b) => a === b, // EQUAL
  72: (a, b) => a !== b, // NOT_EQUAL
};
const FUSED = new Set([0, 18, 41, 42]); // those of BINARY whose options name an activation
const SELECT_V2 = 123;

/**
 * The policy in a .tflite file.
 *
 * @param {Uint8Array} bytes the file.
 * Attributes: facts (what the file says of itself), inputs and outputs (numbers of each), run(observation).
 * Throws PageError: damaged, no metadata of tfsac's, or an operator that this reader does not know.
 */
class Policy {
  constructor(bytes) {
    try {
      this._read(bytes);
    } catch (error) {
      if (error instanceof PageError) throw error;
      throw new PageError(`the .tflite file in this page is damaged: ${error.message}`);
    }
  }

  _read(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (String.fromCharCode(...bytes.subarray(4, 8)) !== "TFL3") throw new RangeError("it does not begin as one");
    const model = new Table(view, view.getUint32(0, true));
    const buffers = model.tables(4);
    this.facts = this._facts(model.tables(6), buffers);
    const graph = model.tables(2)[0];
    this._tensors = graph.tables(0).map((tensor, i) => this._tensor(tensor, i, buffers));
    const codes = model.tables(1).map((code) => Math.max(code.int8(0), code.uint32(3)));
    this._operators = graph.tables(3).map((operator) => this._operator(operator, codes[operator.uint32(0)]));
    const [inputs, outputs] = [graph.ints(1), graph.ints(2)];
    if (inputs.length !== 1 || outputs.length !== 1) throw new PageError("this .tflite file wants more than observations");
    this._input = this._tensors[inputs[0]];
    this._output = this._tensors[outputs[0]];
    this.inputs = this._input.length;
    this.outputs = this._output.length;
  }

  _facts(metadata, buffers) {
    const ours = metadata.find((entry) => entry.text(0) === "tfsac");
    if (!ours) throw new PageError("the .tflite file has no metadata of tfsac");
    return JSON.parse(buffers[ours.uint32(1)].text(0));
  }

  /** A tensor's numbers: the file's, or room for them. */
  _tensor(tensor, number, buffers) {
    const type = TENSOR_TYPES[tensor.int8(1)];
    if (!type) throw new PageError(`the .tflite file has numbers of type ${tensor.int8(1)}: the page reads float32 alone`);
    const size = tensor.ints(0).reduce((a, b) => a * b, 1);
    const content = buffers[tensor.uint32(2)].bytes(0);
    if (!content.length) return new type(size);
    if (content.length !== size * type.BYTES_PER_ELEMENT) throw new RangeError(`tensor ${number} has not its size`);
    return new type(content.slice().buffer);
  }

  /** An operator as a function that computes its output. */
  _operator(operator, code) {
    const [a, b, c] = operator.ints(1).map((i) => this._tensors[i]); // undefined where an optional one is left out
    const out = this._tensors[operator.ints(2)[0]];
    const options = operator.table(4);
    if (code === FULLY_CONNECTED) return fullyConnected(a, b, c, out, ACTIVATIONS[options?.int8(0) ?? 0]);
    if (code in UNARY) return () => { for (let i = 0; i < out.length; i++) out[i] = UNARY[code](a[i]); };
    if (code in BINARY) {
      const apply = BINARY[code];
      const activation = FUSED.has(code) ? ACTIVATIONS[options?.int8(0) ?? 0] : ACTIVATIONS[0];
      return () => {
        for (let i = 0; i < out.length; i++) out[i] = activation(Math.fround(apply(a[i % a.length], b[i % b.length])));
      };
    }
    if (code === SELECT_V2) {
      return () => {
        for (let i = 0; i < out.length; i++) out[i] = a[i % a.length] ? b[i % b.length] : c[i % c.length];
      };
    }
    throw new PageError(`this page does not know operator number ${code} of the .tflite file`);
  }

  /** observation [O], in the environment's units -> action [A], float32, a copy. */
  run(observation) {
    this._input.set(observation);
    for (const operator of this._operators) operator();
    return this._output.slice();
  }

  /** The largest difference to the answers that the file carries of itself, in parts of the action's span. */
  selfTest() {
    const { golden, action } = this.facts;
    let worst = 0;
    golden.observation.forEach((observation, row) => {
      this.run(observation).forEach((value, i) => {
        const span = action.high[i] - action.low[i] || 1; // a constant action has none
        worst = Math.max(worst, Math.abs(value - golden.action[row][i]) / span);
      });
    });
    return worst;
  }
}

/** out = activation(weights input + bias), weights [units, inputs] row by row. */
function fullyConnected(input, weights, bias, out, activation) {
  const inputs = input.length;
  if (weights.length !== out.length * inputs) throw new RangeError("a layer's weights have not its size");
  return () => {
    for (let unit = 0, at = 0; unit < out.length; unit++) {
      let sum = bias ? bias[unit] : 0;
      for (let i = 0; i < inputs; i++, at++) sum += weights[at] * input[i];
      out[unit] = activation(sum);
    }
  };
}
