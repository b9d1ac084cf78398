"""Every equation of losses.py against numbers worked out by hand, eager and compiled."""

import numpy as np
import pytest
import tensorflow as tf

from tfsac.algorithms import losses

# Two transitions; the second one ends the episode.
Q = [3.0, -1.0]
LOG_PROB = [0.5, -2.0]
REWARD = [1.0, 2.0]
TERMINATED = [0.0, 1.0]
NEXT_VALUE = [4.0, 8.0]


@pytest.fixture(params=["eager", "compiled"])
def run(request):
    """Calls a function on float32 tensors, as it is or inside a tf.function; answers in numpy."""

    def call(function, *arguments):
        compiled = tf.function(function) if request.param == "compiled" else function
        return compiled(*[tf.constant(x, tf.float32) for x in arguments]).numpy()

    return call


@pytest.fixture(params=["eager", "compiled"])
def gradients(request):
    """d function / d arguments, one for each: None where nothing flows."""

    def call(function, *arguments):
        def differentiate(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                result = function(*tensors)
            return tape.gradient(result, tensors)

        compiled = tf.function(differentiate) if request.param == "compiled" else differentiate
        found = compiled(*[tf.constant(x, tf.float32) for x in arguments])
        return [None if x is None else x.numpy() for x in found]

    return call


def test_soft_value(run):
    # 3 - 0.5 = 2.5; -1 - (-2) = 1
    np.testing.assert_allclose(run(losses.soft_value, Q, LOG_PROB), [2.5, 1.0])


def test_soft_value_weighs_the_entropy_by_alpha(run):
    # 3 - 0.2 * 0.5 = 2.9; -1 - 0.2 * (-2) = -0.6
    np.testing.assert_allclose(run(losses.soft_value, Q, LOG_PROB, 0.2), [2.9, -0.6], rtol=1e-6)


def test_bellman_target_earns_nothing_after_the_end(run):
    # 1 + 0.9 * 4 = 4.6; 2 + 0 = 2
    target = run(losses.bellman_target, REWARD, TERMINATED, NEXT_VALUE, 0.9)
    np.testing.assert_allclose(target, [4.6, 2.0], rtol=1e-6)


def test_bellman_target_scales_the_reward_alone(run):
    # 5 * 1 + 0.9 * 4 = 8.6; 5 * 2 + 0 = 10
    target = run(losses.bellman_target, REWARD, TERMINATED, NEXT_VALUE, 0.9, 5.0)
    np.testing.assert_allclose(target, [8.6, 10.0], rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.v_loss, losses.q_loss])
def test_v_loss_and_q_loss(run, loss):
    # errors 3 - 4 = -1 and -1 - 2 = -3: (1 + 9) / 2 transitions / 2 = 2.5
    assert run(loss, Q, [4.0, 2.0]) == 2.5


def test_policy_loss(run):
    # alpha = 0.2: 0.2 * 0.5 - 3 = -2.9; 0.2 * (-2) + 1 = 0.6; mean -1.15
    assert run(losses.policy_loss, Q, LOG_PROB, 0.2) == pytest.approx(-1.15)


def test_policy_loss_without_alpha_is_equation_4(run):
    # 0.5 - 3 = -2.5; -2 + 1 = -1; mean -1.75
    assert run(losses.policy_loss, Q, LOG_PROB) == pytest.approx(-1.75)


def test_alpha_loss(run):
    # alpha = 2, mean log pi = (0.5 - 2) / 2 = -0.75, Hbar = -1: -2 * (-0.75 - 1) = 3.5
    assert run(losses.alpha_loss, np.log(2.0), LOG_PROB, -1.0) == pytest.approx(3.5)


@pytest.mark.parametrize("loss", [losses.v_loss, losses.q_loss])
def test_critic_gradient_passes_the_prediction_by_the_target(gradients, loss):
    # d/dq of (q - target)^2 / 2, over 2 transitions: -1 / 2 and -3 / 2
    prediction, target = gradients(loss, Q, [4.0, 2.0])
    np.testing.assert_allclose(prediction, [-0.5, -1.5])
    assert target is None


