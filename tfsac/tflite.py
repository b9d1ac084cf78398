"""The trained policy as .tflite files: one signature each, builtin operators only, a static batch of one."""

import json
import tempfile

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from tfsac.quiet_tensorflow import silenced
from tfsac.saved_model import ExportedPolicy

KINDS = ("float32", "float16", "dynamic", "int8", "sample")
METADATA_NAME = "tfsac"
# Operators that a device's runtime lacks, or whose weights are not in the file.
FORBIDDEN = ("CUSTOM", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")


def convert(weights, low, high, kind, calibration=None):
    """Converts the policy.

    Args:
        weights: arrays by name, as `NumpyPolicy` takes them.
        low, high: bounds of the action in the environment's units, [A].
        kind: 'float32', 'float16', 'dynamic' (int8 weights, float activations), 'int8' (weights and activations;
            float in and out) or 'sample' (float32 with the inputs observation and noise; the others have observation).
        calibration: observations [N, O] that fix the ranges of 'dynamic' and 'int8'.

    Returns:
        The file's bytes, without metadata.
    """
    if kind == "float16":  # constants are rounded to float16: bounds towards each other
        low, high = _round_to_float16(low, up=True), _round_to_float16(high, up=False)
    scale = np.ones(weights["hidden_0/kernel"].shape[0], np.float32)
    if kind in ("dynamic", "int8"):
        # One int8 tensor has one scale: a velocity of 40 would leave a distance of 0.01 nothing. So the features are
        # brought to one range before they are quantised, and the first layer's weights take that back.
        largest = np.max(np.abs(calibration), axis=0)
        scale = np.float32(1) / np.where(largest > 0, largest, 1).astype(np.float32)
        weights = weights | {"hidden_0/kernel": weights["hidden_0/kernel"] / scale[:, None]}
    policy = ExportedPolicy(weights, low, high, scale)
    observation = tf.TensorSpec([1, policy.observation_dim], name="observation")
    if kind == "sample":
        noise = tf.TensorSpec([1, policy.action_dim], name="noise")
        function = tf.function(lambda observation, noise: {"action": policy.sample(observation, noise)["action"]})
        concrete = function.get_concrete_function(observation, noise)
    elif kind == "int8":  # scale and bounds are float: see _surround
        function = tf.function(lambda observation: {"action": policy.network(observation)})
        concrete = function.get_concrete_function(observation)
    else:
        concrete = tf.function(policy.deterministic).get_concrete_function(observation)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(policy, folder, {"deterministic": concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["deterministic"])
        if kind in ("float16", "dynamic", "int8"):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            rows = (scale * calibration)[:, None].astype(np.float32)
            converter.representative_dataset = lambda: ({"observation": row} for row in rows)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        with silenced():
            model = converter.convert()
    return _surround(model, scale, low, high) if kind == "int8" else model


def embed(model, facts):
    """The bytes of a file without metadata, with facts, which JSON can hold, inside; its outputs stay as they are."""
    tree = _unpack(model)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(tree.buffers)
    tree.metadata = [*(tree.metadata or []), entry]
    tree.buffers.append(_buffer(json.dumps(facts).encode()))
    return _pack(tree)


def inspect(model):
    """What a device needs to know of a file.

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


def _surround(model, scale, low, high):
    """Puts the scaling of the observation before the int8 network, and the map to the bounds behind it, in float.

    Quantised in the environment's units, a narrow bound would share a wide one's coarse grid and could be overstepped.
    In [-1, 1] all coordinates are alike, and a float clip at the end is exact.
    """
    scale, low, high = (np.asarray(x, np.float32) for x in (scale, low, high))
    tree = _unpack(model)
    graph = tree.subgraphs[0]

    def tensor(name, size, constant=None):
        new = schema.TensorT()
        new.name, new.shape, new.type = name, [1, size], schema.TensorType.FLOAT32
        if constant is not None:  # else buffer 0, the empty one: written at run time
            new.buffer = len(tree.buffers)
            tree.buffers.append(_buffer(constant.tobytes()))
        graph.tensors.append(new)
        return len(graph.tensors) - 1

    def operator(name, options, source, constant, target=None):
        """-> the new operator, and the tensor that it writes."""
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 1
        tree.operatorCodes.append(code)
        new = schema.OperatorT()
        new.opcodeIndex = len(tree.operatorCodes) - 1
        new.builtinOptions = getattr(schema, f"{options}T")()
        new.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        label = f"{name.lower()}_{new.opcodeIndex}"
        new.inputs = [source, tensor(f"{label}_constant", constant.size, constant)]
        new.outputs = [tensor(label, constant.size) if target is None else target]
        return new, new.outputs[0]

    observation = tensor("observation", scale.size)
    first, _ = operator("MUL", "MulOptions", observation, scale, target=graph.inputs[0])
    graph.operators.insert(0, first)
    graph.inputs = [observation]
    tree.signatureDefs[0].inputs[0].tensorIndex = observation

    action = graph.outputs[0]
    for name, options, constant in (
        ("MUL", "MulOptions", 0.5 * high - 0.5 * low),
        ("ADD", "AddOptions", 0.5 * low + 0.5 * high),
        ("MINIMUM", "MaximumMinimumOptions", high),
        ("MAXIMUM", "MaximumMinimumOptions", low),
    ):
        new, action = operator(name, options, action, constant)
        graph.operators.append(new)
    graph.outputs = [action]
    tree.signatureDefs[0].outputs[0].tensorIndex = action
    return _pack(tree)


def _round_to_float16(values, up):
    """The nearest float16 on one side of each value, as float32."""
    exact = np.asarray(values, np.float32)
    near = exact.astype(np.float16)
    inward = near >= exact if up else near <= exact
    return np.where(inward, near, np.nextafter(near, np.float16(np.inf if up else -np.inf))).astype(np.float32)


def _buffer(data):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    return buffer


def _unpack(model):
    return schema.ModelT.InitFromPackedBuf(bytearray(model), 0)


def _pack(tree):
    builder = Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())
