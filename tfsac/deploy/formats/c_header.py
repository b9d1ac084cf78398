"""The trained policy as policy.h: a C99 header with weights and forward pass that needs nothing but tanhf."""

import ctypes
import hashlib
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from tfsac.data.envs import to_bounds
from tfsac.deploy.device_kit import run_policy
from tfsac.deploy.formats.c_compiler import act_source, run, symbol_prefix
from tfsac.deploy.formats.cortex_m4 import footprint
from tfsac.deploy.formats.format import Format, NotChecked, sequence
from tfsac.errors import require

GOLDEN = 16  # observations in golden vectors

_TOP = """\
#ifndef {MACRO}_H
#define {MACRO}_H {identity}

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(_M_FP_FAST)
#error "policy.h must be compiled without -ffast-math: it removes the guard against NaN observations"
#endif

#include <math.h> /* tanhf */

#define {DIM}_OBSERVATION_DIM {inputs}
#define {DIM}_ACTION_DIM {outputs}
"""

_GUARD = """
/* A missing reading, NaN, counts as 0; one that no sensor gives is clipped. */
static inline float {prefix}_guard(float x)
{{
    x = x == x ? x : 0.0f;
    x = x > {limit} ? {limit} : x;
    return x < -{limit} ? -{limit} : x;
}}
"""

