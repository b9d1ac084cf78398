"""The .tflite files for microcontrollers under TensorFlow Lite Micro, on this machine's processor."""

import importlib.util

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from random_policy import deployable, random_policy

from tfsac.deploy.formats.tflite import convert
from tfsac.deploy.formats.tflite_micro import micro_arena, micro_policy, micro_registrations
from tfsac.errors import RunError

LOW, HIGH = np.array([-1, -0.3]), np.array([1, 1.7])
INT8_STEP = 1 / 128  # of tanh(mu)

needs_micro = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None,
    reason="no tflite-micro: its wheels are for Linux on x86-64 only",
)


@pytest.fixture(scope="module")
def models():
    states = np.random.default_rng(0).normal(size=[500, 10])
    made = deployable(random_policy([10, 64, 64, 2], seed=0), LOW, HIGH, states)
    return {kind: convert(made, kind) for kind in ("float32", "int8", "dynamic")}


def errors(model, observations):
    """TensorFlow Lite Micro against LiteRT: [N, A], in parts of half the action's span."""
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    micro, found = micro_policy(model), []
    for observation in observations:
        interpreter.set_tensor(source["index"], observation[None])
        interpreter.invoke()
        action = micro(observation)
        assert np.all(action >= LOW.astype(np.float32)) and np.all(action <= HIGH.astype(np.float32))
        found.append(np.abs(action - interpreter.get_tensor(target["index"])[0]) / (0.5 * (HIGH - LOW)))
    return np.array(found)


@needs_micro
def test_float32_agrees_with_litert(models):
    observations = np.random.default_rng(1).normal(size=[500, 10]).astype(np.float32)
    assert errors(models["float32"], observations).max() <= 1e-5


@needs_micro
def test_float32_agrees_on_what_no_sensor_gives(models):
    extremes = [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40, 0]
    observations = np.random.default_rng(2).choice(extremes, [200, 10]).astype(np.float32)
    assert errors(models["float32"], observations).max() <= 1e-5


@needs_micro
def test_int8_agrees_with_litert_to_a_few_steps(models):
    # The two round differently after each layer.
    found = errors(models["int8"], np.random.default_rng(1).normal(size=[500, 10]).astype(np.float32))
    assert found.mean() <= INT8_STEP
    assert found.max() <= 4 * INT8_STEP


@needs_micro
def test_the_arena_is_the_smallest_that_will_do(models):
    from tflite_micro import runtime

    for kind in ("float32", "int8"):
        arena = micro_arena(models[kind])
        assert 1_000 < arena < 8_000
        runtime.Interpreter.from_bytes(models[kind], arena_size=arena).invoke()


@needs_micro
def test_what_micro_cannot_run_is_told(models):
    assert micro_arena(models["dynamic"]) is None
    with pytest.raises(RunError, match="cannot run under TensorFlow Lite Micro: TFLM failed"):
        micro_policy(models["dynamic"])


def test_without_the_package_there_is_no_arena(models, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert micro_arena(models["float32"]) is None


def test_registrations():
    assert micro_registrations(["FULLY_CONNECTED", "SELECT_V2", "TANH"]) == [
        "AddFullyConnected",
        "AddSelectV2",
        "AddTanh",
    ]
