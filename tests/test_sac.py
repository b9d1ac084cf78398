"""SAC: one whole update against the float64 oracle, who moves in it, and problems whose soft Q is known."""

import numpy as np
import oracle
import pytest
from agents import as_rows, assert_update_is, first_noise, step

from tfsac.algorithms.sac import SAC

O, A, B = 3, 2, 16  # noqa: E741 (the sizes' names everywhere)
SIZES = dict(policy_hidden_units=(8, 7), critic_hidden_units=(6, 5))
# 2018b, table 1 and appendix D; the temperature starts at 1
PAPER = dict(
    discount=0.99,
    tau=0.005,
    policy_learning_rate=3e-4,
    q_learning_rate=3e-4,
    alpha_learning_rate=3e-4,
    target_entropy=-A,
    initial_alpha=1.0,
)
OTHER = dict(
    discount=0.8,
    tau=0.3,
    policy_learning_rate=0.01,
    q_learning_rate=0.02,
    alpha_learning_rate=0.03,
    target_entropy=-0.7,
    initial_alpha=0.4,
)


def start(agent):
    """Gives the agent random weights, targets unlike the critics; returns them with a batch and the first noise."""
    rng = np.random.default_rng(1)
    weights = oracle.random_network(rng, "policy", O, SIZES["policy_hidden_units"], mu=A, log_std=A)
    weights["policy/log_std/bias"][0] += 2  # some of the log_std lie beyond their bound
    for network in ("q1", "q2", "q1_target", "q2_target"):
        weights |= oracle.random_network(rng, network, O + A, SIZES["critic_hidden_units"], output=1)
    agent.set_state(agent.get_state() | weights)
    return weights, oracle.random_batch(rng, [B], O, A), first_noise(agent, B).numpy()


def expected_update(weights, batch, noise, initial_alpha, **settings):
    return oracle.sac_update(weights | {"log_alpha": np.log(initial_alpha)}, batch, noise, **settings)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_one_update_is_the_oracles(compiled):
    agent = SAC(O, A, seed=5, **SIZES, **OTHER)
    weights, batch, noise = start(agent)
    if compiled:
        metrics = {name: x[0] for name, x in agent.update(as_rows(batch)[None]).items()}
    else:
        metrics = step(agent, batch, noise)
    assert_update_is(agent, metrics, expected_update(weights, batch, noise, **OTHER))


def test_defaults_are_the_papers():
    agent = SAC(O, A, seed=5, **SIZES)
    problem = start(agent)
    assert_update_is(agent, step(agent, *problem[1:]), expected_update(*problem, **PAPER))


@pytest.mark.parametrize("name", PAPER)
def test_every_setting_counts(name):
    """Turned alone, it changes what the oracle expects, a hundred times beyond the tolerance; the agent follows."""
    agent = SAC(O, A, seed=5, **SIZES, **{name: OTHER[name]})
    problem = start(agent)
    usual, turned = (expected_update(*problem, **s) for s in (PAPER, PAPER | {name: OTHER[name]}))
    assert any(
        np.abs(after[path] - before[path]).max() > 1e-3 * np.abs(before[path]).max()
        for before, after in zip(usual, turned, strict=True)  # metrics, gradients, weights
        for path in before
    )
    assert_update_is(agent, step(agent, *problem[1:]), turned)


@pytest.mark.parametrize(
    "settings, still",
    [
        ({}, set()),
        ({"q_learning_rate": 0.0}, {"q1", "q2"}),  # their targets still draw nearer
        ({"policy_learning_rate": 0.0}, {"policy"}),
        ({"alpha_learning_rate": 0.0}, {"log_alpha"}),  # a fixed temperature
        ({"tau": 0.0}, {"q1_target", "q2_target"}),
    ],
)
def test_who_moves(settings, still):
    """Every variable of a network moves or none does, and those that stand still keep every bit."""
    agent = SAC(O, A, seed=0, **SIZES, **OTHER | settings)
    _, batch, noise = start(agent)
    before = agent.get_state()
    step(agent, batch, noise)
    after = agent.get_state()
    for name in before:
        network = name.split("/")[0]
        if network in ("policy", "q1", "q2", "q1_target", "q2_target", "log_alpha"):
            assert np.array_equal(before[name], after[name]) == (network in still), name


