"""The trained policy as policy.h: a C99 header with weights and forward pass that needs nothing but tanhf."""

import ctypes
import re
import shutil
import subprocess
import tempfile
from itertools import count, pairwise
from pathlib import Path

import numpy as np

from tfsac.errors import UserError, require

OBSERVATION_LIMIT = 1e6  # as in the exported graphs

CORTEX_M4 = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-std=c99", "-O2"]

_TOP = """\
#ifndef TFSAC_POLICY_H
#define TFSAC_POLICY_H

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(_M_FP_FAST)
#error "policy.h must be compiled without -ffast-math: it removes the guard against NaN observations"
#endif

#include <math.h> /* tanhf */

#define TFSAC_OBSERVATION_DIM {inputs}
#define TFSAC_ACTION_DIM {outputs}
"""

_GUARD = """
/* A missing reading, NaN, counts as 0; one that no sensor gives is clipped. */
static inline float tfsac_policy_guard(float x)
{{
    x = x == x ? x : 0.0f;
    x = x > {limit} ? {limit} : x;
    return x < -{limit} ? -{limit} : x;
}}
"""

_SELFTEST = """
#ifdef TFSAC_POLICY_GOLDEN
/* Answers computed where the policy was exported; they may differ by the tolerance, in parts of the action's span. */
#define TFSAC_POLICY_GOLDEN_COUNT {count}
#define TFSAC_POLICY_GOLDEN_TOLERANCE {tolerance}

{arrays}

/* The number of golden vectors answered wrongly, plus one if this compiler has removed the guard against NaN. */
static inline int tfsac_policy_selftest(void)
{{
    float observation[TFSAC_OBSERVATION_DIM];
    float action[TFSAC_ACTION_DIM];
    float zero_action[TFSAC_ACTION_DIM];
    int failures = 0;
    int wrong = 0;
    for (int n = 0; n < TFSAC_POLICY_GOLDEN_COUNT; n++) {{
        wrong = 0;
        tfsac_policy_act(tfsac_golden_observations[n], action);
        for (int j = 0; j < TFSAC_ACTION_DIM; j++) {{
            const float half_span = 0.5f * tfsac_action_high[j] - 0.5f * tfsac_action_low[j];
            const float half_error = 0.5f * action[j] - 0.5f * tfsac_golden_actions[n][j];
            const float allowed = TFSAC_POLICY_GOLDEN_TOLERANCE * half_span;
            if (!(half_error <= allowed && half_error >= -allowed)) wrong = 1; /* NaN is wrong, too */
        }}
        failures += wrong;
    }}
    for (int i = 0; i < TFSAC_OBSERVATION_DIM; i++) observation[i] = 0.0f;
    tfsac_policy_act(observation, zero_action);
    for (int i = 0; i < TFSAC_OBSERVATION_DIM; i++) observation[i] = NAN;
    tfsac_policy_act(observation, action);
    wrong = 0;
    for (int j = 0; j < TFSAC_ACTION_DIM; j++) {{
        if (!(action[j] <= zero_action[j] && action[j] >= zero_action[j])) wrong = 1;
    }}
    return failures + wrong;
}}
#endif /* TFSAC_POLICY_GOLDEN */

#endif /* TFSAC_POLICY_H */
"""


def write_policy_header(path, weights, low, high, facts, golden):
    """Writes policy.h.

    Args:
        path: the file.
        weights: arrays by name, as `NumpyPolicy` takes them; log_std stays behind.
        low, high: bounds of the action in the environment's units, [A].
        facts: text by name, for the comment at the top.
        golden: dict of observations [N, O], actions [N, A] in the environment's units and tolerance, in parts of the
            action's span.

    Raises:
        UserError: weights that are not finite, or so large that an observation within the guard's limit could
            overflow float32.
    """
    layers = _layers(weights)
    _require_finite(layers)
    low, high = _inward(low, high)
    inputs, outputs = layers[0][1].shape[0], len(low)
    bounds = {
        "action_low": low,
        "action_high": high,
        "action_middle": np.float32(0.5) * low + np.float32(0.5) * high,
        "action_half": np.float32(0.5) * high - np.float32(0.5) * low,
    }
    constants = {}
    for name, kernel, bias in layers:
        constants |= {f"{name}_kernel": kernel, f"{name}_bias": bias}
    observations, actions = (np.asarray(golden[key], np.float32) for key in ("observations", "actions"))
    require(
        len(observations) > 0 and observations.shape[1:] == (inputs,) and actions.shape == (len(observations), outputs),
        f"golden vectors: expected [N, {inputs}] and [N, {outputs}], received {observations.shape}, {actions.shape}",
    )
    answers = {"golden_observations": observations, "golden_actions": actions}
    Path(path).write_text(
        "\n".join(
            [
                _comment(facts, layers),
                _TOP.format(inputs=inputs, outputs=outputs),
                *(_array(name, x) for name, x in {**constants, **bounds}.items()),
                _GUARD.format(limit=_number(OBSERVATION_LIMIT)),
                _act(layers),
                _SELFTEST.format(
                    count=len(observations),
                    tolerance=_number(golden["tolerance"]),
                    arrays="\n".join(_array(name, x) for name, x in answers.items()),
                ),
            ]
        ),
        encoding="ascii",
    )


