"""The exported graph, against the training code's own policy."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from tfsac import saved_model
from tfsac.networks import policy_network
from tfsac.policy import sample_with_log_prob

LOW, HIGH = np.array([-0.3, -10.0], np.float32), np.array([1.7, 0.1], np.float32)


@pytest.fixture(scope="module")
def network():
    return policy_network(3, 2, [16, 12], seed=5)


@pytest.fixture(scope="module")
def policy(network):
    return saved_model.ExportedPolicy({x.path: x.numpy() for x in network.variables}, LOW, HIGH)


@pytest.fixture
def observations():
    return np.random.default_rng(0).normal(size=[50, 3]).astype(np.float32)


def test_deterministic_is_tanh_of_mu_between_the_bounds(network, policy, observations):
    mu, _ = network(observations)
    expected = LOW + (np.tanh(mu) + 1) / 2 * (HIGH - LOW)
    np.testing.assert_allclose(policy.deterministic(observations)["action"], expected, rtol=1e-5, atol=1e-5)


def test_sample_equals_the_training_policys_in_action_and_log_prob(network, policy, observations):
    noise = np.random.default_rng(1).normal(size=[50, 2]).astype(np.float32)
    action, log_prob = sample_with_log_prob(*network(observations), noise)
    found = policy.sample(observations, noise)
    np.testing.assert_allclose(found["action"], LOW + (action + 1) / 2 * (HIGH - LOW), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["log_prob"], log_prob, rtol=1e-4, atol=1e-4)


def test_log_prob_stays_finite_where_the_action_saturates(policy, observations):
    noise = np.full([50, 2], 1e4, np.float32)
    assert np.all(np.isfinite(policy.sample(observations, noise)["log_prob"]))


def test_distribution_is_the_networks(network, policy, observations):
    mu, log_std = network(observations)
    found = policy.distribution(observations)
    np.testing.assert_allclose(found["mean"], mu, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["log_std"], log_std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value, same_as", [(np.nan, 0.0), (np.inf, 1e6), (-np.inf, -1e6), (1e30, 1e6), (1e-40, 1e-40)])
def test_the_guard_counts_nan_as_zero_and_clips(policy, value, same_as):
    odd, plain = (np.array([[0.5, x, -1.0]], np.float32) for x in (value, same_as))
    np.testing.assert_array_equal(policy.deterministic(odd)["action"], policy.deterministic(plain)["action"])


def test_saved_model_reloads_bit_for_bit_where_neither_tfsac_nor_tfp_is(policy, observations, tmp_path):
    saved_model.save(policy, tmp_path / "model")
    noise = np.ones([50, 2], np.float32)
    np.savez(tmp_path / "inputs.npz", observation=observations, noise=noise)
    script = """
        import sys
        for name in ("tfsac", "tensorflow_probability"):
            sys.modules[name] = None  # an import of it fails
        import numpy as np
        import tensorflow as tf
        model, inputs = tf.saved_model.load("model"), np.load("inputs.npz")
        x, e = tf.constant(inputs["observation"]), tf.constant(inputs["noise"])
        found = {}
        for name in ("deterministic", "serving_default", "sample", "distribution"):
            arguments = dict(observation=x, noise=e) if name == "sample" else dict(observation=x)
            found |= {f"{name}/{k}": v.numpy() for k, v in model.signatures[name](**arguments).items()}
        np.savez("outputs.npz", **found)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, check=True, capture_output=True)
    found = np.load(tmp_path / "outputs.npz")
    compiled = tf.function(policy.deterministic)(tf.constant(observations))["action"]
    np.testing.assert_array_equal(found["deterministic/action"], compiled)
    np.testing.assert_array_equal(found["serving_default/action"], compiled)
    sample = tf.function(policy.sample)(tf.constant(observations), tf.constant(noise))
    for name in ("action", "log_prob"):
        np.testing.assert_array_equal(found[f"sample/{name}"], sample[name])
    assert {name for name in found.files if name.startswith("distribution")} == {
        "distribution/mean",
        "distribution/log_std",
    }
