"""SACv1: one whole update against the float64 oracle, the report's policy gradient, and problems with known soft Q."""

import numpy as np
import oracle
import pytest
import tensorflow as tf
from agents import as_rows, assert_update_is, first_noise, gradients, step

from tfsac.algorithms.sac import SAC
from tfsac.algorithms.sac_v1 import SACv1
from tfsac.algorithms.squashed_gaussian import sample_with_log_prob, squashed_gaussian

O, A, B = 3, 2, 16  # noqa: E741 (the sizes' names everywhere)
SIZES = dict(policy_hidden_units=(8, 7), critic_hidden_units=(6, 5))
# 2018a, appendix D
PAPER = dict(
    discount=0.99,
    tau=0.005,
    reward_scale=5.0,
    v_learning_rate=3e-4,
    q_learning_rate=3e-4,
    policy_learning_rate=3e-4,
)
OTHER = dict(
    discount=0.8,
    tau=0.3,
    reward_scale=2.0,
    v_learning_rate=0.01,
    q_learning_rate=0.02,
    policy_learning_rate=0.03,
)


def start(agent):
    """Gives the agent random weights, the target unlike V; returns them with a batch and the first noise."""
    rng = np.random.default_rng(1)
    weights = oracle.random_network(rng, "policy", O, SIZES["policy_hidden_units"], mu=A, log_std=A)
    weights["policy/log_std/bias"][0] += 2  # some of the log_std lie beyond their bound
    for network, inputs in {"q1": O + A, "q2": O + A, "v": O, "v_target": O}.items():
        weights |= oracle.random_network(rng, network, inputs, SIZES["critic_hidden_units"], output=1)
    agent.set_state(agent.get_state() | weights)
    return weights, oracle.random_batch(rng, [B], O, A), first_noise(agent, B).numpy()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_one_update_is_the_oracles(compiled):
    agent = SACv1(O, A, seed=5, **SIZES, **OTHER)
    weights, batch, noise = start(agent)
    if compiled:
        metrics = {name: x[0] for name, x in agent.update(as_rows(batch)[None]).items()}
    else:
        metrics = step(agent, batch, noise)
    assert_update_is(agent, metrics, oracle.sac_v1_update(weights, batch, noise, **OTHER))


def test_defaults_are_the_papers():
    agent = SACv1(O, A, seed=5, **SIZES)
    problem = start(agent)
    assert_update_is(agent, step(agent, *problem[1:]), oracle.sac_v1_update(*problem, **PAPER))


@pytest.mark.parametrize("name", PAPER)
def test_every_setting_counts(name):
    """Turned alone, it changes what the oracle expects, a hundred times beyond the tolerance; the agent follows."""
    agent = SACv1(O, A, seed=5, **SIZES, **{name: OTHER[name]})
    problem = start(agent)
    usual, turned = (oracle.sac_v1_update(*problem, **s) for s in (PAPER, PAPER | {name: OTHER[name]}))
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
        ({"v_learning_rate": 0.0}, {"v"}),  # its target still draws nearer
        ({"q_learning_rate": 0.0}, {"q1", "q2"}),
        ({"policy_learning_rate": 0.0}, {"policy"}),
        ({"tau": 0.0}, {"v_target"}),
    ],
)
def test_who_moves(settings, still):
    """Every variable of a network moves or none does, and those that stand still keep every bit."""
    agent = SACv1(O, A, seed=0, **SIZES, **OTHER | settings)
    _, batch, noise = start(agent)
    before = agent.get_state()
    step(agent, batch, noise)
    after = agent.get_state()
    for name in before:
        network = name.split("/")[0]
        if network in ("policy", "q1", "q2", "v", "v_target"):
            assert np.array_equal(before[name], after[name]) == (network in still), name


def test_target_moves_by_polyak_alone():
    """tau of the way to V as it is after its step."""
    agent = SACv1(O, A, seed=0, **SIZES, **OTHER)
    _, batch, noise = start(agent)
    before = agent.get_state()
    step(agent, batch, noise)
    after = agent.get_state()
    for name in after:
        if name.startswith("v_target/"):
            online = after[name.replace("_target", "")]
            np.testing.assert_allclose(after[name], 0.3 * online + 0.7 * before[name], rtol=1e-6, atol=1e-7)


def test_target_starts_equal_and_critics_apart():
    state = SACv1(O, A, seed=0, **SIZES).get_state()
    for name, x in state.items():
        if name.startswith("v/"):
            np.testing.assert_array_equal(x, state[name.replace("v/", "v_target/")])
        if name.startswith("q1/") and name.endswith("kernel"):
            assert not np.array_equal(x, state[name.replace("q1", "q2")])


