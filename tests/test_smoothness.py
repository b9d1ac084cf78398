"""`smoothness` in the policy's loss, against numbers by hand and against finite differences in float64."""

import numpy as np
import oracle
import pytest
import tensorflow as tf
from agents import first_noise, gradients, step

from tfsac.algorithms import losses
from tfsac.algorithms.crossq import CrossQ
from tfsac.algorithms.sac import SAC
from tfsac.algorithms.sac_v1 import SACv1

O, A, B = 3, 2, 16  # noqa: E741 (the sizes' names everywhere)
SIZES = dict(policy_hidden_units=(8, 7), critic_hidden_units=(6, 5))


def test_roughness_by_hand():
    # squared distances 0.25 + 1 and 4 + 0; the second one ends the episode: 1.25 / 2
    mean, next_mean = tf.constant([[0.5, 0.0], [1.0, 1.0]]), tf.constant([[0.0, 1.0], [-1.0, 1.0]])
    assert float(losses.roughness(mean, next_mean, tf.constant([0.0, 1.0]))) == 0.625
    assert float(losses.roughness(mean, next_mean, tf.constant([0.0, 0.0]))) == 2.625


def test_roughness_refuses_unlike_shapes():
    with pytest.raises(ValueError):
        losses.roughness(tf.zeros([4, 2]), tf.zeros([4, 1]), tf.zeros([4]))
    with pytest.raises(ValueError):
        losses.roughness(tf.zeros([4, 2]), tf.zeros([4, 2]), tf.zeros([4, 1]))


def start(agent):
    rng = np.random.default_rng(1)
    weights = oracle.random_network(rng, "policy", O, SIZES["policy_hidden_units"], mu=A, log_std=A)
    agent.set_state(agent.get_state() | weights)
    return weights, oracle.random_batch(rng, [B], O, A), first_noise(agent, B).numpy()


def roughness(weights, batch):
    """The same in float64 numpy."""

    def mean(x):
        for layer in ("hidden_0", "hidden_1"):
            x = np.maximum(x @ weights[f"policy/{layer}/kernel"] + weights[f"policy/{layer}/bias"], 0)
        return np.tanh(x @ weights["policy/mu/kernel"] + weights["policy/mu/bias"])

    observation, _, _, next_observation, terminated = (np.float64(x) for x in batch)
    moved = np.sum((mean(next_observation) - mean(observation)) ** 2, axis=-1)
    return np.mean((1 - terminated) * moved)


@pytest.mark.parametrize("algorithm", [SAC, SACv1, CrossQ])
def test_the_policys_gradient_gains_that_of_roughness_and_no_other_changes(algorithm):
    plain, smooth = (algorithm(O, A, seed=5, **SIZES, smoothness=x) for x in (0.0, 3.0))
    weights, batch, noise = start(plain)
    start(smooth)
    assert 0 < np.sum(batch[4]) < B  # some transitions end their episodes
    usual, turned = step(plain, batch, noise), step(smooth, batch, noise)
    weights = {name: np.float64(x) for name, x in weights.items()}
    assert turned.pop("roughness") == pytest.approx(roughness(weights, batch), rel=1e-5)
    assert turned.keys() == usual.keys() and turned["policy_loss"] == usual["policy_loss"]
    before, after = gradients(plain), gradients(smooth)
    measure = np.float32(0.1 / (1 - algorithm.beta_1))  # `gradients` takes Adam's m for a tenth of a gradient
    before, after = ({name: measure * x for name, x in found.items()} for found in (before, after))
    for name, x in before.items():
        difference = after[name] - x
        if not name.startswith("policy/"):
            np.testing.assert_array_equal(difference, 0)
            continue
        expected = np.zeros(x.shape)
        for place in np.ndindex(x.shape):
            sides = []
            for small in (-1e-6, 1e-6):
                moved = weights[name].copy()
                moved[place] += small
                sides.append(roughness(weights | {name: moved}, batch))
            expected[place] = 3 * (sides[1] - sides[0]) / 2e-6
        assert np.abs(expected).max() > 1e-2 or "log_std" in name
        np.testing.assert_allclose(difference, expected, atol=3e-5 * max(np.abs(x).max(), 1), err_msg=name)


def test_it_is_off_unless_it_is_set():
    agents = [SAC(O, A, seed=5, **SIZES, **settings) for settings in ({}, {"smoothness": 0.0})]
    states = []
    for agent in agents:
        _, batch, noise = start(agent)
        assert "roughness" not in step(agent, batch, noise)
        states.append(agent.get_state())
    for name, x in states[0].items():
        np.testing.assert_array_equal(states[1][name], x)