# Only where the policy remembers.
_MEMORY = """
/* What the policy remembers. Its input, {prefix}_act's observation, is the last {observations} observations of the \
machine and the
 * last {actions} commands, each newest first; {prefix}_step puts them together and commands a safe action on a fault.
 *
 *     static {prefix}_state state;
 *     {prefix}_reset(&state);
 *     every control period: status = {prefix}_step(&state, sensors, seconds_since_the_last, action); */
#define {DIM}_SENSOR_DIM {sensors}
#define {MACRO}_HISTORY_OBSERVATIONS {observations}
#define {MACRO}_HISTORY_ACTIONS {actions}

typedef enum {{
    {MACRO}_OK = 0,
    {MACRO}_NOT_FINITE = 1,
    {MACRO}_OUT_OF_RANGE = 2,
    {MACRO}_STALE = 3,
    {MACRO}_LATE = 4
}} {prefix}_status;

typedef struct {{
    float row[{DIM}_OBSERVATION_DIM];  /* observations, then commands */
    float last[{DIM}_ACTION_DIM];      /* the last command */
    float reading[{DIM}_SENSOR_DIM];   /* the last reading, whatever it was */
    float low[{DIM}_SENSOR_DIM];       /* outside low and high an observation is out of range */
    float high[{DIM}_SENSOR_DIM];
    float safe[{DIM}_ACTION_DIM];      /* commanded on a fault */
    float slew;                        /* most that a command moves towards it, in parts of the span */
    float latest;                      /* seconds between two steps beyond which one is late; 0: never */
    unsigned stale_steps;              /* so many equal readings in a row are stale; 0: never */
    unsigned equal;
    unsigned missed;                   /* readings since the last good one */
    int begun;
}} {prefix}_state;

{limits}

/* Forgets the past. What is safe and what is a fault may be changed in the state afterwards. */
static inline void {prefix}_reset({prefix}_state *state)
{{
    for (int i = 0; i < {DIM}_OBSERVATION_DIM; i++) state->row[i] = 0.0f;
    for (int j = 0; j < {DIM}_ACTION_DIM; j++) {{
        for (int k = 0; k < {MACRO}_HISTORY_ACTIONS; k++) {{
            state->row[{DIM}_SENSOR_DIM * {MACRO}_HISTORY_OBSERVATIONS + k * {DIM}_ACTION_DIM + j] =
                {prefix}_action_middle[j];
        }}
        state->last[j] = {prefix}_action_middle[j];
        state->safe[j] = {prefix}_action_middle[j];
    }}
    for (int i = 0; i < {DIM}_SENSOR_DIM; i++) {{
        state->reading[i] = NAN;
        state->low[i] = {prefix}_sensor_low[i];
        state->high[i] = {prefix}_sensor_high[i];
    }}
    state->slew = {slew};
    state->latest = {latest};
    state->stale_steps = 0;
    state->equal = 0;
    state->missed = 0;
    state->begun = 0;
}}

/* One control period: what the sensors read, the seconds since the last step (0 if not known), and what to command.
 * Anything but {MACRO}_OK is a fault, and the command then moves to the safe action. */
static inline {prefix}_status {prefix}_step({prefix}_state *state, const float *sensors, float seconds, float *action)
{{
    {prefix}_status status = {MACRO}_OK;
    const int late = state->latest > 0.0f && !(seconds <= state->latest);
    int finite = 1;
    int inside = 1;
    int same = 1;
    for (int i = 0; i < {DIM}_SENSOR_DIM; i++) {{
        const float x = sensors[i];
        if (!(x - x <= 0.0f)) finite = 0; /* NaN for NaN and infinity */
        if (!(x >= state->low[i] && x <= state->high[i])) inside = 0;
        if (!(x >= state->reading[i] && x <= state->reading[i])) same = 0;
        state->reading[i] = x;
    }}
    state->equal = same ? state->equal + 1 : 1;
    if (!finite) {{
        status = {MACRO}_NOT_FINITE;
    }} else if (!inside) {{
        status = {MACRO}_OUT_OF_RANGE;
    }} else if (late) {{
        status = {MACRO}_LATE;
    }} else if (state->stale_steps > 0 && state->equal >= state->stale_steps) {{
        status = {MACRO}_STALE;
    }}

    /* After an outage older readings would show false velocities: the next good one is taken as after a reset. */
    if (!(finite && inside)) state->missed++;
    if (late || state->missed >= {MACRO}_HISTORY_OBSERVATIONS) state->begun = 0;
    if (finite && inside) {{
        for (int i = {DIM}_SENSOR_DIM * {MACRO}_HISTORY_OBSERVATIONS - 1; i >= {DIM}_SENSOR_DIM; i--) {{
            state->row[i] = state->begun ? state->row[i - {DIM}_SENSOR_DIM] : sensors[i % {DIM}_SENSOR_DIM];
        }}
        for (int i = 0; i < {DIM}_SENSOR_DIM; i++) state->row[i] = sensors[i];
        state->begun = 1;
        state->missed = 0;
    }}
    if (status == {MACRO}_OK) {{
        {prefix}_act(state->row, action);
    }} else {{
        for (int j = 0; j < {DIM}_ACTION_DIM; j++) {{
            const float most = 2.0f * state->slew * {prefix}_action_half[j];
            const float way = state->safe[j] - state->last[j];
            const float step = way > most ? most : way < -most ? -most : way;
            action[j] = state->last[j] + step;
        }}
    }}
    for (int i = {DIM}_OBSERVATION_DIM - 1; i >= {DIM}_OBSERVATION_DIM - {DIM}_ACTION_DIM * \
({MACRO}_HISTORY_ACTIONS - 1); i--) {{
        state->row[i] = state->row[i - {DIM}_ACTION_DIM];
    }}
    for (int j = 0; j < {DIM}_ACTION_DIM; j++) {{
        if ({MACRO}_HISTORY_ACTIONS > 0) {{
            state->row[{DIM}_SENSOR_DIM * {MACRO}_HISTORY_OBSERVATIONS + j] = action[j];
        }}
        state->last[j] = action[j];
    }}
    return status;
}}
"""

