"""The oracle's hand-written gradients against finite differences; its own numbers against arithmetic."""

import numpy as np
import oracle
import pytest

OBSERVATION_DIM, ACTION_DIM, BATCH = 3, 2, 5


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    found = oracle.random_network(rng, "policy", OBSERVATION_DIM, (5, 4), mu=ACTION_DIM, log_std=ACTION_DIM)
    found["policy/log_std/bias"][:] = 2.5, 0.0  # some of the first dimension lie beyond the bound of 2
    for network in ("q1", "q2"):
        found |= oracle.random_network(rng, network, OBSERVATION_DIM + ACTION_DIM, (4, 3), output=1)
    found |= {"log_alpha": np.float32(-0.5)}
    return {name: x.astype(np.float64) for name, x in found.items()}


def losses(weights):
    """Every loss with its gradients, of one and the same weights."""
    rng = np.random.default_rng(1)
    observation, noise = rng.normal(size=[BATCH, OBSERVATION_DIM]), rng.normal(size=[BATCH, ACTION_DIM])
    x, target = rng.normal(size=[BATCH, OBSERVATION_DIM + ACTION_DIM]), rng.normal(size=BATCH)
    return {
        "critic": oracle.critic_loss(weights, "q1", x, target),
        "policy": oracle.policy_loss(weights, observation, noise, alpha=0.7),
        "alpha": oracle.alpha_loss(weights["log_alpha"], target, target_entropy=-2.0),
    }


@pytest.mark.parametrize("name", ["critic", "policy", "alpha"])
def test_gradients_are_the_finite_differences(weights, name):
    h = 1e-6
    gradients = losses(weights)[name][1]
    for path, gradient in gradients.items():
        for index in np.ndindex(gradient.shape):
            step = np.zeros(gradient.shape)
            step[index] = h
            above = losses(weights | {path: weights[path] + step})[name][0]
            below = losses(weights | {path: weights[path] - step})[name][0]
            assert gradient[index] == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-8), (path, index)


def test_the_finite_differences_meet_the_clip_and_both_critics(weights):
    """Else the test above would not see a gradient through the bound, or through the larger Q."""
    rng = np.random.default_rng(1)
    observation, noise = rng.normal(size=[BATCH, OBSERVATION_DIM]), rng.normal(size=[BATCH, ACTION_DIM])
    features = oracle._hidden(weights, "policy", observation)[-1]
    beyond = oracle._dense(weights, "policy/log_std", features) > oracle.LOG_STD_MAX
    assert beyond.any() and not beyond.all()
    x = np.concatenate([observation, oracle.policy(weights, observation, noise)[0]], axis=1)
    first = oracle.value(weights, "q1", x) < oracle.value(weights, "q2", x)
    assert first.any() and not first.all()


def test_squashed_log_density_at_zero():
    # u = mu = 0, std = 1/2: log N = -log(1/2) - log(2 pi) / 2, and log(1 - tanh^2 0) = 0
    expected = np.log(2) - 0.5 * np.log(2 * np.pi)
    assert oracle.squashed_log_density(0.0, 0.0, np.log(0.5)) == pytest.approx(expected, rel=1e-12)


def test_first_adam_step_moves_by_the_learning_rate():
    # m = 0.1 g, v = 0.001 g^2, rate = lr sqrt(0.001) / 0.1: the step is lr g / |g|, but for epsilon
    x, m, v = oracle.adam(1.0, -4.0, 0.0, 0.0, 1, learning_rate=0.25)
    assert (x, m, v) == pytest.approx((1.25, -0.4, 0.016), rel=1e-6)


@pytest.mark.parametrize("state", [0, 1])
def test_soft_mdp_solves_its_bellman_equation(state):
    """V(s) = alpha log integral exp(Q(s, a) / alpha) da, by quadrature."""
    action, width = np.polynomial.legendre.leggauss(400)
    q = oracle.soft_mdp_q(np.full(400, state), action)
    v = oracle.SOFT_MDP_ALPHA * np.log(np.sum(width * np.exp(q / oracle.SOFT_MDP_ALPHA)))
    assert v == pytest.approx(oracle.soft_mdp_v(state), rel=1e-6)
