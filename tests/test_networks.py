"""Shapes, seeds and sizes of the Keras models."""

import numpy as np
import pytest
import tensorflow as tf

from tfsac.algorithms.networks import policy_network, q_network, v_network
from tfsac.algorithms.sac import SAC
from tfsac.algorithms.sac_v1 import SACv1
from tfsac.policy import LOG_STD_MAX, LOG_STD_MIN

O, A = 4, 2  # noqa: E741 (the sizes' names everywhere)

BUILDERS = {
    "policy": lambda hidden_units, seed: policy_network(O, A, hidden_units, seed),
    "q": lambda hidden_units, seed: q_network(O, A, hidden_units, seed),
    "v": lambda hidden_units, seed: v_network(O, hidden_units, seed),
}


@pytest.mark.parametrize("batch_size", [1, 5])
def test_shapes(batch_size):
    observation, action = tf.zeros([batch_size, O]), tf.zeros([batch_size, A])
    mu, log_std = BUILDERS["policy"]((8,), 0)(observation)
    assert mu.shape == log_std.shape == [batch_size, A]
    assert BUILDERS["q"]((8,), 0)([observation, action]).shape == [batch_size]
    assert BUILDERS["v"]((8,), 0)(observation).shape == [batch_size]


@pytest.mark.parametrize("network", BUILDERS)
def test_equal_seeds_give_equal_weights(network):
    first, again, other = (BUILDERS[network]((8, 8), seed).get_weights() for seed in (3, 3, 4))
    for x, y in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, y)
    for x, y in zip(first, other, strict=True):
        assert x.ndim == 1 or not np.array_equal(x, y)  # biases start at zero


@pytest.mark.parametrize("network", BUILDERS)
def test_layers_of_one_network_differ(network):
    """One seed for two layers of one shape would make them twins."""
    kernels = [x for x in BUILDERS[network]((A, A, A), 0).get_weights() if x.shape == (A, A)]
    assert len(kernels) >= 2
    assert len({x.tobytes() for x in kernels}) == len(kernels)


@pytest.mark.parametrize("bias, bound", [(-100.0, LOG_STD_MIN), (100.0, LOG_STD_MAX)])
def test_log_std_is_clipped(bias, bound):
    network = BUILDERS["policy"]((8,), 0)
    network.get_layer("log_std").bias.assign([bias, 0.0])
    mu, log_std = network(tf.zeros([1, O]))
    np.testing.assert_array_equal(log_std, [[bound, 0.0]])
    np.testing.assert_array_equal(mu, [[0.0, 0.0]])  # mu is not


@pytest.mark.parametrize(
    "network, count",
    [
        # (inputs + 1 bias) * outputs, layer by layer
        ("policy", (4 + 1) * 8 + (8 + 1) * 6 + 2 * (6 + 1) * 2),
        ("q", (4 + 2 + 1) * 8 + (8 + 1) * 6 + (6 + 1) * 1),
        ("v", (4 + 1) * 8 + (8 + 1) * 6 + (6 + 1) * 1),
    ],
)
def test_parameter_counts(network, count):
    assert BUILDERS[network]((8, 6), 0).count_params() == count


def test_hidden_layers_are_relus():
    """With kernels of one and no biases, V of (x, 0, 0, 0) is relu(x)."""
    network = BUILDERS["v"]((1,), 0)
    network.set_weights([np.ones([O, 1]), np.zeros(1), np.ones([1, 1]), np.zeros(1)])
    observation = np.zeros([2, O], np.float32)
    observation[:, 0] = -3.0, 5.0
    np.testing.assert_array_equal(network(observation), [0.0, 5.0])


def test_q_uses_the_whole_of_both_inputs():
    network = BUILDERS["q"]((8, 8), 0)
    observation, action = tf.ones([1, O]), tf.ones([1, A])
    with tf.GradientTape() as tape:
        tape.watch([observation, action])
        q = network([observation, action])
    for gradient in tape.gradient(q, [observation, action]):
        assert np.all(gradient.numpy() != 0)


@pytest.mark.parametrize("algorithm, critics", [(SAC, ("q1", "q2")), (SACv1, ("q1", "q2", "v"))])
def test_hidden_units_are_256_twice_and_set_apart(algorithm, critics):
    def sizes(network):
        return [layer.units for layer in network.layers if layer.name.startswith("hidden_")]

    agent = algorithm(O, A, seed=0)
    assert [sizes(getattr(agent, name)) for name in ("policy", *critics)] == [[256, 256]] * (1 + len(critics))
    agent = algorithm(O, A, seed=0, policy_hidden_units=(8,), critic_hidden_units=(6, 5))
    assert sizes(agent.policy) == [8]
    for name in critics:
        assert sizes(getattr(agent, name)) == [6, 5]