def test_targets_move_by_polyak_alone():
    """tau of the way to the critics as they are after their step."""
    agent = SAC(O, A, seed=0, **SIZES, **OTHER)
    _, batch, noise = start(agent)
    before = agent.get_state()
    step(agent, batch, noise)
    after = agent.get_state()
    for name in after:
        if name.startswith(("q1_target/", "q2_target/")):
            online = after[name.replace("_target", "")]
            np.testing.assert_allclose(after[name], 0.3 * online + 0.7 * before[name], rtol=1e-6, atol=1e-7)


def test_targets_start_equal_and_critics_apart():
    state = SAC(O, A, seed=0, **SIZES).get_state()
    for name, x in state.items():
        if name.startswith("q1/"):
            np.testing.assert_array_equal(x, state[name.replace("q1", "q1_target")])
            np.testing.assert_array_equal(state[name.replace("q1", "q2")], state[name.replace("q1", "q2_target")])
            assert name.endswith("bias") or not np.array_equal(x, state[name.replace("q1", "q2")])


def test_two_state_problem_reaches_its_soft_optimum():
    """oracle.py derives it: both Q and the policy are known in closed form."""
    agent = SAC(
        observation_dim=2,
        action_dim=1,
        seed=0,
        discount=oracle.SOFT_MDP_DISCOUNT,
        tau=0.05,
        policy_hidden_units=(16,),
        critic_hidden_units=(32, 32),
        policy_learning_rate=3e-3,
        q_learning_rate=3e-3,
        alpha_learning_rate=0.0,
        initial_alpha=oracle.SOFT_MDP_ALPHA,
    )
    rng = np.random.default_rng(0)
    for _ in range(10):
        agent.update(as_rows(oracle.soft_mdp_batch(rng, [100, 64])))

    state, action = np.meshgrid([0, 1], np.linspace(-0.7, 0.7, 8))
    inputs = oracle.soft_mdp_observation(state.ravel()), action.reshape(-1, 1).astype(np.float32)
    for q in agent.q1, agent.q2:
        np.testing.assert_allclose(q(inputs), oracle.soft_mdp_q(state, action).ravel(), atol=0.15)
    mu, log_std = agent.policy(oracle.soft_mdp_observation(np.array([0, 1])))
    np.testing.assert_allclose(mu[:, 0], oracle.SOFT_MDP_MU, atol=0.15)
    np.testing.assert_allclose(log_std[:, 0], oracle.SOFT_MDP_LOG_STD, atol=0.15)


def test_time_limit_is_no_end():
    """The same reward for ever. With a policy of entropy H that stays as it is, Q = r + gamma (Q + alpha H).

    An episode cut off by a time limit has terminated = 0, so Q = (r + gamma alpha H) / (1 - gamma), which is
    r / (1 - gamma) but for the entropy; a terminal state makes it r.
    """
    reward, discount, alpha = 1.5, 0.5, 0.4
    agent = SAC(
        observation_dim=1,
        action_dim=1,
        seed=0,
        discount=discount,
        tau=0.2,
        policy_hidden_units=(4,),
        critic_hidden_units=(16,),
        policy_learning_rate=0.0,
        q_learning_rate=0.01,
        alpha_learning_rate=0.0,
        initial_alpha=alpha,
    )
    # a fresh network answers the observation 0 with mu = log_std = 0, since its biases are zero
    node, width = np.polynomial.hermite_e.hermegauss(100)
    entropy = -np.sum(width * oracle.squashed_log_density(node, 0.0, 0.0)) / np.sqrt(2 * np.pi)

    rng, k, b = np.random.default_rng(0), 400, 32
    first = agent.get_state()
    for terminated, expected in [(0.0, (reward + discount * alpha * entropy) / (1 - discount)), (1.0, reward)]:
        agent.set_state(first)
        zero, action = np.zeros([k, b, 1], "f"), rng.uniform(-1, 1, [k, b, 1]).astype("f")
        agent.update(as_rows((zero, action, np.full([k, b], reward), zero, np.full([k, b], terminated))))
        for q in agent.q1, agent.q2:
            np.testing.assert_allclose(q([np.zeros([9, 1]), np.linspace(-0.9, 0.9, 9)[:, None]]), expected, atol=0.05)