def test_bellman_target_is_a_constant(gradients):
    assert gradients(losses.bellman_target, REWARD, TERMINATED, NEXT_VALUE, 0.9) == [None] * 4


def test_policy_gradient_reaches_q_and_log_prob(gradients):
    # d/dq = -1 / 2 transitions; d/dlog_prob = alpha / 2 = 0.1
    q, log_prob = gradients(lambda q, log_prob: losses.policy_loss(q, log_prob, 0.2), Q, LOG_PROB)
    np.testing.assert_allclose(q, [-0.5, -0.5])
    np.testing.assert_allclose(log_prob, [0.1, 0.1])


def test_alpha_gradient_passes_log_alpha_by_the_policy(gradients):
    # -exp(log alpha) (mean log pi + Hbar) is its own derivative: 3.5 as above
    function = lambda log_alpha, log_prob: losses.alpha_loss(log_alpha, log_prob, -1.0)  # noqa: E731
    log_alpha, log_prob = gradients(function, np.log(2.0), LOG_PROB)
    assert log_alpha == pytest.approx(3.5)
    assert log_prob is None


@pytest.mark.parametrize("mean_log_prob, rises", [(2.0, True), (-2.0, False)])
def test_alpha_rises_where_the_entropy_is_below_its_target(gradients, mean_log_prob, rises):
    # Hbar = -1: an entropy of -2 is too little, one of 2 is too much; descent moves against the gradient
    gradient, _ = gradients(lambda x, y: losses.alpha_loss(x, y, -1.0), 0.0, [mean_log_prob])
    assert (gradient < 0) == rises


def test_reward_scale_is_one_over_alpha(run):
    """All values times c: scaling the reward by c is an alpha of 1 / c."""
    c = 5.0
    value = run(losses.soft_value, Q, LOG_PROB, 1 / c)
    np.testing.assert_allclose(run(losses.soft_value, np.multiply(c, Q), LOG_PROB), c * value, rtol=1e-6)
    target = run(losses.bellman_target, REWARD, TERMINATED, value, 0.9)
    scaled = run(losses.bellman_target, REWARD, TERMINATED, c * value, 0.9, c)
    np.testing.assert_allclose(scaled, c * target, rtol=1e-6)
    loss = run(losses.policy_loss, Q, LOG_PROB, 1 / c)
    assert run(losses.policy_loss, np.multiply(c, Q), LOG_PROB) == pytest.approx(c * loss)


COLUMN = [[0.0], [0.0]]  # [B, 1], which against [B] would broadcast to [B, B]


@pytest.mark.parametrize(
    "function, arguments",
    [
        (losses.soft_value, (COLUMN, LOG_PROB)),
        (losses.soft_value, (Q, COLUMN)),
        (losses.bellman_target, (COLUMN, TERMINATED, NEXT_VALUE, 0.9)),
        (losses.bellman_target, (REWARD, COLUMN, NEXT_VALUE, 0.9)),
        (losses.bellman_target, (REWARD, TERMINATED, COLUMN, 0.9)),
        (losses.v_loss, (COLUMN, NEXT_VALUE)),
        (losses.v_loss, (Q, COLUMN)),
        (losses.q_loss, (COLUMN, NEXT_VALUE)),
        (losses.q_loss, (Q, COLUMN)),
        (losses.policy_loss, (COLUMN, LOG_PROB)),
        (losses.policy_loss, (Q, COLUMN)),
    ],
)
def test_column_against_vector_is_refused(run, function, arguments):
    with pytest.raises(ValueError, match="incompatible"):
        run(function, *arguments)


def test_column_is_refused_where_the_batch_size_is_unknown():
    """As inside the compiled update, where B is None."""
    specs = tf.TensorSpec([None]), tf.TensorSpec([None, 1])
    with pytest.raises(ValueError, match="incompatible"):
        tf.function(losses.q_loss, input_signature=specs).get_concrete_function()
