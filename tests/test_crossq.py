"""CrossQ: one whole update against a float64 oracle, modes, statistics, faults, problems whose soft Q is known."""

import crossq_oracle
import numpy as np
import oracle
import pytest
import tensorflow as tf
from agents import as_rows, first_noise, step, update

from tfsac.algorithms import losses
from tfsac.algorithms.crossq import CrossQ
from tfsac.algorithms.normalised_q import NormalisedDense, NormalisedQ
from tfsac.data.replay import Transition

O, A, B = 3, 2, 16  # noqa: E741 (the sizes' names everywhere)
SIZES = dict(policy_hidden_units=(8, 7), critic_hidden_units=(6, 5))
DEFAULTS = dict(
    discount=0.99,
    policy_learning_rate=1e-3,
    q_learning_rate=1e-3,
    alpha_learning_rate=1e-3,
    target_entropy=-A,
    initial_alpha=1.0,
)
OTHER = dict(
    discount=0.8,
    policy_learning_rate=0.01,
    q_learning_rate=0.02,
    alpha_learning_rate=0.03,
    target_entropy=-0.7,
    initial_alpha=0.4,
)


def problem():
    """Random weights and moving statistics, a batch whose second half has another law than the first, and noise."""
    rng = np.random.default_rng(1)
    weights = oracle.random_network(rng, "policy", O, SIZES["policy_hidden_units"], mu=A, log_std=A)
    for network in ("q1", "q2"):
        weights |= oracle.random_network(rng, network, O + A, SIZES["critic_hidden_units"], output=1)
    weights |= crossq_oracle.random_normalisation(rng, weights)
    observation, action, reward, next_observation, terminated = oracle.random_batch(rng, [B], O, A)
    return weights, (observation, action, reward, 2 * next_observation + 1, terminated)


def start(agent):
    weights, batch = problem()
    agent.set_state(agent.get_state() | weights)
    return weights, batch, first_noise(agent, B).numpy()


def expected_update(weights, batch, noise, initial_alpha, **settings):
    return crossq_oracle.update(weights | {"log_alpha": np.log(initial_alpha)}, batch, noise, **settings)


def assert_update_is(agent, metrics, expected):
    """Holds the agent, one gradient step old, to the oracle's metrics, gradients, new weights and statistics.

    Float32 reaches 1e-5 of the largest entry of each array, but for what normalisation amplifies.
    """
    expected_metrics, expected_gradients, expected_weights = expected
    assert metrics.keys() == expected_metrics.keys()
    for name, x in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], x, rtol=2e-5, atol=1e-6, err_msg=name)

    names = {id(variable): name for name, variable in agent.variables().items()}
    received = {}
    for optimizer in (agent.policy_optimizer, agent.q_optimizer, agent.alpha_optimizer):
        for x, m in zip(optimizer.variables, optimizer.m, strict=True):  # Adam's m is (1 - beta_1) times the gradient
            received[names[id(x)]] = m.numpy() / (0.1 if optimizer is agent.alpha_optimizer else 0.5)
    assert received.keys() == expected_gradients.keys()
    for name, x in expected_gradients.items():
        np.testing.assert_allclose(received[name], x, rtol=2e-5, atol=2e-5 * np.abs(x).max(), err_msg=name)

    state = agent.get_state()
    for name, x in expected_weights.items():
        # a smaller gradient is all rounding, of which Adam's first step makes a whole learning rate
        sure = np.abs(expected_gradients.get(name, np.ones_like(x))) > 1e-5
        assert np.any(sure), name
        np.testing.assert_allclose(state[name][sure], x[sure], rtol=1e-5, atol=1e-5, err_msg=name)


def run(agent, compiled=False, renormalised=False):
    """One gradient step on the problem -> metrics, and what the oracle expects with OTHER."""
    weights, batch, noise = start(agent)
    if renormalised:
        agent.warm_up = -1
    if compiled:
        metrics = {name: x[0] for name, x in agent.update(as_rows(batch)[None]).items()}
    else:
        metrics = step(agent, batch, noise)
    return metrics, expected_update(weights, batch, noise, renormalised=renormalised, **OTHER)