class Compiled:
    """A policy.h compiled for this machine with -O2, as the device kit does: observation [O] -> action [A].

    Args:
        directory: where policy.h lies.
    """

    def __init__(self, directory):
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "policy.c"), Path(folder, "policy.so")
            source.write_text(
                "#define TFSAC_POLICY_GOLDEN\n"
                '#include "policy.h"\n'
                "const int observation_dim = TFSAC_OBSERVATION_DIM, action_dim = TFSAC_ACTION_DIM;\n"
                "void act(const float *observation, float *action) { tfsac_policy_act(observation, action); }\n"
                "int selftest(void) { return tfsac_policy_selftest(); }\n"
            )
            flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-I", directory]
            _run("cc", *flags, source, "-o", library, "-lm")
            self._library = ctypes.CDLL(library)  # stays loaded when the file is gone
        sizes = (ctypes.c_int.in_dll(self._library, name).value for name in ("observation_dim", "action_dim"))
        self._observation, self._action = (np.zeros(size, np.float32) for size in sizes)
        self._pointers = [ctypes.c_void_p(x.ctypes.data) for x in (self._observation, self._action)]

    def __call__(self, observation):
        self._observation[:] = observation
        self._library.act(*self._pointers)
        return self._action.copy()

    def selftest(self):
        """The number of golden vectors answered wrongly."""
        return self._library.selftest()


def compiled(directory):
    """The policy.h in a directory as a function, or None where there is no C compiler."""
    return Compiled(directory) if shutil.which("cc") else None


def footprint_cortex_m4(directory):
    """What the policy.h in a directory takes of a Cortex-M4F, compiled with -O2 and tanhf from newlib.

    Nothing runs: this says what must fit, not how fast it is.

    Args:
        directory: where policy.h lies.

    Returns:
        Dict of bytes: flash (code and constants), ram (static: the library's errno), stack (the deepest path of calls);
        None where arm-none-eabi-gcc or its newlib is absent.
    """
    compiler = shutil.which("arm-none-eabi-gcc")
    if not compiler or _run(compiler, "-print-file-name=nano.specs").strip() == "nano.specs":
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "act.c"), Path(folder, "act.elf")
        source.write_text(
            '#include "policy.h"\n'
            "void act(const float *observation, float *action);\n"
            "void act(const float *observation, float *action) { tfsac_policy_act(observation, action); }\n"
        )
        link = ["--specs=nano.specs", "-nostartfiles", "-Wl,--gc-sections,--entry=act", "-lm", "-o", program]
        _run(compiler, *CORTEX_M4, "-ffunction-sections", "-fdata-sections", "-I", directory, source, *link)
        text, data, bss = map(int, _run("arm-none-eabi-size", program).splitlines()[1].split()[:3])
        return {
            "flash": text + data,  # data lies in flash until it is copied to RAM at the start
            "ram": data + bss,
            "stack": _deepest_stack(_run("arm-none-eabi-objdump", "-d", "--no-show-raw-insn", program), "act"),
        }


def _layers(weights):
    """(name, kernel, bias) of what is deployed, in order."""
    names = []
    for i in count():
        if f"hidden_{i}/kernel" not in weights:
            break
        names.append(f"hidden_{i}")
    return [
        (name, *(np.asarray(weights[f"{name}/{part}"], np.float32) for part in ("kernel", "bias")))
        for name in (*names, "mu")
    ]


def _require_finite(layers):
    """Refuses weights with which some observation could overflow: the largest sum that could arise tells."""
    bound = np.full(layers[0][1].shape[0], OBSERVATION_LIMIT)
    for name, kernel, bias in layers:
        bound = bound @ np.abs(kernel).astype(np.float64) + np.abs(bias)
        if not np.all(bound < np.finfo(np.float32).max):
            raise UserError(f"policy.h: {name} holds NaN, infinity or weights that could overflow float32")


