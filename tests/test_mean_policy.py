"""The mean of the latest policies, which evaluations and exports of `crossq` take, and of `sac` if it is told to."""

import copy

import numpy as np
import oracle
import pytest
from agents import as_rows, update

import tfsac
from tfsac.algorithms.crossq import CrossQ
from tfsac.algorithms.sac import SAC
from tfsac.run import checkpoint

O, A = 3, 2  # noqa: E741 (the sizes' names everywhere)
SIZES = dict(policy_hidden_units=(8, 7), critic_hidden_units=(6, 5))
RATES = {f"{x}_learning_rate": 0.02 for x in ("policy", "q", "alpha")}
MEAN = {SAC: {"mean_is_deployed": True}, CrossQ: {}}  # the settings with which an algorithm deploys the mean

both_algorithms = pytest.mark.parametrize("algorithm", MEAN)


def rows():
    """A batch of sixteen, [1, 16, 2 O + A + 2]."""
    return as_rows(oracle.random_batch(np.random.default_rng(0), [1, 16], O, A))


def weights_of(network):
    return np.concatenate([x.numpy().ravel() for x in network.variables])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@both_algorithms
def test_the_mean_moves_by_the_hundredth_part_of_the_steps(algorithm, compiled):
    """Far from the policy, after 900 steps: step 901 takes it 100 / 1000 of the way, 902 100 / 1001, 903 100 / 1002."""
    agent = algorithm(O, A, seed=5, **SIZES, **RATES, **MEAN[algorithm])
    agent.gradient_steps.assign(900)
    for x in agent.mean_policy.variables:
        x.assign(x + 10.0)
    expected = weights_of(agent.mean_policy).astype(np.float64)
    for parts in (1000, 1001, 1002):
        agent.update(rows()) if compiled else update(agent, rows())
        expected += (weights_of(agent.policy) - expected) * 100 / parts
    np.testing.assert_allclose(weights_of(agent.mean_policy), expected, rtol=0, atol=1e-5)
    mean, last = agent.deployed_policy(), agent.behaviour_policy()
    np.testing.assert_array_equal(mean.mu.kernel, agent.mean_policy.get_layer("mu").kernel)
    np.testing.assert_array_equal(last.mu.kernel, agent.policy.get_layer("mu").kernel)


@both_algorithms
def test_the_mean_begins_as_the_policy_and_forgets_it_in_the_first_step(algorithm):
    agent = algorithm(O, A, seed=5, **SIZES, **RATES, **MEAN[algorithm])
    first = weights_of(agent.policy)
    np.testing.assert_array_equal(weights_of(agent.mean_policy), first)
    update(agent, rows())
    np.testing.assert_allclose(weights_of(agent.mean_policy), weights_of(agent.policy), rtol=0, atol=1e-6)
    assert not np.allclose(weights_of(agent.policy), first, rtol=0, atol=1e-3)


def test_sac_learns_the_same_whichever_policy_it_deploys():
    """And has its last one deployed, and nothing more in its state, unless it is told."""
    usual, mean = (SAC(O, A, seed=5, **SIZES, **RATES, mean_is_deployed=x) for x in (False, True))
    for _ in range(3):
        update(usual, rows()), update(mean, rows())
    expected, state = usual.get_state(), mean.get_state()
    assert {name.split("/")[0] for name in state.keys() - expected.keys()} == {"mean_policy"}
    for name, x in expected.items():
        np.testing.assert_array_equal(state[name], x, err_msg=name)
    np.testing.assert_array_equal(usual.deployed_policy().mu.kernel, usual.behaviour_policy().mu.kernel)
    assert np.any(mean.deployed_policy().mu.kernel != mean.behaviour_policy().mu.kernel)


@pytest.mark.parametrize("agent_class", [tfsac.SAC, tfsac.CrossQ])
def test_the_last_policy_acts_in_training_and_the_mean_elsewhere(tmp_path, agent_class):
    """Also after a load, and in a run that begins with this one's networks."""
    settings = dict(start_steps=8, batch_size=8, **SIZES)
    settings |= MEAN[SAC if agent_class is tfsac.SAC else CrossQ]
    first = agent_class("Pendulum-v1", **settings)
    first.fit(150, progress=False)
    first.save(tmp_path / "first")
    saved = checkpoint.restore(tmp_path / "first" / "checkpoints").policy
    begun = agent_class("Pendulum-v1", init_from=str(tmp_path / "first"), **settings)
    for agent in (first, tfsac.load(tmp_path / "first"), begun):
        networks, size = agent._loop.agent, len(agent._loop.replay)
        mean, last = networks.deployed_policy(), networks.behaviour_policy()
        for x, y in zip(agent.policy.arrays().values(), saved.arrays().values(), strict=True):
            np.testing.assert_array_equal(x, y)
        noise = copy.deepcopy(agent._loop._behaviour.rng).standard_normal([1], np.float32)
        agent.fit(1, progress=False)
        ((*observation, action),) = agent._loop.replay.rows(size, size + 1)[:, :4]
        np.testing.assert_allclose(action, last.sample(np.float32(observation), noise), rtol=1e-5)
        assert not np.allclose(action, mean.sample(np.float32(observation), noise), rtol=1e-3)
        agent.fit(7, progress=False)  # the block's end, after which both have moved
        np.testing.assert_array_equal(agent.policy.mu.kernel, networks.mean_policy.get_layer("mu").kernel)
        assert np.any(agent.policy.mu.kernel != mean.mu.kernel)  # not all: a ReLU may be dead