_SEQUENCE = """
    {{
        {prefix}_state state;
        {prefix}_reset(&state);
        for (int n = 0; n < {sequence_count}; n++) {{
            wrong = {prefix}_step(&state, {prefix}_golden_sensors[n], 0.0f, action) != {MACRO}_OK;
            for (int j = 0; j < {DIM}_ACTION_DIM; j++) {{
                const float half_span = 0.5f * {prefix}_action_high[j] - 0.5f * {prefix}_action_low[j];
                const float half_error = 0.5f * action[j] - 0.5f * {prefix}_golden_commands[n][j];
                const float allowed = {builds_up} * {MACRO}_GOLDEN_TOLERANCE * half_span; /* each builds on the last */
                if (!(half_error <= allowed && half_error >= -allowed)) wrong = 1;
            }}
            failures += wrong;
        }}
    }}"""

_SELFTEST = """
#ifdef {MACRO}_GOLDEN
/* Answers computed where the policy was exported; they may differ by the tolerance, in parts of the action's span. */
#define {MACRO}_GOLDEN_COUNT {count}
#define {MACRO}_GOLDEN_TOLERANCE {tolerance}

{arrays}

/* The number of golden vectors answered wrongly, plus one if this compiler has removed the guard against NaN. */
static inline int {prefix}_selftest(void)
{{
    float observation[{DIM}_OBSERVATION_DIM];
    float action[{DIM}_ACTION_DIM];
    float zero_action[{DIM}_ACTION_DIM];
    int failures = 0;
    int wrong = 0;
    for (int n = 0; n < {MACRO}_GOLDEN_COUNT; n++) {{
        wrong = 0;
        {prefix}_act({prefix}_golden_observations[n], action);
        for (int j = 0; j < {DIM}_ACTION_DIM; j++) {{
            const float half_span = 0.5f * {prefix}_action_high[j] - 0.5f * {prefix}_action_low[j];
            const float half_error = 0.5f * action[j] - 0.5f * {prefix}_golden_actions[n][j];
            const float allowed = {MACRO}_GOLDEN_TOLERANCE * half_span;
            if (!(half_error <= allowed && half_error >= -allowed)) wrong = 1; /* NaN is wrong, too */
        }}
        failures += wrong;
    }}{sequence}
    for (int i = 0; i < {DIM}_OBSERVATION_DIM; i++) observation[i] = 0.0f;
    {prefix}_act(observation, zero_action);
    for (int i = 0; i < {DIM}_OBSERVATION_DIM; i++) observation[i] = NAN;
    {prefix}_act(observation, action);
    wrong = 0;
    for (int j = 0; j < {DIM}_ACTION_DIM; j++) {{
        if (!(action[j] <= zero_action[j] && action[j] >= zero_action[j])) wrong = 1;
    }}
    return failures + wrong;
}}
#endif /* {MACRO}_GOLDEN */

#elif {MACRO}_H != {identity}
#error "another policy.h with these names is included already: export one of them with --name"
#endif /* {MACRO}_H */
"""