def _inward(low, high):
    """Bounds as float32, never outside the given ones."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    low32 = np.where(low32 < low, np.nextafter(low32, np.float32(np.inf)), low32)
    return low32, np.where(high32 > high, np.nextafter(high32, np.float32(-np.inf)), high32)


def _number(x):
    """A C literal that gives back this very float: 9 digits do, and C++, unlike for hex floats, always takes them."""
    x = float(np.float32(x))
    if not np.isfinite(x):
        return "NAN" if np.isnan(x) else "INFINITY" if x > 0 else "-INFINITY"
    digits = f"{x:.9g}"
    return digits + ("f" if re.search("[.e]", digits) else ".0f")


def _array(name, values):
    def braces(row):
        numbers = [_number(x) for x in row]
        lines = [", ".join(numbers[i : i + 7]) for i in range(0, len(numbers), 7)]
        return "{" + ",\n    ".join(lines) + "}"

    shape = "".join(f"[{n}]" for n in values.shape)
    text = braces(values) if values.ndim == 1 else "{" + ",\n    ".join(map(braces, values)) + "}"
    return f"static const float tfsac_{name}{shape} = {{\n    {text[1:]};"


def _act(layers):
    """The forward pass: fixed sizes and unit strides, so that compilers vectorise without reordering any sum."""
    sizes = [kernel.shape[1] for _, kernel, _ in layers]
    lines = [
        "/* The deterministic action, tanh(mu) scaled to the bounds; both in the environment's units. */",
        "static inline void tfsac_policy_act(const float *observation, float *action)",
        "{",
        *(f"    float {name}[{size}];" for (name, _, _), size in zip(layers, sizes, strict=True)),
    ]
    source = "tfsac_policy_guard(observation[i])"
    for name, kernel, _ in layers:
        inputs, outputs = kernel.shape
        each = f"    for (int j = 0; j < {outputs}; j++)"
        lines += [
            f"{each} {name}[j] = tfsac_{name}_bias[j];",
            f"    for (int i = 0; i < {inputs}; i++) {{",
            f"        const float x = {source};",
            f"    {each} {name}[j] += x * tfsac_{name}_kernel[i][j];",
            "    }",
        ]
        if name != "mu":
            lines.append(f"{each} {name}[j] = {name}[j] > 0.0f ? {name}[j] : 0.0f;")
        source = f"{name}[i]"
    lines += [
        f"    for (int j = 0; j < {sizes[-1]}; j++) {{",
        "        const float a = tfsac_action_middle[j] + tfsac_action_half[j] * tanhf(mu[j]);",
        "        /* Rounding may put the last bit outside the bounds. */",
        "        const float not_low = a > tfsac_action_low[j] ? a : tfsac_action_low[j];",
        "        action[j] = not_low < tfsac_action_high[j] ? not_low : tfsac_action_high[j];",
        "    }",
        "}",
    ]
    return "\n".join(lines)


def _comment(facts, layers):
    sizes = [layers[0][1].shape[0]] + [kernel.shape[1] for _, kernel, _ in layers]
    multiply_adds = sum(a * b for a, b in pairwise(sizes))
    facts = {
        "layers": " -> ".join(map(str, sizes)),
        "parameters": f"{multiply_adds + sum(sizes[1:])} float32; {multiply_adds} multiply-adds an action",
        **facts,
    }
    lines = ["/* A policy trained and exported by tfsac.", " *"]
    for name, text in facts.items():
        first, *rest = _plain(text).split("\n")
        lines += [f" * {_plain(name)}: {first}", *(f" *     {line}" for line in rest)]
    lines += [
        " *",
        " * Use: float action[TFSAC_ACTION_DIM]; tfsac_policy_act(observation, action);",
        " * Define TFSAC_POLICY_GOLDEN before including this file for tfsac_policy_selftest().",
        " */",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _plain(text):
    """Text that cannot end the comment, nor make a compiler warn: no comment marks, no trigraphs, ASCII only."""
    text = str(text).encode("ascii", "backslashreplace").decode()
    text = re.sub(r"[^\n -~]", " ", text)
    return re.sub(r"\*(?=/)|/(?=\*)|\?(?=\?)", r"\g<0> ", text)


def _run(*command):
    try:
        return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        raise UserError(f"{command[0]} failed: {error.stderr.strip()}") from error


def _deepest_stack(disassembly, entry):
    """Bytes of stack on the deepest path from a function, from Thumb disassembly; -fstack-usage omits the library."""
    frames, calls = {}, {}
    for block in re.split(r"\n(?=\w+ <)", disassembly):
        head = re.match(r"\w+ <(.+)>:", block)
        if not head:
            continue
        name = head[1]
        frame = sum(int(n) for n in re.findall(r"\tsub(?:\.w|w)?\tsp,(?: sp,)? #(\d+)", block))
        frame += sum(int(n) for n in re.findall(r"\tstr\.w\t\w+, \[sp, #-(\d+)\]!", block))
        for registers in re.findall(r"\t(?:push|stmdb\tsp!,|vpush)(?:\.w)?\s*\{([^}]*)\}", block):
            frame += sum(_register_bytes(register) for register in registers.split(","))
        frames[name] = frame
        calls[name] = set(re.findall(r"\tb\S*\t\w+ <([^>+]+)>", block)) - {name}

    def depth(name):
        return frames.get(name, 0) + max((depth(callee) for callee in calls.get(name, ())), default=0)

    return depth(entry)


def _register_bytes(register):
    """'r4' is 4 bytes, 'd8' 8, 's16-s19' 16."""
    ends = [re.match(r"\s*([a-z]+)(\d*)", end).groups() for end in register.split("-")]
    width = 8 if ends[0][0] == "d" else 4
    return width * (int(ends[-1][1]) - int(ends[0][1]) + 1 if len(ends) == 2 else 1)
