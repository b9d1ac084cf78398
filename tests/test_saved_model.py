"""The exported graph, against the training code's own policy."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from random_policy import deployable
from tensorflow.python.tools import saved_model_cli

from tfsac.algorithms.networks import policy_network
from tfsac.algorithms.squashed_gaussian import sample_with_log_prob
from tfsac.deploy import artefact
from tfsac.deploy.formats.graph import PolicyGraph
from tfsac.deploy.formats.saved_model import FACTS, SavedModel
from tfsac.errors import UserError
from tfsac.policy import Policy

LOW, HIGH = np.array([-0.3, -10.0], np.float32), np.array([1.7, 0.1], np.float32)


@pytest.fixture(scope="module")
def network():
    return policy_network(3, 2, [16, 12], seed=5)


@pytest.fixture(scope="module")
def policy(network):
    return Policy.from_arrays({x.path: x.numpy() for x in network.variables})


@pytest.fixture(scope="module")
def graph(policy):
    return PolicyGraph(policy, LOW, HIGH, 1e6)


@pytest.fixture(scope="module")
def directory(policy, observations, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "saved_model"
    SavedModel().write(path, deployable(policy, LOW, HIGH, observations))
    return path


@pytest.fixture(scope="module")
def observations():
    return np.random.default_rng(0).normal(size=[50, 3]).astype(np.float32)


def test_deterministic_is_tanh_of_mu_between_the_bounds(network, graph, observations):
    mu, _ = network(observations)
    expected = LOW + (np.tanh(mu) + 1) / 2 * (HIGH - LOW)
    np.testing.assert_allclose(graph.deterministic(observations)["action"], expected, rtol=1e-5, atol=1e-5)


def test_sample_equals_the_training_policys_in_action_and_log_prob(network, graph, observations):
    noise = np.random.default_rng(1).normal(size=[50, 2]).astype(np.float32)
    action, log_prob = sample_with_log_prob(*network(observations), noise)
    found = graph.sample(observations, noise)
    np.testing.assert_allclose(found["action"], LOW + (action + 1) / 2 * (HIGH - LOW), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["log_prob"], log_prob, rtol=1e-4, atol=1e-4)


def test_log_prob_stays_finite_where_the_action_saturates(graph, observations):
    noise = np.full([50, 2], 1e4, np.float32)
    assert np.all(np.isfinite(graph.sample(observations, noise)["log_prob"]))


def test_distribution_is_the_networks(network, graph, observations):
    mu, log_std = network(observations)
    found = graph.distribution(observations)
    np.testing.assert_allclose(found["mean"], mu, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["log_std"], log_std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value, same_as", [(np.nan, 0.0), (np.inf, 1e6), (-np.inf, -1e6), (1e30, 1e6), (1e-40, 1e-40)])
def test_the_guard_counts_nan_as_zero_and_clips(graph, value, same_as):
    odd, plain = (np.array([[0.5, x, -1.0]], np.float32) for x in (value, same_as))
    np.testing.assert_array_equal(graph.deterministic(odd)["action"], graph.deterministic(plain)["action"])


def test_saved_model_reloads_bit_for_bit_where_neither_tfsac_nor_tfp_is(directory, graph, observations, tmp_path):
    noise = np.ones([50, 2], np.float32)
    np.savez(tmp_path / "inputs.npz", observation=observations, noise=noise)
    script = """
        import sys
        for name in ("tfsac", "tensorflow_probability"):
            sys.modules[name] = None  # an import of it fails
        import numpy as np
        import tensorflow as tf
        model, inputs = tf.saved_model.load(sys.argv[1]), np.load("inputs.npz")
        x, e = tf.constant(inputs["observation"]), tf.constant(inputs["noise"])
        found = {}
        for name in ("deterministic", "serving_default", "sample", "distribution"):
            arguments = dict(observation=x, noise=e) if name == "sample" else dict(observation=x)
            found |= {f"{name}/{k}": v.numpy() for k, v in model.signatures[name](**arguments).items()}
        np.savez("outputs.npz", **found)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), directory], cwd=tmp_path, check=True, capture_output=True
    )
    found = np.load(tmp_path / "outputs.npz")
    compiled = tf.function(graph.deterministic)(tf.constant(observations))["action"]
    np.testing.assert_array_equal(found["deterministic/action"], compiled)
    np.testing.assert_array_equal(found["serving_default/action"], compiled)
    sample = tf.function(graph.sample)(tf.constant(observations), tf.constant(noise))
    for name in ("action", "log_prob"):
        np.testing.assert_array_equal(found[f"sample/{name}"], sample[name])
    assert {name for name in found.files if name.startswith("distribution")} == {
        "distribution/mean",
        "distribution/log_std",
    }


def test_tensorflows_own_command_runs_it(directory, graph, observations, tmp_path):
    """What `saved_model_cli run` calls; the command itself takes seconds to start."""
    saved_model_cli.run_saved_model_with_feed_dict(
        str(directory), "serve", "serving_default", {"observation": observations}, str(tmp_path), overwrite_flag=True
    )
    action = np.load(tmp_path / "action.npy")
    np.testing.assert_allclose(action, graph.deterministic(observations)["action"], rtol=1e-5, atol=1e-5)


def test_keras_takes_it_as_a_layer(directory, graph, observations):
    layer = keras.layers.TFSMLayer(directory, call_endpoint="deterministic")
    expected = graph.deterministic(observations)["action"]
    np.testing.assert_allclose(layer(observations)["action"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("facts", ["", "{", "[" * 200_000, '"text"', "[1]"])
def test_facts_of_a_strangers_are_refused_with_one_line(facts, tmp_path):
    (tmp_path / FACTS).parent.mkdir()
    (tmp_path / FACTS).write_text(facts)
    with pytest.raises(UserError, match="is not what tfsac.export wrote"):
        artefact.load(tmp_path)


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_a_directory_with_facts_and_no_sound_model_is_refused_with_one_line(directory, content, tmp_path):
    (tmp_path / FACTS).parent.mkdir()
    (tmp_path / FACTS).write_bytes((directory / FACTS).read_bytes())
    if content:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(UserError, match="cannot load"):
        artefact.load(tmp_path)


def test_a_saved_model_of_another_kind_is_refused_with_one_line(directory, tmp_path):
    module = tf.Module()
    act = tf.function(lambda x: {"y": x}).get_concrete_function(tf.TensorSpec([1, 3], name="x"))
    tf.saved_model.save(module, str(tmp_path), {"other": act})
    (tmp_path / FACTS).parent.mkdir()
    (tmp_path / FACTS).write_bytes((directory / FACTS).read_bytes())
    with pytest.raises(UserError, match="cannot load .*: no signature deterministic"):
        artefact.load(tmp_path)
