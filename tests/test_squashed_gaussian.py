"""The tanh-squashed Gaussian against float64 formulas, by quadrature, and where it saturates."""

import numpy as np
import pytest
import tensorflow as tf

from tfsac.algorithms.squashed_gaussian import sample_with_log_prob, squashed_gaussian
from tfsac.policy import LOG_STD_MAX, LOG_STD_MIN


@pytest.fixture(params=["eager", "compiled"])
def run(request):
    """Calls a function on float32 tensors, as it is or inside a tf.function; answers in numpy."""

    def call(function, *arguments):
        compiled = tf.function(function) if request.param == "compiled" else function
        results = compiled(*[tf.constant(x, tf.float32) for x in arguments])
        return tf.nest.map_structure(lambda x: x.numpy(), results)

    return call


def log_density(u, mu, log_std):
    """log pi(tanh(u)), float64: [B, A] -> [B]; 2018b, appendix C, with log(1 - tanh^2 u) free of cancellation."""
    u, mu, log_std = (np.asarray(x, np.float64) for x in (u, mu, log_std))
    log_normal = -0.5 * ((u - mu) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    log_slope = np.log(4) - 2 * np.logaddexp(u, -u)  # 1 - tanh^2 u = 4 / (e^u + e^-u)^2
    return np.sum(log_normal - log_slope, axis=-1)


def ordinary():
    """mu, log_std, noise of 64 states and three action dimensions, none of them saturated."""
    rng = np.random.default_rng(0)
    mu, log_std, noise = rng.normal(size=[3, 64, 3]).astype(np.float32)
    return mu, log_std - 1, noise.clip(-1.5, 1.5)


def test_sample_is_tanh_of_the_gaussian(run):
    mu, log_std, noise = ordinary()
    action, _ = run(sample_with_log_prob, mu, log_std, noise)
    np.testing.assert_allclose(action, np.tanh(mu + np.exp(log_std) * noise), rtol=1e-5, atol=1e-6)


def test_log_prob_of_a_sample(run):
    mu, log_std, noise = ordinary()
    _, log_prob = run(sample_with_log_prob, mu, log_std, noise)
    assert log_prob.shape == (64,)  # summed over the action's dimensions
    expected = log_density(mu + np.exp(log_std) * noise, mu, log_std)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-5)


def test_log_prob_of_a_given_action(run):
    mu, log_std, _ = ordinary()
    action = np.random.default_rng(1).uniform(-0.9, 0.9, mu.shape).astype(np.float32)
    log_prob = run(lambda mu, log_std, a: squashed_gaussian(mu, log_std).log_prob(a), mu, log_std, action)
    assert log_prob.shape == (64,)
    expected = log_density(np.arctanh(np.float64(action)), mu, log_std)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)


def test_log_prob_is_the_distributions_own(run):
    mu, log_std, noise = ordinary()
    action, log_prob = run(sample_with_log_prob, mu, log_std, noise)
    own = run(lambda mu, log_std, a: squashed_gaussian(mu, log_std).log_prob(a), mu, log_std, action)
    unsaturated = np.all(np.abs(action) < 0.99, axis=1)  # elsewhere float32 cannot invert the tanh
    assert unsaturated.sum() > 32
    np.testing.assert_allclose(log_prob[unsaturated], own[unsaturated], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mu, std", [(0.0, 0.3), (0.7, 0.5), (-0.5, 1.0), (1.0, 0.2)])
def test_integrates_to_one_in_one_dimension(mu, std):
    action, width = np.polynomial.legendre.leggauss(200)
    pi = squashed_gaussian(tf.constant([mu]), tf.math.log([std]))
    density = np.exp(pi.log_prob(action[:, None].astype(np.float32)))
    assert np.sum(width * density) == pytest.approx(1.0, abs=1e-4)


def test_integrates_to_one_in_two_dimensions():
    node, width = np.polynomial.legendre.leggauss(100)
    action = np.stack(np.meshgrid(node, node), axis=-1)  # [100, 100, 2]
    pi = squashed_gaussian(tf.constant([0.5, -0.2]), tf.math.log([0.4, 0.9]))
    density = np.exp(pi.log_prob(action.astype(np.float32)))
    assert np.sum(width[:, None] * width * density) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("log_std", [LOG_STD_MIN, LOG_STD_MAX])
@pytest.mark.parametrize("u", [-20.0, 20.0])
@pytest.mark.parametrize("by", ["mu", "noise"])
def test_finite_where_saturated(run, u, log_std, by):
    """At |u| = 20, 1 - tanh^2 u is 2e-17: in float32 the action is 1 and the textbook formula log(0)."""
    if by == "mu":
        mu, noise = u, 0.0
    else:
        mu, noise = 0.0, u / np.exp(log_std)

    def value_and_gradients(mu, log_std, noise):
        with tf.GradientTape() as tape:
            tape.watch([mu, log_std])
            action, log_prob = sample_with_log_prob(mu, log_std, noise)
            both = tf.reduce_sum(action) + tf.reduce_sum(log_prob)
        return action, log_prob, *tape.gradient(both, [mu, log_std])

    action, log_prob, d_mu, d_log_std = run(value_and_gradients, [[mu]], [[log_std]], [[noise]])
    assert action == np.sign(u)
    assert log_prob == pytest.approx(log_density([[u]], [[mu]], [[log_std]]), rel=1e-5)
    # at a fixed eps: d log pi / du = 2 tanh u, du / dlog_std = exp(log_std) eps, and -1 of the normaliser
    assert d_mu == pytest.approx(2 * np.sign(u))
    assert d_log_std == pytest.approx(2 * np.sign(u) * np.exp(log_std) * noise - 1)


def test_eager_and_compiled_agree():
    mu, log_std, noise = (tf.constant(x) for x in ordinary())
    for eager, compiled in zip(
        sample_with_log_prob(mu, log_std, noise),
        tf.function(sample_with_log_prob)(mu, log_std, noise),
        strict=True,
    ):
        np.testing.assert_allclose(eager, compiled, rtol=1e-5, atol=1e-6)


def test_moments_against_monte_carlo():
    """Mean and variance of the action, and the entropy: quadrature in u against samples through the code."""
    mu, std, count = 0.4, 0.6, 200_000
    node, width = np.polynomial.hermite_e.hermegauss(100)
    u, weight = mu + std * node, width / np.sqrt(2 * np.pi)
    mean = np.sum(weight * np.tanh(u))
    variance = np.sum(weight * (np.tanh(u) - mean) ** 2)
    entropy = -np.sum(weight * log_density(u[:, None], [mu], [np.log(std)]))

    noise = np.random.default_rng(0).normal(size=[count, 1]).astype(np.float32)
    mu, log_std = tf.fill([count, 1], np.float32(mu)), tf.fill([count, 1], np.float32(np.log(std)))
    action, log_prob = sample_with_log_prob(mu, log_std, noise)
    # five standard errors: the spreads are 0.4, 0.2 and 0.8, over the square root of 200,000
    assert np.mean(action) == pytest.approx(mean, abs=0.005)
    assert np.var(action) == pytest.approx(variance, abs=0.0025)
    assert -np.mean(log_prob) == pytest.approx(entropy, abs=0.01)