class CHeader(Format):
    """policy.h. Two of them in one program need symbols of their own: `Deployable.name`."""

    file = "policy.h"
    purpose = "microcontroller, or 32-bit ARM Linux, for which LiteRT has no wheel"
    oldest_runtime = "a C99 or C++11 compiler"

    def write(self, path, deployable):
        prefix, dim = names(deployable.name)
        hidden, mu, _ = deployable.policy  # all there is; log_std stays behind
        layers = {**{f"hidden_{i}": layer for i, layer in enumerate(hidden)}, "mu": mu}
        constants = {}
        for name, (kernel, bias) in layers.items():
            constants |= {f"{name}_kernel": kernel, f"{name}_bias": bias}
        low, high, rows = deployable.low, deployable.high, deployable.examples(GOLDEN)
        constants |= {
            "action_low": low,
            "action_high": high,
            "action_middle": np.float32(0.5) * low + np.float32(0.5) * high,
            "action_half": np.float32(0.5) * high - np.float32(0.5) * low,
        }
        golden = {"golden_observations": deployable.states[rows], "golden_actions": deployable.actions[rows]}
        arrays = [_array(f"{prefix}_{name}", values) for name, values in constants.items()]
        limit = _number(deployable.limit)
        inputs, *_, outputs = deployable.policy.sizes
        parts = {
            "prefix": prefix,
            "MACRO": prefix.upper(),
            "DIM": dim,
            # Of the policy, not of the file: the same header twice is skipped, another one is refused.
            "identity": "0x" + hashlib.sha256("".join([*arrays, limit]).encode()).hexdigest()[:8],
            "inputs": inputs,
            "outputs": outputs,
            "limit": limit,
            "count": len(rows),
            "tolerance": _number(deployable.tolerance),
            "sequence": "",
        }
        memory = _memory(deployable, parts, golden) if "history" in deployable.facts else None
        parts["arrays"] = "\n".join(_array(f"{prefix}_{name}", values) for name, values in golden.items())
        text = "\n".join(
            [
                _comment(deployable, prefix, dim),
                _TOP.format(**parts),
                *arrays,
                _GUARD.format(**parts),
                _act(layers, prefix),
                *([_MEMORY.format(**parts, **memory)] if memory else []),
                _SELFTEST.format(**parts),
            ]
        )
        Path(path).write_text(text, encoding="ascii")

    def load(self, path):
        if not shutil.which("cc"):
            raise NotChecked("no C compiler here")
        return Compiled(Path(path).parent)

    def finish(self, path, act, deployable, measured):
        return {"golden vectors": act.selftest() == 0}, {"cortex_m4_bytes": footprint(Path(path).parent)}

    def describe(self, entry):
        if not entry.get("cortex_m4_bytes"):
            return []
        sizes = ", ".join(f"{name} {value:,} bytes" for name, value in entry["cortex_m4_bytes"].items())
        return [f"compiled for Cortex-M4F at -O2: {sizes}"]


def _memory(deployable, parts, golden):
    """What _MEMORY needs beside parts; the golden sequence goes into parts and golden."""
    past, prefix = deployable.facts["history"], parts["prefix"]
    size = (deployable.policy.sizes[0] - past["actions"] * len(past["fill"])) // past["observations"]
    said = deployable.facts["observation"]
    low, high = (np.float32(said[name][:size]) for name in ("low", "high"))
    wide = np.where(high > low, high - low, np.abs(high) + 1)  # as run_policy.py takes it

    def act(row):
        return to_bounds(deployable.policy.deterministic(row), deployable.low, deployable.high)

    steps = sequence(deployable, act)
    golden |= {"golden_sensors": np.float32(steps["observation"]), "golden_commands": np.float32(steps["action"])}
    parts["sequence"] = _SEQUENCE.format(
        **parts, sequence_count=len(steps["action"]), builds_up=_number(run_policy.BUILDS_UP)
    )
    environment = deployable.facts["environment"]
    rate = environment.get("control_rate_hz")
    limits = {"sensor_low": low - wide, "sensor_high": high + wide}
    return {
        "sensors": size,
        "observations": past["observations"],
        "actions": past["actions"],
        "slew": _number(environment.get("action_slew") or 1.0),
        "latest": _number(2 / rate if rate else 0.0),
        "limits": "\n".join(_array(f"{prefix}_{name}", values) for name, values in limits.items()),
    }


def names(name):
    """What begins the symbols and what begins the macros of the two sizes, for `Deployable.name`.

    Raises:
        UserError: that cannot begin a name in C, or is tfsac's own.
    """
    if name is None:
        return "tfsac_policy", "TFSAC"
    require(
        re.fullmatch(r"[a-z][a-z0-9_]*", name) and not name.startswith("tfsac"),
        f"--name={name}: expected a word of lower-case letters, digits and underscores that begins with a letter, for "
        "names in C; tfsac is taken",
    )
    return name, name.upper()


