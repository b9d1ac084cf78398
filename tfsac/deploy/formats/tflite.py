"""The trained policy as .tflite files: one signature each, builtin operators only, a static batch of one."""

import contextlib
import gc
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from tfsac.deploy.device_kit import run_policy
from tfsac.deploy.formats.format import Format, sequence
from tfsac.deploy.formats.tflite_micro import micro_arena, micro_registrations

METADATA_NAME = "tfsac"
# Operators that a device's runtime lacks, or whose weights are not in the file.
FORBIDDEN = ("CUSTOM", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
CALIBRATION, GOLDEN = 2_000, 16  # observations: that fix the ranges of int8, and in golden vectors


class Kind(NamedTuple):
    """One kind of .tflite file; see `Format` for largest_error, mean_error and noise.

    Attributes:
        golden_tolerance: by how much the file's answers may differ on another machine, in parts of the span; None: as
            for float32. Quantised kernels of another processor may round an activation the other way.
    """

    file: str
    purpose: str
    largest_error: float | None = None
    mean_error: float | None = None
    noise: float = 0.0
    golden_tolerance: float | None = None


# Errors of a sound file, measured on the released policies (largest, mean): float16 0.002 and 0.0001, dynamic 0.05 and
# 0.002, int8 0.4 and 0.03. The limits leave other tasks room; a wrong layer or scale is beyond them.
KINDS = {
    "float32": Kind("policy.tflite", "64-bit Raspberry Pi or any Linux machine, browser"),
    "float16": Kind("policy_float16.tflite", "the same at half the size", 0.02, 0.001, 0.001),
    "dynamic": Kind("policy_dynamic.tflite", "the same at a third of the size", 0.25, 0.02, 0.02, 2e-2),
    "int8": Kind("policy_int8.tflite", "microcontroller with TFLite Micro", None, 0.1, 0.02, 2e-2),
    "sample": Kind("policy_sample.tflite", "exploration on the device"),
}


class TFLite(Format):
    """A .tflite file.

    Args:
        kind: 'float32', 'float16' (weights), 'dynamic' (int8 weights, float activations), 'int8' (weights and
            activations; float in and out) or 'sample' (float32, with the inputs observation and noise).
    """

    oldest_runtime = "tflite-runtime 2.14"

    def __init__(self, kind):
        self.kind = kind
        self.file, self.purpose, self.largest_error, self.mean_error, self.noise, self._golden_tolerance = KINDS[kind]
        self.samples = kind == "sample"
        if kind == "int8":
            self.allowed_loss, self.allowed_under_stress = 0.1, 0.03

    def write(self, path, deployable):
        Path(path).write_bytes(with_facts(convert(deployable, self.kind), deployable.facts))

    def load(self, path):
        return run_policy.Policy(path).run  # without the runner's refusals: the file's own guard is measured

    def finish(self, path, act, deployable, measured):
        """Puts the measured return and golden vectors (the file's own answers on this machine) into the file."""
        rows = deployable.examples(GOLDEN)
        inputs = {"observation": deployable.states[rows]}
        if self.samples:
            noise = np.random.default_rng(0).standard_normal([len(rows), deployable.policy.sizes[-1]], np.float32)
            inputs["noise"] = noise
        golden = {name: values.tolist() for name, values in inputs.items()}
        golden["action"] = [act(*x).tolist() for x in zip(*inputs.values(), strict=True)]
        if "history" in deployable.facts and not self.samples:
            golden["sequence"] = sequence(deployable, act)
        golden["tolerance"] = self._golden_tolerance or deployable.tolerance
        facts = deployable.facts | {"kind": self.kind, "return": measured["return"], "golden": golden}
        model = with_facts(Path(path).read_bytes(), facts)
        Path(path).write_bytes(model)
        error, tolerance = run_policy.selftest(run_policy.Policy(path))
        inside = inspect(model)
        checks = {
            "golden vectors": error <= tolerance,
            "one signature": inside["signatures"] == ["deterministic"],
            "builtin operators only": not set(inside["operators"]) & set(FORBIDDEN),
        }
        return checks, {
            "bytes_without_metadata": len(with_facts(model, None)),
            "operators": inside["operators"],
            "micro_arena_bytes": micro_arena(model),
        }

    def describe(self, entry):
        lines = ["operators: " + ", ".join(f"{name} (v{version})" for name, version in entry["operators"].items())]
        if entry["micro_arena_bytes"]:
            calls = ", ".join(micro_registrations(entry["operators"]))
            lines.append(f"TFLite Micro: arena up to {entry['micro_arena_bytes']:,} bytes; register {calls}")
        return lines


def convert(deployable, kind):
    """The bytes of a file of one of KINDS, without metadata; see `TFLite`."""
    from tfsac.deploy.formats.graph import PolicyGraph

    policy, (low, high, limit) = deployable.policy, (deployable.low, deployable.high, deployable.limit)
    observation_dim, *_, action_dim = policy.sizes
    observation, noise = {"observation": observation_dim}, {"noise": action_dim}
    if kind in ("float32", "sample"):
        graph = PolicyGraph(policy, low, high, limit)
        if kind == "sample":
            return _convert(graph, lambda *x: graph.sample(*x)["action"], observation | noise)
        return _convert(graph, lambda x: graph.deterministic(x)["action"], observation)

    # The network alone is quantised, between a guard and bounds in float32: these stay exact. One int8 tensor has one
    # scale, so a velocity of 40 would leave a distance of 0.01 nothing, and a weight for a count of 1e6 would vanish in
    # float16: the features are brought to one range first, and the first layer's weights take that back.
    largest = np.max(np.abs(deployable.states), axis=0).astype(np.float64)
    scale = 1 / np.where(largest > 0, largest, 1)
    policy = policy.scaled_input(1 / scale)
    graph = PolicyGraph(policy, low, high, limit)
    calibration = (scale * deployable.states[deployable.examples(CALIBRATION)]).astype(np.float32)
    if kind == "dynamic":
        network = _by_columns(graph, policy.layers)
    else:
        network = [_convert(graph, graph.network, observation, kind, calibration)]
    return _chain(
        _convert(graph, lambda x: graph.guard(x) * scale.astype(np.float32), observation),
        *network,
        _convert(graph, graph.to_bounds, {"unit_action": action_dim}),
    )


def with_facts(model, facts):
    """The bytes of a file with these facts, which JSON can hold, instead of earlier ones; None removes them.

    The outputs stay as they are.
    """
    tree = _unpack(model)
    if tree.metadata and tree.metadata[-1].name in (METADATA_NAME, METADATA_NAME.encode()):  # put there by this
        tree.metadata.pop()
        tree.buffers.pop()
    if facts is not None:
        metadata, buffer = schema.MetadataT(), schema.BufferT()
        metadata.name, metadata.buffer = METADATA_NAME, len(tree.buffers)
        buffer.data = np.frombuffer(json.dumps(facts, allow_nan=False).encode(), np.uint8)
        tree.metadata = [*(tree.metadata or []), metadata]
        tree.buffers.append(buffer)
    return _pack(tree)


def inspect(model):
    """What a device needs to know about a file.

    Returns:
        Dict: signatures (names), operators (name -> version), inputs and outputs (name -> shape).
    """
    tree = _unpack(model)
    graph = tree.subgraphs[0]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = [tree.operatorCodes[operator.opcodeIndex] for operator in graph.operators]
    operators = {}
    for code in codes:
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        operators[name] = max(code.version, operators.get(name, 0))

    def shapes(maps):
        return {m.name.decode(): [int(n) for n in graph.tensors[m.tensorIndex].shape] for m in maps}

    return {
        "signatures": [s.signatureKey.decode() for s in tree.signatureDefs],
        "operators": dict(sorted(operators.items())),
        "inputs": shapes(tree.signatureDefs[0].inputs),
        "outputs": shapes(tree.signatureDefs[0].outputs),
    }


def _convert(graph, function, inputs, kind="float32", calibration=None):
    """The bytes of a file whose one signature, `deterministic`, gives the function's result as `action`.

    Args:
        graph: the module that holds the function's weights.
        function: of tensors [1, n].
        inputs: n by name.
        kind: how the weights and activations are held.
        calibration: observations [N, O] that fix the ranges of 'int8'.
    """
    from tfsac.quiet_tensorflow import silenced, tf

    specs = [tf.TensorSpec([1, size], name=name) for name, size in inputs.items()]
    concrete = tf.function(lambda *x: {"action": function(*x)}, autograph=False).get_concrete_function(*specs)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(graph, folder, {"deterministic": concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["deterministic"])
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "dynamic":
            converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        if kind == "int8":
            converter.representative_dataset = lambda: ({"observation": row[None]} for row in calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        with silenced(), _little_garbage():
            return converter.convert()


@contextlib.contextmanager
def _little_garbage():
    """The converter collects garbage each time; all that is imported and made need not be looked through for that."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _by_columns(graph, layers):
    """Parts of a file with the layers as int8 weights, one scale for each layer, as exact as one for each column.

    A scale for each column needs version 12 of FULLY_CONNECTED, which tflite-runtime 2.14 lacks. So the columns are
    divided by their largest weights, and a part of its own, which the converter cannot fold back, multiplies the
    outputs by these. relu(c x) = c relu(x) for c > 0.
    """
    from tfsac.quiet_tensorflow import tf

    parts = []
    for number, (kernel, bias) in enumerate(layers, start=1):
        inputs, last = {"observation": len(kernel)}, number == len(layers)
        largest = np.abs(kernel).max(axis=0)
        measure = np.where(largest > 0, largest, 1).astype(np.float32)

        def divided(x, kernel=kernel / measure, bias=bias / measure, last=last):
            y = tf.matmul(x, kernel) + bias
            return y if last else tf.nn.relu(y)

        def multiplied(x, measure=measure, last=last):
            return tf.tanh(x * measure) if last else x * measure

        parts.append(_convert(graph, divided, inputs, "dynamic"))
        parts.append(_convert(graph, multiplied, {"features": len(bias)}))
    return parts


def _chain(*models):
    """The bytes of one file that runs several, each with one input and one output, one after another."""
    trees = [_unpack(model) for model in models]
    whole, graph = trees[0], schema.SubGraphT()
    graph.tensors, graph.operators, codes, buffers = [], [], {}, [schema.BufferT()]  # number 0: written at run time
    for tree in trees:
        (part,) = tree.subgraphs
        place = {index: index + len(graph.tensors) for index in range(len(part.tensors))} | {-1: -1}  # -1: no input
        if graph.outputs is None:
            graph.inputs = [place[part.inputs[0]]]
        else:
            place[part.inputs[0]] = graph.outputs[0]
        for tensor in part.tensors:
            buffer = tree.buffers[tensor.buffer]
            tensor.buffer = 0 if buffer.data is None or len(buffer.data) == 0 else len(buffers)
            buffers += [buffer] if tensor.buffer else []
        for operator in part.operators:
            code = tree.operatorCodes[operator.opcodeIndex]
            key = code.builtinCode, code.deprecatedBuiltinCode, code.version
            codes.setdefault(key, code)
            operator.opcodeIndex = list(codes).index(key)
            operator.inputs = [place[index] for index in operator.inputs]
            operator.outputs = [place[index] for index in operator.outputs]
        graph.tensors += part.tensors
        graph.operators += part.operators
        graph.outputs = [place[part.outputs[0]]]
    whole.subgraphs, whole.operatorCodes, whole.buffers = [graph], list(codes.values()), buffers
    whole.metadata = None  # the converter's remarks on the first
    whole.signatureDefs[0].inputs[0].tensorIndex = graph.inputs[0]
    whole.signatureDefs[0].outputs[0].tensorIndex = graph.outputs[0]
    return _pack(whole)


def _unpack(model):
    return schema.ModelT.InitFromPackedBuf(bytearray(model), 0)


def _pack(tree):
    builder = _Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Builder(Builder):
    """Buffers begin at multiples of 16 bytes, as the schema asks and runtimes that read them in place rely on.

    The Python code generated from the schema does not do this.
    """

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803 (flatbuffers' names)
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)