def test_policy_gradient_is_the_reports():
    """grad_phi log pi(a|s) + (grad_a log pi(a|s) - grad_a Q(s, a)) grad_phi f_phi(eps; s), each factor by itself.

    In the first term a is held fixed while phi moves; the tape, which sees one function of phi, must give the sum.
    """
    agent = SACv1(O, A, seed=0, **SIZES, **OTHER | {"q_learning_rate": 0.0})  # Q stays as it is
    _, batch, noise = start(agent)
    for x in agent.policy.get_layer("log_std").variables:
        x.assign(0.2 * x)  # no saturated action: log pi(a|s) has to find its way back through the tanh
    observation, phi = tf.constant(batch[0]), [x.value for x in agent.policy.variables]

    with tf.GradientTape() as tape:
        action, _ = sample_with_log_prob(*agent.policy(observation), noise[1])
    grad_phi_f = tape.jacobian(action, phi)  # [B, A, ...]
    action = tf.constant(action.numpy())  # a new tensor: TFP remembers where the other one came from
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(action)
        log_prob = squashed_gaussian(*agent.policy(observation)).log_prob(action)  # [B]
        q = tf.minimum(agent.q1([observation, action]), agent.q2([observation, action]))  # [B]
        mean_log_prob = tf.reduce_mean(log_prob)
    grad_phi_log_prob = tape.gradient(mean_log_prob, phi)
    grad_a = tape.gradient(log_prob, action) - tape.gradient(q, action)  # [B, A]

    step(agent, batch, noise)
    found = gradients(agent)
    for x, direct, jacobian in zip(agent.policy.variables, grad_phi_log_prob, grad_phi_f, strict=True):
        expected = direct + tf.tensordot(grad_a / B, jacobian, axes=[[0, 1], [0, 1]])
        np.testing.assert_allclose(
            found[f"policy/{x.path}"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=x.path
        )


def test_reward_scale_c_is_alpha_one_over_c():
    """With all values c times as large, the policy's gradient is c times that of SAC at alpha = 1 / c."""
    c = 5.0
    v1 = SACv1(O, A, seed=0, **SIZES, reward_scale=c, q_learning_rate=0.0)
    weights, batch, noise = start(v1)
    sac = SAC(O, A, seed=0, **SIZES, initial_alpha=1 / c, alpha_learning_rate=0.0, q_learning_rate=0.0)
    sac.set_state(sac.get_state() | {name: x for name, x in weights.items() if not name.startswith("v")})
    for q in v1.q1, v1.q2:
        for x in q.get_layer("output").variables:
            x.assign(c * x)

    v1_metrics, sac_metrics = step(v1, batch, noise), step(sac, batch, noise)
    assert v1_metrics["policy_loss"] == pytest.approx(c * sac_metrics["policy_loss"], rel=1e-5)
    assert v1_metrics["alpha"] == pytest.approx(sac_metrics["alpha"])
    found, of_sac = gradients(v1), gradients(sac)
    for name in of_sac:
        if name.startswith("policy/"):
            x = c * of_sac[name]
            np.testing.assert_allclose(found[name], x, rtol=1e-5, atol=1e-5 * np.abs(x).max(), err_msg=name)


def test_two_state_problem_reaches_its_soft_optimum():
    """oracle.py derives it; with a reward scale of 1 / alpha, all values are 1 / alpha times as large."""
    scale = 1 / oracle.SOFT_MDP_ALPHA
    agent = SACv1(
        observation_dim=2,
        action_dim=1,
        seed=0,
        discount=oracle.SOFT_MDP_DISCOUNT,
        tau=0.05,
        reward_scale=scale,
        policy_hidden_units=(16,),
        critic_hidden_units=(32, 32),
        v_learning_rate=3e-3,
        q_learning_rate=3e-3,
        policy_learning_rate=3e-3,
    )
    rng = np.random.default_rng(0)
    for _ in range(10):
        agent.update(as_rows(oracle.soft_mdp_batch(rng, [100, 64])))

    state, action = np.meshgrid([0, 1], np.linspace(-0.7, 0.7, 8))
    inputs = oracle.soft_mdp_observation(state.ravel()), action.reshape(-1, 1).astype(np.float32)
    for q in agent.q1, agent.q2:
        np.testing.assert_allclose(q(inputs) / scale, oracle.soft_mdp_q(state, action).ravel(), atol=0.15)
    both = np.array([0, 1])
    np.testing.assert_allclose(agent.v(oracle.soft_mdp_observation(both)) / scale, oracle.soft_mdp_v(both), atol=0.15)
    mu, log_std = agent.policy(oracle.soft_mdp_observation(both))
    np.testing.assert_allclose(mu[:, 0], oracle.SOFT_MDP_MU, atol=0.15)
    np.testing.assert_allclose(log_std[:, 0], oracle.SOFT_MDP_LOG_STD, atol=0.15)


def test_time_limit_is_no_end():
    """The same reward for ever. With a policy of entropy H that stays as it is, V = Q + H and Q = c r + gamma V.

    An episode cut off by a time limit has terminated = 0, so Q = (c r + gamma H) / (1 - gamma), which is c times
    r / (1 - gamma) but for the entropy; a terminal state makes it c r.
    """
    reward, discount, c = 0.75, 0.5, 2.0
    agent = SACv1(
        observation_dim=1,
        action_dim=1,
        seed=0,
        discount=discount,
        tau=0.2,
        reward_scale=c,
        policy_hidden_units=(4,),
        critic_hidden_units=(16,),
        v_learning_rate=0.03,  # of the observation 0, V sees only the bias of its last layer
        q_learning_rate=0.01,
        policy_learning_rate=0.0,
    )
    # a fresh network answers the observation 0 with mu = log_std = 0, since its biases are zero
    node, width = np.polynomial.hermite_e.hermegauss(100)
    entropy = -np.sum(width * oracle.squashed_log_density(node, 0.0, 0.0)) / np.sqrt(2 * np.pi)

    rng, k, b = np.random.default_rng(0), 500, 32
    first = agent.get_state()
    for terminated, expected in [(0.0, (c * reward + discount * entropy) / (1 - discount)), (1.0, c * reward)]:
        agent.set_state(first)
        zero, action = np.zeros([k, b, 1], "f"), rng.uniform(-1, 1, [k, b, 1]).astype("f")
        agent.update(as_rows((zero, action, np.full([k, b], reward), zero, np.full([k, b], terminated))))
        for q in agent.q1, agent.q2:
            np.testing.assert_allclose(q([np.zeros([9, 1]), np.linspace(-0.9, 0.9, 9)[:, None]]), expected, atol=0.05)