class Compiled:
    """A policy.h compiled for this machine with -O2, as the device kit does: observation [O] -> action [A].

    Args:
        directory: where policy.h lies.
    """

    def __init__(self, directory):
        prefix = symbol_prefix(directory)
        dim = names(None if prefix == "tfsac_policy" else prefix)[1]
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "policy.c"), Path(folder, "policy.so")
            source.write_text(
                f"#define {prefix.upper()}_GOLDEN\n{act_source(directory)}"
                f"const int observation_dim = {dim}_OBSERVATION_DIM, action_dim = {dim}_ACTION_DIM;\n"
                f"int selftest(void) {{ return {prefix}_selftest(); }}\n"
            )
            flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-I", directory]
            run("cc", *flags, source, "-o", library, "-lm")
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
    return f"static const float {name}{shape} = {{\n    {text[1:]};"


def _act(layers, prefix):
    """The forward pass: fixed sizes and unit strides, so that compilers vectorise without reordering any sum."""
    lines = [
        "/* The deterministic action, tanh(mu) scaled to the bounds; both in the environment's units. */",
        f"static inline void {prefix}_act(const float *observation, float *action)",
        "{",
        *(f"    float {name}[{layer.bias.size}];" for name, layer in layers.items()),
    ]
    source = f"{prefix}_guard(observation[i])"
    for name, layer in layers.items():
        inputs, outputs = layer.kernel.shape
        each = f"    for (int j = 0; j < {outputs}; j++)"
        lines += [
            f"{each} {name}[j] = {prefix}_{name}_bias[j];",
            f"    for (int i = 0; i < {inputs}; i++) {{",
            f"        const float x = {source};",
            f"    {each} {name}[j] += x * {prefix}_{name}_kernel[i][j];",
            "    }",
        ]
        if name != "mu":
            lines.append(f"{each} {name}[j] = {name}[j] > 0.0f ? {name}[j] : 0.0f;")
        source = f"{name}[i]"
    lines += [
        f"    for (int j = 0; j < {outputs}; j++) {{",
        f"        const float a = {prefix}_action_middle[j] + {prefix}_action_half[j] * tanhf(mu[j]);",
        "        /* Rounding may put the last bit outside the bounds. */",
        f"        const float not_low = a > {prefix}_action_low[j] ? a : {prefix}_action_low[j];",
        f"        action[j] = not_low < {prefix}_action_high[j] ? not_low : {prefix}_action_high[j];",
        "    }",
        "}",
    ]
    return "\n".join(lines)


def _comment(deployable, prefix, dim):
    policy, facts = deployable.policy, deployable.facts
    about = {
        "layers": " -> ".join(map(str, policy.sizes)),
        "parameters": f"{policy.parameters} float32; {policy.multiply_adds} multiply-adds an action",
        "environment": facts["environment"]["id"],
        "tfsac": facts["tfsac"],
        "git_revision": facts["git_revision"],
    }
    if "tolerates" in facts:
        about["tolerates"] = facts["tolerates"]
    for kind in ("observation", "action"):
        pairs = zip(facts[kind]["names"], facts[kind]["units"], strict=True)
        about[kind] = ", ".join(f"{name} [{unit}]" if unit else name for name, unit in pairs)
    lines = ["/* A policy trained and exported by tfsac.", " *"]
    for name, text in about.items():
        first, *rest = _plain(text).split("\n")
        lines += [f" * {name}: {first}", *(f" *     {line}" for line in rest)]
    lines += [
        " *",
        f" * Use: float action[{dim}_ACTION_DIM]; {prefix}_act(observation, action);",
        f" * Define {prefix.upper()}_GOLDEN before including this file for {prefix}_selftest().",
        " */",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _plain(text):
    """Text that cannot end the comment, nor make a compiler warn: no comment marks, no trigraphs, ASCII only."""
    text = str(text).encode("ascii", "backslashreplace").decode()
    text = re.sub(r"[^\n -~]", " ", text)
    return re.sub(r"\*(?=/)|/(?=\*)|\?(?=\?)", r"\g<0> ", text)
