"""What the tests of the agents share: one gradient step, its gradients by name, the comparison with the oracle."""

from unittest import mock

import numpy as np
import tensorflow as tf

from tfsac.algorithms.adam import Adam
from tfsac.algorithms.agent import Agent
from tfsac.data.replay import Transition


def as_rows(batches):
    """Transitions, a tuple of arrays [..., O], [..., A], [...], [..., O], [...], as rows of the replay, float32."""
    observation, action, reward, next_observation, terminated = batches
    columns = observation, action, reward[..., None], next_observation, terminated[..., None]
    return np.concatenate(columns, axis=-1, dtype=np.float32)


def first_noise(agent, batch_size):
    """The noise of the first compiled gradient step, [2, B, A]: a function of the seed and of the step's number."""
    return tf.random.stateless_normal([2, batch_size, agent.action_dim], [agent.seed, 0])


def step(agent, batch, noise):
    """One eager gradient step on a tuple of arrays; its metrics in numpy."""
    metrics = agent.gradient_step(Transition(*map(tf.constant, batch)), tf.constant(noise))
    return {name: x.numpy() for name, x in metrics.items()}


def update(agent, rows):
    """`Agent.update` without compiling, which takes seconds, where few steps, of a tenth of one each, are enough."""
    with (
        mock.patch.object(Agent, "_compile", lambda agent, _: lambda rows: agent._update(tf.constant(rows))),
        mock.patch.object(agent, "_compiled", {}),  # what it has compiled stays for other tests
    ):
        return agent.update(rows)


def gradients(agent):
    """Of the first gradient step, by the variable's name: Adam's m is then (1 - 0.9) times the gradient."""
    names = {id(variable): name for name, variable in agent.variables().items()}
    optimizers = [part for part in vars(agent).values() if isinstance(part, Adam)]
    pairs = [pair for optimizer in optimizers for pair in zip(optimizer.variables, optimizer.m, strict=True)]
    return {names[id(x)]: m.numpy() / np.float32(0.1) for x, m in pairs}


def assert_update_is(agent, metrics, expected):
    """Holds the agent, one gradient step old, to the oracle's metrics, gradients and new weights.

    Float32 reaches 1e-5 of the largest entry of each array.
    """
    expected_metrics, expected_gradients, expected_weights = expected
    assert metrics.keys() == expected_metrics.keys()
    for name, x in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], x, rtol=1e-5, err_msg=name)

    found = gradients(agent)
    assert found.keys() == expected_gradients.keys()
    for name, x in expected_gradients.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-5, atol=1e-5 * np.abs(x).max(), err_msg=name)

    state = agent.get_state()
    for name, x in expected_weights.items():
        # a smaller gradient is all rounding, of which Adam's first step makes a whole learning rate
        sure = np.abs(expected_gradients[name.replace("_target", "")]) > 1e-6
        assert np.any(sure), name
        np.testing.assert_allclose(state[name][sure], x[sure], rtol=1e-5, atol=1e-6, err_msg=name)