@pytest.mark.parametrize("renormalised", [False, True], ids=["plain", "renormalised"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_one_update_is_the_oracles(compiled, renormalised):
    agent = CrossQ(O, A, seed=5, **SIZES, **OTHER)
    assert_update_is(agent, *run(agent, compiled, renormalised))


def test_defaults():
    agent = CrossQ(O, A, seed=5, **SIZES)
    weights, batch, noise = start(agent)
    assert_update_is(agent, step(agent, batch, noise), expected_update(weights, batch, noise, **DEFAULTS))


@pytest.mark.parametrize("renormalised", [False, True], ids=["plain", "renormalised"])
def test_the_oracles_gradient_is_that_of_its_loss(renormalised):
    """By central differences, of a loss that sees half of the rows; r and d of renormalisation stay as they are."""
    weights, (observation, action, _, next_observation, _) = problem()
    weights = {name: x.astype(np.float64) for name, x in weights.items()}
    rng = np.random.default_rng(0)
    both = np.concatenate([observation, next_observation]), np.concatenate([action, rng.uniform(-1, 1, [B, A])])
    x, target = np.concatenate(both, axis=1).astype(np.float64), rng.normal(size=B)

    correction = crossq_oracle.towards_moving(weights) if renormalised else crossq_oracle.batch_alone
    q, kept = crossq_oracle.joint_pass(weights, "q1", x, correction)
    constant = {layer: kept[i][3:] for i, layer in enumerate(("q1/hidden_0", "q1/hidden_1", "q1/output"))}

    def loss(weights):
        q, _ = crossq_oracle.joint_pass(weights, "q1", x, lambda layer, *_: constant[layer])
        return np.mean((q[:B] - target) ** 2) / 2

    d_q = np.concatenate([(q[:B] - target) / B, np.zeros(B)])
    gradients = crossq_oracle.joint_backward(weights, "q1", kept, d_q)
    assert len(gradients) == 12
    for name, gradient in gradients.items():
        for index in np.ndindex(gradient.shape):
            step = np.zeros(gradient.shape)
            step[index] = 1e-6
            up, down = (loss(weights | {name: weights[name] + sign * step}) for sign in (1, -1))
            np.testing.assert_allclose((up - down) / 2e-6, gradient[index], rtol=1e-5, atol=1e-8)


# Faults of its kind: the oracle tells each from the algorithm.


class PolicySeesTrainingMode(CrossQ):
    """And so the policy's loss moves the moving statistics, too."""

    def min_q(self, observation, action):
        return tf.minimum(*(q([observation, action], training=True) for q in (self.q1, self.q2)))


class CriticsInInferenceMode(NormalisedQ):
    def call(self, inputs, training=False, **more):
        return super().call(inputs, False, **more)


class TwoPasses(NormalisedQ):
    """(s, a) and (s', a') each normalised with its own statistics: two different functions."""

    def call(self, inputs, training=False, **more):
        halves = zip(*(tf.split(x, 2) for x in inputs), strict=True) if training else [inputs]
        return tf.concat([super(TwoPasses, self).call(half, training, **more) for half in halves], 0)


class TargetInInferenceMode(NormalisedQ):
    """The moving statistics, which it is computed with, have never seen the policy's actions in s'."""

    def call(self, inputs, training=False, **more):
        if not training:
            return super().call(inputs, training)
        here, there = zip(*(tf.split(x, 2) for x in inputs), strict=True)
        return tf.concat([super().call(here, True, **more), super().call(there, False)], 0)


class StatisticsFrozen(NormalisedDense):
    def call(self, x, training, **more):
        mean, variance = self.moving_mean.numpy(), self.moving_variance.numpy()
        output = super().call(x, training, **more)
        self.moving_mean.assign(mean)
        self.moving_variance.assign(variance)
        return output


class StatisticsTwice(NormalisedDense):
    def call(self, x, training, **more):
        super().call(x, training, **more)
        return super().call(x, training, **more)


class UnbiasedVariance(NormalisedDense):
    def call(self, x, training, **more):
        before = self.moving_variance.numpy()
        output = super().call(x, training, **more)
        rows = x.shape[0]
        moved = self.moving_variance - 0.99 * before
        self.moving_variance.assign(0.99 * before + moved * (rows / (rows - 1) if training else 1))
        return output


def normalised_dense(layer, x, mean, variance):
    y = layer.gamma.value * ((x - mean) * tf.math.rsqrt(variance + 1e-3) + layer.beta.value)
    return y @ layer.kernel.value + layer.bias.value


class StatisticsHeldConstant(NormalisedDense):
    """No gradient through mean and variance."""

    def call(self, x, training, **more):
        usual = super().call(x, training, **more)
        if not training:
            return usual
        output = normalised_dense(self, x, *map(tf.stop_gradient, tf.nn.moments(x, 0)))
        np.testing.assert_allclose(output, usual, atol=1e-4)
        return output


class NextHeldConstant(NormalisedDense):
    """No gradient through the other half, whose mean and variance count."""

    def call(self, x, training, **more):
        if training:
            here, there = tf.split(x, 2)
            x = tf.concat([here, tf.stop_gradient(there)], 0)
        return super().call(x, training, **more)


class NoEntropyInTheTarget(CrossQ):
    def update_critics(self, batch, noise):
        kept, losses.soft_value = losses.soft_value, lambda q, log_prob, alpha: q
        try:
            return super().update_critics(batch, noise)
        finally:
            losses.soft_value = kept


class GradientThroughTheCorrection(NormalisedDense):
    def _renormalised(self, gamma, beta, mean, variance, share):
        std, moving_std = (tf.sqrt(x + 1e-3) for x in (variance, self.moving_variance.value))
        r, d = std / moving_std, (mean - self.moving_mean.value) / moving_std
        r, d = 1 + share * (tf.clip_by_value(r, 1 / 3, 3) - 1), share * tf.clip_by_value(d, -5, 5)
        return gamma * r, (beta + d) / r


class CorrectionWithoutBounds(NormalisedDense):
    def _renormalised(self, gamma, beta, mean, variance, share):
        std, moving_std = (tf.sqrt(x + 1e-3) for x in (variance, self.moving_variance.value))
        r, d = map(tf.stop_gradient, (std / moving_std, (mean - self.moving_mean.value) / moving_std))
        return gamma * r, (beta + d) / r


class CorrectionByTheNewStatistics(NormalisedDense):
    """After the batch has moved them."""

    def _renormalised(self, gamma, beta, mean, variance, share):
        for moving, statistic in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.value.assign_add(0.01 * (statistic - moving.value))
        received = super()._renormalised(gamma, beta, mean, variance, share)
        for moving, statistic in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.value.assign((moving.value - 0.01 * statistic) / 0.99)
        return received


def with_layers(layer):
    return type(layer.__name__, (CrossQ,), {"make_q": type("Q", (NormalisedQ,), {"make_dense": layer})})


FAULTS = [
    PolicySeesTrainingMode,
    NoEntropyInTheTarget,
    *(type(q.__name__, (CrossQ,), {"make_q": q}) for q in (CriticsInInferenceMode, TwoPasses, TargetInInferenceMode)),
    *map(with_layers, (StatisticsFrozen, StatisticsTwice, UnbiasedVariance, StatisticsHeldConstant, NextHeldConstant)),
]
FAULTS_AFTER_THE_WARM_UP = [
    *map(with_layers, (GradientThroughTheCorrection, CorrectionWithoutBounds, CorrectionByTheNewStatistics)),
]


def test_no_fault_by_itself():
    """What the faults are made of, without one, is the algorithm."""
    agent = with_layers(NormalisedDense)(O, A, seed=5, **SIZES, **OTHER)
    assert_update_is(agent, *run(agent))


@pytest.mark.parametrize("fault", FAULTS + FAULTS_AFTER_THE_WARM_UP, ids=lambda fault: fault.__name__)
def test_faults_are_found(fault):
    agent = fault(O, A, seed=5, **SIZES, **OTHER)
    metrics, expected = run(agent, renormalised=fault in FAULTS_AFTER_THE_WARM_UP)
    with pytest.raises(AssertionError):
        assert_update_is(agent, metrics, expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_renormalisation_begins_after_step_100_000(compiled):
    """Of two more steps the first is plain, and the second corrected; Q after both would tell."""
    losses_of = {}
    for warm_up in (CrossQ.warm_up, 10**9, 99_999):
        agent = CrossQ(O, A, seed=5, **SIZES, **OTHER)
        _, batch, _ = start(agent)
        agent.gradient_steps.assign(99_999)
        agent.warm_up = warm_up
        rows = np.repeat(as_rows(batch)[None], 2, axis=0)
        losses_of[warm_up] = (agent.update(rows) if compiled else update(agent, rows))["q1_loss"]
    usual, plain, sooner = losses_of.values()
    assert usual[0] == plain[0] != sooner[0]
    assert usual[1] != plain[1]


# The delay of the policy.


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_policy_and_temperature_are_updated_in_every_third_step_with_a_delay_of_3(compiled):
    """In steps 1, 4 and 7. Between these their metrics, weights and moments stay, while the critics learn."""
    agent = CrossQ(O, A, seed=5, **SIZES, **OTHER, policy_delay=3, smoothness=0.1)
    rows, of_policy = as_rows(start(agent)[1])[None], ("policy", "log_alpha", "alpha_optimizer", "last_update")
    moved, metrics_moved, metrics, state = [], [], None, agent.get_state()
    for _ in range(7):
        last_metrics, last_state = metrics, state
        metrics, state = agent.update(rows) if compiled else update(agent, rows), agent.get_state()
        changed = {name for name in state if not np.array_equal(state[name], last_state[name])}
        assert {"q1", "q2", "q_optimizer"} <= {name.split("/")[0] for name in changed}
        moved.append({x for x in (*of_policy, "policy_optimizer") if any(x == name.split("/")[0] for name in changed)})
        if last_metrics:
            metrics_moved.append({name for name in metrics if metrics[name] != last_metrics[name]})
    every, none = {*of_policy, "policy_optimizer"}, set()
    assert moved == [every, none, none, every, none, none, every]
    critics = {"q1_loss", "q2_loss", "q1", "q2", "q_gradient_norm"}
    of_update = {"policy_loss", "entropy", "policy_gradient_norm", "roughness", "alpha_loss", "alpha_gradient_norm"}
    assert metrics_moved == 2 * [critics | {"alpha"}, critics, critics | of_update]


def test_a_policy_that_waits_is_updated_as_one_that_does_not():
    """Step 3 of a delay of 2 is, bit for bit, a step of an agent without delay that begins with the same weights."""
    waiting, other = (CrossQ(O, A, seed=5, **SIZES, **OTHER, policy_delay=x) for x in (2, 1))
    rows = as_rows(start(waiting)[1])[None]
    for _ in range(2):
        update(waiting, rows)
    other.set_state(waiting.get_state())
    update(waiting, rows), update(other, rows)
    state, expected = waiting.get_state(), other.get_state()
    for name in state:
        np.testing.assert_array_equal(state[name], expected[name], err_msg=name)


# Modes and statistics.


def statistics(agent):
    return {name: x for name, x in agent.get_state().items() if "moving_" in name}


def assert_same(one, other):
    assert one.keys() == other.keys() and len(one) == 12  # two critics of three layers
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_statistics_move_in_the_critics_update_alone():
    agent = CrossQ(O, A, seed=5, **SIZES, **OTHER)
    _, batch, noise = start(agent)
    batch = [tf.constant(x) for x in batch]
    before = statistics(agent)
    _, log_prob = agent.update_policy(Transition(*batch), tf.constant(noise[1]))
    agent.update_temperature(log_prob)
    agent.min_q(batch[0], batch[1])
    agent.deployed_policy().deterministic(batch[0].numpy())
    agent.set_state(agent.get_state())
    assert_same(statistics(agent), before)

    step(agent, batch, noise)
    after = statistics(agent)
    assert all(np.all(after[name] != before[name]) for name in before)


def test_statistics_move_where_learning_rates_are_tiny_as_well():
    """To a hundredth of the way towards those of both halves; by hand for the first layer."""
    agent = CrossQ(O, A, seed=5, **SIZES, **OTHER | dict(q_learning_rate=1e-12))
    _, batch, noise = start(agent)
    before = statistics(agent)
    step(agent, batch, noise)
    after = statistics(agent)
    observations = np.concatenate([batch[0], batch[3]])
    for name, value in (("mean", observations.mean(axis=0)), ("variance", observations.var(axis=0))):
        key = f"q2/hidden_0/moving_{name}"
        expected = before[key][:O] + 0.01 * (value - before[key][:O])
        np.testing.assert_allclose(after[key][:O], expected, rtol=1e-5, atol=1e-6)


def two_halves():
    """Observations and actions of B rows of one law and B of another."""
    rng = np.random.default_rng(0)
    return [np.concatenate([rng.normal(i, 1 + i, [B, n]) for i in (0, 1)]).astype(np.float32) for n in (O, A)]


def test_both_halves_see_one_function():
    """Exchanged, they change places."""
    q, inputs = NormalisedQ(O, A, (6, 5), seed=0), two_halves()
    received = q(inputs, training=True)
    exchanged = q([np.roll(x, B, axis=0) for x in inputs], training=True)
    np.testing.assert_allclose(received, np.roll(exchanged, B), rtol=1e-4, atol=1e-5)
    assert np.std(received[:B]) > 0.1 and not np.allclose(received[:B], received[B:], atol=0.1)


def test_inference_becomes_the_joint_pass_where_nothing_changes():
    """0.99^1500 of the moving statistics' first values is left."""
    q, inputs = NormalisedQ(O, A, (6, 5), seed=0), two_halves()
    joint = tf.function(lambda: q(inputs, training=True), autograph=False)
    assert not np.allclose(q(inputs), joint(), atol=0.1)
    for _ in range(1500):
        expected = joint()
    np.testing.assert_allclose(q(inputs), expected, rtol=1e-3, atol=1e-3)


def test_a_constant_observation_and_one_far_from_zero_are_no_trouble():
    agent = CrossQ(O, A, seed=5, **SIZES, **OTHER)
    observation, action, reward, next_observation, terminated = (x.copy() for x in start(agent)[1])
    for x in observation, next_observation:
        x[:, 0] = 0.1
        x[:, 1] += 1e4
    batch = observation, action, reward, next_observation, terminated
    metrics = agent.update(np.repeat(as_rows(batch)[None], 50, axis=0))
    assert all(np.all(np.isfinite(x)) for x in [*metrics.values(), *agent.get_state().values()])
    assert metrics["q1_loss"][-1] < 0.5 * metrics["q1_loss"][0]  # it learns, too


@pytest.mark.parametrize(
    "settings, still",
    [
        ({}, set()),
        ({"q_learning_rate": 0.0}, {"q1", "q2"}),  # their statistics still move
        ({"policy_learning_rate": 0.0}, {"policy"}),
        ({"alpha_learning_rate": 0.0}, {"log_alpha"}),  # a fixed temperature
    ],
)
def test_who_moves(settings, still):
    """Every weight of a network moves or none does, and those that stand still keep every bit."""
    agent = CrossQ(O, A, seed=0, **SIZES, **OTHER | settings)
    _, batch, noise = start(agent)
    before = agent.get_state()
    step(agent, batch, noise)
    after = agent.get_state()
    for name in before:
        network = name.split("/")[0]
        if network in ("policy", "q1", "q2", "log_alpha"):
            same = network in still and "moving_" not in name
            assert np.array_equal(before[name], after[name]) == same, name


def test_critics_start_apart():
    state = CrossQ(O, A, seed=0, **SIZES).get_state()
    kernels = [name for name in state if name.startswith("q1/") and name.endswith("kernel") and "optimizer" not in name]
    assert len(kernels) == 3
    for name in kernels:
        assert not np.array_equal(state[name], state[name.replace("q1", "q2")])


# Problems with known answers.


def test_two_state_problem_reaches_its_soft_optimum():
    """oracle.py derives it: both Q and the policy are known in closed form."""
    agent = CrossQ(
        observation_dim=2,
        action_dim=1,
        seed=0,
        discount=oracle.SOFT_MDP_DISCOUNT,
        policy_hidden_units=(16,),
        critic_hidden_units=(32, 32),
        policy_learning_rate=3e-3,
        q_learning_rate=3e-3,
        alpha_learning_rate=0.0,
        initial_alpha=oracle.SOFT_MDP_ALPHA,
    )
    rng = np.random.default_rng(0)
    for _ in range(25):
        agent.update(as_rows(oracle.soft_mdp_batch(rng, [100, 64])))

    state, action = np.meshgrid([0, 1], np.linspace(-0.7, 0.7, 8))
    inputs = oracle.soft_mdp_observation(state.ravel()), action.reshape(-1, 1).astype(np.float32)
    expected = oracle.soft_mdp_q(state, action).ravel()
    for q in agent.q1, agent.q2:  # statistics of 128 rows at a time leave more noise than SAC's critics have
        assert np.sqrt(np.mean((q(inputs) - expected) ** 2)) < 0.25 < 0.5 * np.std(expected)
    mu, log_std = agent.policy(oracle.soft_mdp_observation(np.array([0, 1])))
    np.testing.assert_allclose(mu[:, 0], oracle.SOFT_MDP_MU, atol=0.15)
    np.testing.assert_allclose(log_std[:, 0], oracle.SOFT_MDP_LOG_STD, atol=0.15)


def test_time_limit_is_no_end():
    """The same reward for ever; derived in test_sac.py. Adam with beta_1 = 0.5 leaves Q moving by 0.15."""
    reward, discount, alpha = 1.5, 0.5, 0.4
    agent = CrossQ(
        observation_dim=1,
        action_dim=1,
        seed=0,
        discount=discount,
        policy_hidden_units=(4,),
        critic_hidden_units=(16,),
        policy_learning_rate=0.0,
        q_learning_rate=3e-3,
        alpha_learning_rate=0.0,
        initial_alpha=alpha,
    )
    # a fresh network answers the observation 0 with mu = log_std = 0, since its biases are zero
    node, width = np.polynomial.hermite_e.hermegauss(100)
    entropy = -np.sum(width * oracle.squashed_log_density(node, 0.0, 0.0)) / np.sqrt(2 * np.pi)

    rng, k, b = np.random.default_rng(0), 1500, 32
    inputs = np.zeros([9, 1], np.float32), np.linspace(-0.9, 0.9, 9, dtype=np.float32)[:, None]
    first = agent.get_state()
    for terminated, expected in [(0.0, (reward + discount * alpha * entropy) / (1 - discount)), (1.0, reward)]:
        agent.set_state(first)
        zero, action = np.zeros([k, b, 1], "f"), rng.uniform(-1, 1, [k, b, 1]).astype("f")
        batch = zero, action, np.full([k, b], reward, "f"), zero, np.full([k, b], terminated, "f")
        agent.update(as_rows(batch))
        for q in agent.q1, agent.q2:
            np.testing.assert_allclose(q(inputs), expected, atol=0.2)  # the two cases are 1.77 apart
