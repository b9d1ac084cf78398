"""Small .tflite files, written operator by operator: what the demo's reader is held to LiteRT with."""

import json

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import Builder

FLOAT32, BOOL = schema.TensorType.FLOAT32, schema.TensorType.BOOL
COMPARISONS = ("EQUAL", "NOT_EQUAL", "LESS", "GREATER")


class Graph:
    """A graph with one input row of `inputs` numbers; each method appends an operator and returns its output."""

    def __init__(self, inputs):
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.operatorCodes, self._model.metadata = 3, [], []
        self._model.buffers = [schema.BufferT()]
        self._graph.tensors, self._graph.operators = [], []
        self.input = self._tensor([1, inputs])
        self._graph.inputs = [self.input]

    def constant(self, values, shape=None):
        values = np.asarray(values, np.float32)
        return self._tensor(list(values.shape if shape is None else shape), values.tobytes())

    def operator(self, name, *inputs, shape=None, options=None, **fields):
        """Appends operator `name`; its output has the shape of its first input but where said."""
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 1
        self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs = list(inputs)
        output = self._tensor(
            shape or self._graph.tensors[inputs[0]].shape, kind=BOOL if name in COMPARISONS else FLOAT32
        )
        operator.outputs = [output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for field, value in fields.items():
                setattr(operator.builtinOptions, field, value)
        self._graph.operators.append(operator)
        return output

    def dense(self, x, kernel, bias, activation=0):
        """x kernel + bias; kernel [inputs, units]."""
        weights = self.constant(np.ascontiguousarray(kernel.T))
        return self.operator(
            "FULLY_CONNECTED", x, weights, self.constant(bias), shape=[1, bias.size],
            options="FullyConnectedOptions", fusedActivationFunction=activation,
        )  # fmt: skip

    def file(self, output, facts):
        """The file's bytes, with facts as tfsac's metadata."""
        self._graph.outputs = [output]
        self._model.subgraphs = [self._graph]
        entry = schema.MetadataT()
        entry.name, entry.buffer = "tfsac", self._buffer(json.dumps(facts).encode())
        self._model.metadata = [entry]
        builder = Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, shape, content=None, kind=FLOAT32):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(shape), kind, f"t{len(self._graph.tensors)}"
        tensor.buffer = self._buffer(content) if content else 0
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _buffer(self, content):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1


def facts(env_id, inputs, outputs):
    """What a file of tfsac's says of itself, as far as the page reads it; its golden vectors are to be added."""
    return {
        "tfsac": "0",
        "environment": {"id": env_id},
        "observation": {
            "names": [f"observation_{i}" for i in range(inputs)], "units": [""] * inputs,
            "low": [-3.0] * inputs, "high": [3.0] * inputs,
        },
        "action": {
            "names": [f"action_{i}" for i in range(outputs)], "units": [""] * outputs,
            "low": [-1.0] * outputs, "high": [1.0] * outputs,
        },
        "training": {"steps": 0, "gin": ""},
        "return": {"mean": 0.0, "std": 0.0, "episodes": 1},
        "golden": {"observation": [], "action": [], "tolerance": 1e-5},
    }  # fmt: skip


def random_policy(env_id, inputs, high, seed=0, units=16):
    """A policy of random weights with one hidden layer; actions within [-high, high]."""
    rng = np.random.default_rng(seed)
    graph = Graph(inputs)
    x = graph.dense(graph.input, rng.normal(0, 0.3, [inputs, units]), rng.normal(0, 0.1, units), activation=1)
    x = graph.dense(x, rng.normal(0, 0.5, [units, len(high)]), rng.normal(0, 0.1, len(high)))
    x = graph.operator("MUL", graph.operator("TANH", x), graph.constant(high), options="MulOptions")
    about = facts(env_id, inputs, len(high))
    about["action"] |= {"low": [-float(x) for x in high], "high": [float(x) for x in high]}
    rows = rng.normal(size=[4, inputs]).astype(np.float32)
    actions = litert(graph.file(x, about), rows)
    about["golden"] |= {"observation": rows.tolist(), "action": actions.tolist()}
    return graph.file(x, about)


def litert(file, rows):
    """What LiteRT answers to observations, one row at a time: [N, O] -> [N, A]."""
    interpreter = Interpreter(model_content=file)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    results = []
    for row in rows.astype(np.float32):
        interpreter.set_tensor(source, row[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(target)[0])
    return np.array(results)
