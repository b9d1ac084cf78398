"""The .tflite files: what is in them, and that they compute what was trained."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from browser import Browser, actions_in_page, executable
from random_policy import deployable, random_policy

from tfsac.algorithms.networks import policy_network
from tfsac.deploy.formats import tflite
from tfsac.deploy.formats.graph import PolicyGraph
from tfsac.deploy.ladder import extreme_observations
from tfsac.policy import Policy

# Neither bound of the first is a float16; the second is wide and one-sided.
LOW, HIGH = np.array([-0.3, -10.0], np.float32), np.array([1.7, 0.1], np.float32)
SPAN = HIGH - LOW


@pytest.fixture(scope="module")
def policy():
    return random_policy([3, 64, 32, 2], seed=5)


@pytest.fixture(scope="module")
def observations():
    return np.random.default_rng(0).normal(size=[300, 3]).astype(np.float32)


@pytest.fixture(scope="module")
def models(policy, observations):
    made = deployable(policy, LOW, HIGH, observations)
    return {kind: tflite.convert(made, kind) for kind in tflite.KINDS}


def run(model, observations, **others):
    interpreter = Interpreter(model_content=model, num_threads=1)
    runner = interpreter.get_signature_runner("deterministic")
    return np.concatenate([runner(observation=x[None], **others)["action"] for x in observations])


# In parts of the span; measured on these weights: 1e-7, 4e-4, 2e-3, 9e-3.
@pytest.mark.parametrize("kind, tolerance", [("float32", 1e-6), ("float16", 1e-3), ("dynamic", 1e-2), ("int8", 3e-2)])
def test_every_kind_computes_the_policys_action(kind, tolerance, models, policy, observations):
    expected = PolicyGraph(policy, LOW, HIGH, 1e6).deterministic(observations)["action"]
    error = np.abs(run(models[kind], observations) - expected) / SPAN
    assert error.max() < tolerance


def test_the_sampling_file_uses_its_noise(models, policy, observations):
    noise = np.array([[0.7, -1.3]], np.float32)
    expected = PolicyGraph(policy, LOW, HIGH, 1e6).sample(observations, noise)["action"]
    np.testing.assert_allclose(run(models["sample"], observations, noise=noise), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["float32", "float16", "dynamic", "int8"])
def test_no_observation_leads_outside_the_bounds(kind, models):
    actions = run(models[kind], np.concatenate([extreme_observations(3), 1e3 * extreme_observations(3)[-9:]]))
    assert np.all(np.isfinite(actions)) and np.all(actions >= LOW) and np.all(actions <= HIGH)


@pytest.mark.parametrize("kind", ["float32", "dynamic"])
def test_float_runtimes_agree_with_tensorflow_on_extreme_observations(kind, models, policy):
    odd = extreme_observations(3)
    expected = PolicyGraph(policy, LOW, HIGH, 1e6).deterministic(odd)["action"]
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


def test_files_are_as_small_as_they_should_be(models, policy):
    assert len(models["float32"]) < 4 * policy.parameters + 6000
    assert len(models["float16"]) < len(models["float32"])
    assert len(models["int8"]) < 0.7 * len(models["float32"])


def test_metadata_leaves_the_outputs_as_they_are(models, observations):
    embedded = tflite.with_facts(models["int8"], {"a": "b" * 1000})
    np.testing.assert_array_equal(run(embedded, observations), run(models["int8"], observations))
    assert 1000 < len(embedded) - len(models["int8"]) < 1300


@pytest.mark.parametrize("kind", tflite.KINDS)
def test_buffers_begin_at_multiples_of_16_bytes(kind, models):
    """As the schema asks; runtimes that read them in place rely on it."""
    content = tflite.with_facts(models[kind], {"a": "b"})
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    places = [x._tab.Vector(x._tab.Offset(4)) for x in buffers if x.DataLength() > 0]  # 4: the field `data`
    assert len(places) > 3 and not [place for place in places if place % 16]


@pytest.mark.parametrize("kind", tflite.KINDS)
def test_a_batch_through_resized_inputs_is_answered_row_by_row(kind, models, observations):
    """The batch is static, one; who wants more resizes the inputs."""
    noise = {"noise": np.ones([5, 2], np.float32)} if kind == "sample" else {}
    inputs = {"observation": observations[:5]} | noise
    interpreter = Interpreter(model_content=models[kind], num_threads=1)
    for place in interpreter.get_input_details():
        interpreter.resize_tensor_input(place["index"], [5, place["shape"][1]])
    interpreter.allocate_tensors()
    for place in interpreter.get_input_details():
        interpreter.set_tensor(place["index"], next(x for name, x in inputs.items() if name in place["name"]))
    interpreter.invoke()
    together = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    alone = run(models[kind], observations[:5], **{name: x[:1] for name, x in noise.items()})
    np.testing.assert_allclose(together, alone, atol=1e-5 if kind != "dynamic" else 0.1)


@pytest.mark.parametrize("kind", ["float16", "dynamic", "int8"])
def test_wide_and_narrow_observations_keep_their_part_in_it(kind):
    """A count of 1e8 beside a distance of 1e-3: the weights for the one are too small for float16 as they are."""
    scale = np.array([1e8, 1e-3, 1])
    plain = random_policy([3, 64, 32, 2], seed=5)
    states = np.random.default_rng(0).uniform(-1, 1, [300, 3]).astype(np.float32)
    made = deployable(plain.scaled_input(1 / scale), LOW, HIGH, scale * states, limit=1e11)
    error = np.abs(run(tflite.convert(made, kind), made.states) - made.actions) / SPAN
    assert error.mean() < {"float16": 2e-4, "dynamic": 5e-3, "int8": 1e-2}[kind]


def test_a_unit_of_small_weights_keeps_its_part_in_the_dynamic_file(observations):
    """One scale a matrix, as tflite-runtime 2.14 wants it, must not round to zero what a scale a column would keep."""
    hidden, mu, log_std = random_policy([3, 64, 32, 2], seed=5)
    small = np.where(np.arange(32) % 2, 1e-3, 1).astype(np.float32)  # every other unit's weights, put right behind it
    second = hidden[1]._replace(kernel=hidden[1].kernel * small, bias=hidden[1].bias * small)
    second.kernel[:, 0] = 0  # and one that nothing reaches
    policy = Policy((hidden[0], second), mu._replace(kernel=mu.kernel / small[:, None]), log_std)
    made = deployable(policy, LOW, HIGH, observations)
    model = tflite.convert(made, "dynamic")
    error = np.abs(run(model, observations) - made.actions) / SPAN
    assert error.mean() < 2e-3  # 4e-4; with one scale for the matrix as it was 4e-2
    assert tflite.inspect(model)["operators"]["FULLY_CONNECTED"] <= 9


@pytest.mark.skipif(executable() is None, reason="no Chromium here: tests/install_browser.sh installs one")
def test_a_demo_page_reads_what_is_written_today(models, observations):
    """The page in git brings a file of an earlier exporter. The guard is in the file, so 1e9 is answered, too."""
    browser, rows = Browser(), np.vstack([observations[:20], [[1e9, -1e9, 0]]]).astype(np.float32)
    try:
        assert browser.open("export/policies/pendulum/demo.html") == "ready"
        found = actions_in_page(browser, tflite.with_facts(models["float32"], {}), rows)
    finally:
        browser.close()
    np.testing.assert_allclose(found, run(models["float32"], rows), rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def old_runtime(tmp_path_factory):
    """A command that runs Python with tflite-runtime 2.14 and nothing else; its wheels end with Python 3.11."""
    python = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if not python:
        pytest.skip("no Python 3.11, the last that tflite-runtime has wheels for")
    folder = tmp_path_factory.mktemp("tflite_runtime")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=0"]
    where = ["--target", folder, "--python-version=3.11", "--only-binary=:all:"]
    done = subprocess.run([*pip, *where, "tflite-runtime==2.14.0", "numpy<2"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"tflite-runtime 2.14 cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return [python, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{RUN_OLD}"]


# Every .tflite file of a folder on the observations and noise there.
RUN_OLD = """
from pathlib import Path
import numpy as np
from tflite_runtime.interpreter import Interpreter
inputs, actions = dict(np.load("inputs.npz")), {}
for path in Path().glob("*.tflite"):
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    runner, rows = interpreter.get_signature_runner("deterministic"), range(len(inputs["observation"]))
    names = [name for name in inputs if name == "observation" or path.stem == "sample"]
    answers = [runner(**{name: inputs[name][i : i + 1] for name in names})["action"][0] for i in rows]
    actions[path.stem] = np.array(answers)
np.savez("actions.npz", **actions)
"""


def test_every_file_runs_in_the_oldest_runtime_that_the_report_names(old_runtime, models, observations, tmp_path):
    noise = np.random.default_rng(1).normal(size=[20, 2]).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", observation=observations[:20], noise=noise)
    for kind, model in models.items():
        (tmp_path / f"{kind}.tflite").write_bytes(tflite.with_facts(model, {"a": "b"}))
    done = subprocess.run(old_runtime, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    actions = np.load(tmp_path / "actions.npz")
    assert set(actions.files) == set(tflite.KINDS) and tflite.TFLite.oldest_runtime == "tflite-runtime 2.14"
    for kind in tflite.KINDS:
        if kind == "sample":
            rows = zip(observations[:20], noise, strict=True)
            expected = np.concatenate([run(models[kind], x[None], noise=e[None]) for x, e in rows])
        else:
            expected = run(models[kind], observations[:20])
        quantised = kind in ("dynamic", "int8")  # their kernels round in ways of their own
        np.testing.assert_allclose((actions[kind] - expected) / SPAN, 0, atol=2e-2 if quantised else 1e-5)
