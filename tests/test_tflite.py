"""The .tflite files: what is in them, and that they compute what was trained."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfsac import tflite
from tfsac.ladder import extreme_observations
from tfsac.networks import policy_network
from tfsac.saved_model import ExportedPolicy

# Neither bound of the first is a float16; the second is wide and one-sided.
LOW, HIGH = np.array([-0.3, -10.0], np.float32), np.array([1.7, 0.1], np.float32)
SPAN = HIGH - LOW


@pytest.fixture(scope="module")
def weights():
    network = policy_network(3, 2, [64, 32], seed=5)
    return {x.path: x.numpy() for x in network.variables}


@pytest.fixture(scope="module")
def observations():
    return np.random.default_rng(0).normal(size=[300, 3]).astype(np.float32)


@pytest.fixture(scope="module")
def models(weights, observations):
    return {kind: tflite.convert(weights, LOW, HIGH, kind, observations) for kind in tflite.KINDS}


def run(model, observations, **others):
    interpreter = Interpreter(model_content=model, num_threads=1)
    runner = interpreter.get_signature_runner("deterministic")
    return np.concatenate([runner(observation=x[None], **others)["action"] for x in observations])


# In parts of the span; measured on these weights: 1e-7, 4e-4, 2e-3, 9e-3.
@pytest.mark.parametrize("kind, tolerance", [("float32", 1e-6), ("float16", 1e-3), ("dynamic", 1e-2), ("int8", 3e-2)])
def test_every_kind_computes_the_policys_action(kind, tolerance, models, weights, observations):
    expected = ExportedPolicy(weights, LOW, HIGH).deterministic(observations)["action"]
    error = np.abs(run(models[kind], observations) - expected) / SPAN
    assert error.max() < tolerance


def test_the_sampling_file_uses_its_noise(models, weights, observations):
    noise = np.array([[0.7, -1.3]], np.float32)
    expected = ExportedPolicy(weights, LOW, HIGH).sample(observations, noise)["action"]
    np.testing.assert_allclose(run(models["sample"], observations, noise=noise), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["float32", "float16", "dynamic", "int8"])
def test_no_observation_leads_outside_the_bounds(kind, models):
    actions = run(models[kind], np.concatenate([extreme_observations(3), 1e3 * extreme_observations(3)[-9:]]))
    assert np.all(np.isfinite(actions)) and np.all(actions >= LOW) and np.all(actions <= HIGH)


@pytest.mark.parametrize("kind", ["float32", "dynamic"])
def test_float_runtimes_agree_with_tensorflow_on_extreme_observations(kind, models, weights):
    odd = extreme_observations(3)
    expected = ExportedPolicy(weights, LOW, HIGH).deterministic(odd)["action"]
    error = np.abs(run(models[kind], odd) - expected) / SPAN
    assert error.max() < (1e-6 if kind == "float32" else 3e-2)


@pytest.mark.parametrize("kind", tflite.KINDS)
def test_every_file_has_one_signature_a_static_batch_of_one_and_builtin_operators(kind, models):
    found = tflite.inspect(models[kind])
    assert found["signatures"] == ["deterministic"]
    assert found["inputs"] == {"observation": [1, 3]} | ({"noise": [1, 2]} if kind == "sample" else {})
    assert found["outputs"] == {"action": [1, 2]}
    assert not set(found["operators"]) & set(tflite.FORBIDDEN)


def test_inspect_sees_weights_that_are_not_in_the_file(tmp_path):
    """The trap that the exporter is built around: a module whose only link to its weights is a Keras model."""
    module = tf.Module()
    module.network = policy_network(3, 2, [8], seed=0)
    act = tf.function(lambda observation: {"action": module.network(observation)[0]})
    concrete = act.get_concrete_function(tf.TensorSpec([1, 3], name="observation"))
    tf.saved_model.save(module, tmp_path, {"deterministic": concrete})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=["deterministic"])
    assert set(tflite.inspect(converter.convert())["operators"]) & set(tflite.FORBIDDEN)


def test_files_are_as_small_as_they_should_be(models, weights):
    deployed = sum(x.size for name, x in weights.items() if not name.startswith("log_std"))
    assert len(models["float32"]) < 4 * deployed + 6000
    assert len(models["float16"]) < len(models["float32"])
    assert len(models["int8"]) < 0.7 * len(models["float32"])


def test_metadata_leaves_the_outputs_as_they_are(models, observations):
    embedded = tflite.embed(models["int8"], {"a": "b" * 1000})
    np.testing.assert_array_equal(run(embedded, observations), run(models["int8"], observations))
    assert 1000 < len(embedded) - len(models["int8"]) < 1300


@pytest.mark.parametrize("bound", [-0.3, 1.7, 0.1, 2.0, -1e-3])
def test_float16_bounds_are_rounded_inward(bound):
    up, down = (float(tflite._round_to_float16(bound, up=up)) for up in (True, False))
    assert down <= np.float32(bound) <= up
    assert up == np.float16(up) and down == np.float16(down) and up - down < 2e-3 * abs(bound)
