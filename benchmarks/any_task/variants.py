"""CrossQ and SAC as they might have been: what `runs.py` compares, each a subclass that differs in one thing."""

import keras
import numpy as np
import tensorflow as tf

from tfsac.algorithms import losses, normalised_q
from tfsac.algorithms.adam import Adam
from tfsac.algorithms.agent import polyak
from tfsac.algorithms.crossq import CrossQ
from tfsac.algorithms.normalised_q import EPSILON, NormalisedDense, NormalisedQ
from tfsac.algorithms.sac import SAC
from tfsac.data.replay import Replay
from tfsac.policy import LOG_STD_MAX, LOG_STD_MIN


class Plain(CrossQ):
    """Without renormalisation; until gradient step 100,000 CrossQ itself."""

    name = "plain"
    warm_up = 2**62


class HalfGradient(NormalisedDense):
    """No gradient through the second half of the rows, (s', a'), which saves a third of the critics' arithmetic.

    A weight before the normalisation then sees only half of what mean and variance undo of its step.
    """

    def call(self, x, training, renormalise):
        if not training:
            return super().call(x, training)
        first, second = tf.split(x, 2)
        weights = self.gamma.value, self.beta.value, self.kernel.value, self.bias.value
        outputs = super().call(tf.stop_gradient(x), training)
        mean = tf.reduce_mean(x, 0)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), 0)
        output = _of_half(first, mean, variance, *weights)
        return tf.concat([output, tf.stop_gradient(tf.split(outputs, 2)[1])], 0)


@tf.custom_gradient
def _of_half(x, mean, variance, gamma, beta, kernel, bias):
    std, rows = tf.sqrt(variance + EPSILON), x.shape[0]
    shifted, scaled_kernel = x - (mean - beta * std), (gamma / std)[:, None] * kernel

    def gradient(d_output):
        d_scaled_kernel = tf.matmul(shifted, d_output, transpose_a=True)
        d_bias = tf.reduce_sum(d_output, 0)
        d_gamma = tf.reduce_sum(kernel * d_scaled_kernel, 1) / std
        d_mean = -tf.linalg.matvec(scaled_kernel, d_bias)
        d_beta = -std * d_mean
        d_variance = -0.5 * (gamma * d_gamma - beta * d_beta) / tf.square(std)
        d_x = tf.matmul(d_output, scaled_kernel, transpose_b=True)
        d_x += d_variance / rows * shifted - (d_variance / rows * beta * std - d_mean / (2 * rows))
        return d_x, None, None, d_gamma, d_beta, (gamma / std)[:, None] * d_scaled_kernel, d_bias

    return tf.nn.bias_add(tf.matmul(shifted, scaled_kernel), bias), gradient


class LargeEpsilon(NormalisedDense):
    """A variance that hardly is one makes its input 3 times as large at most, not 32 times."""

    def call(self, x, training, renormalise):
        weights, more = (self.gamma.value, self.beta.value, self.kernel.value, self.bias.value), 0.1 - EPSILON
        if not training:
            variance = self.moving_variance.value + more
            return normalised_q._normalised_dense(x, self.moving_mean.value, variance, *weights)
        super().call(x, training)  # moves the statistics
        mean = tf.reduce_mean(x, 0)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), 0) + more
        return normalised_q._normalised_dense_of_own_statistics(x, mean, variance, *weights)


def _variant(name, first, other):
    def make_dense(self, inputs, units, initializer, layer_name):
        return (first if layer_name == "hidden_0" else other)(inputs, units, initializer, layer_name)

    q = type("Q", (NormalisedQ,), {"make_dense": make_dense})
    return type(name, (Plain,), {"name": name, "make_q": q})  # the layers above do not renormalise


half_gradient = _variant("half_gradient", HalfGradient, HalfGradient)
large_epsilon = _variant("large_epsilon", LargeEpsilon, NormalisedDense)


def _copied(policy, observation, inputs):
    layers = {x.name: type(x).from_config(x.get_config()) for x in policy.layers if isinstance(x, keras.layers.Dense)}
    hidden = inputs
    for name in sorted(x for x in layers if x.startswith("hidden")):
        hidden = layers[name](hidden)
    log_std = keras.ops.clip(layers["log_std"](hidden), LOG_STD_MIN, LOG_STD_MAX)
    return keras.Model(observation, (layers["mu"](hidden), log_std))


class NormalisedPolicy(CrossQ):
    """A policy whose observations are normalised with the first critic's moving statistics."""

    name = "normalised_policy"

    def __init__(self, observation_dim, action_dim, *arguments, **settings):
        super().__init__(observation_dim, action_dim, *arguments, **settings)
        plain, rate = self.policy, self.policy_optimizer.learning_rate
        observation = keras.Input([observation_dim], name="observation", dtype="float32")
        inputs = keras.layers.BatchNormalization(
            epsilon=EPSILON, center=False, scale=False, name="normalise", dtype="float32"
        )(observation, training=False)
        self.policy, self.mean_policy = (_copied(plain, observation, inputs) for _ in range(2))
        self.policy_optimizer = Adam(self.policy.trainable_variables, rate, self.beta_1)

    def update_critics(self, batch, noise):
        metrics = super().update_critics(batch, noise)
        first, own = self.q1.hidden[0], self.policy.get_layer("normalise")
        own.moving_mean.value.assign(first.moving_mean.value[: self.observation_dim])
        own.moving_variance.value.assign(first.moving_variance.value[: self.observation_dim])
        return metrics


class _Falling:
    """Step sizes that are multiplied by `share(t)` in gradient step t."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self._rates = {x: x.learning_rate for x in (self.policy_optimizer, self.q_optimizer, self.alpha_optimizer)}

    def gradient_step(self, batch, noise):
        share = self.share(tf.cast(self.gradient_steps, tf.float32))
        for optimizer, rate in self._rates.items():
            optimizer.learning_rate = share * rate
        return super().gradient_step(batch, noise)


class FallingRate(_Falling, CrossQ):
    """Step sizes that fall as 1 / t after 50,000 gradient steps."""

    name = "falling_rate"

    @staticmethod
    def share(t):
        return tf.minimum(1.0, 50_000 / t)


class LinearSAC(_Falling, SAC):
    """Step sizes that fall linearly, to 0 in gradient step 50,000."""

    name = "linear_sac"

    @staticmethod
    def share(t):
        return tf.maximum(0.0, 1 - t / 50_000)


class UnitNorm(CrossQ):
    """Kernel and bias of each hidden unit of the critics have norm 1 (arXiv 2502.07523): their step size stays."""

    name = "unit_norm"

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.project()

    def update_critics(self, batch, noise):
        metrics = super().update_critics(batch, noise)
        self.project()
        return metrics

    def project(self):
        """(w, b) <- (w, b) / |(w, b)| for every hidden unit."""
        for layer in (*self.q1.hidden, *self.q2.hidden):
            norm = tf.sqrt(tf.reduce_sum(tf.square(layer.kernel.value), 0) + tf.square(layer.bias.value))
            layer.kernel.value.assign(layer.kernel.value / norm)
            layer.bias.value.assign(layer.bias.value / norm)


class UnitNormTargets(UnitNorm):
    """With target networks, too, which see the joint batch in training mode."""

    name = "unit_norm_targets"
    tau = 0.005

    def __init__(self, observation_dim, action_dim, *arguments, **settings):
        super().__init__(observation_dim, action_dim, *arguments, **settings)
        units = [x.kernel.shape[1] for x in self.q1.hidden]
        self.targets = [self.make_q(observation_dim, action_dim, units, x) for x in self._seeds[:2]]
        for target, online in zip(self.targets, (self.q1, self.q2), strict=True):
            target.set_weights(online.get_weights())

    def update_critics(self, batch, noise):
        next_action, next_log_prob = self.sample(batch.next_observation, noise)
        both = tf.concat([batch.observation, batch.next_observation], 0), tf.concat([batch.action, next_action], 0)
        next_q = tf.minimum(*(tf.split(q(both, training=True), 2)[1] for q in self.targets))
        next_value = losses.soft_value(next_q, next_log_prob, self.alpha)
        target = losses.bellman_target(batch.reward, batch.terminated, next_value, self.discount)
        with tf.GradientTape() as tape:
            q1, q2 = (tf.split(q(both, training=True), 2)[0] for q in (self.q1, self.q2))
            q1_loss, q2_loss = losses.q_loss(q1, target), losses.q_loss(q2, target)
            loss = q1_loss + q2_loss
        norm = self.q_optimizer.minimise(loss, tape)
        self.project()
        for old, new in zip(self.targets, (self.q1, self.q2), strict=True):
            polyak(old, new, self.tau)
        means = {"q1": tf.reduce_mean(q1), "q2": tf.reduce_mean(q2)}
        return means | {"q1_loss": q1_loss, "q2_loss": q2_loss, "q_gradient_norm": norm}


class Beta09(CrossQ):
    """With Adam's usual beta_1."""

    name = "beta_09"
    beta_1 = 0.9


class ThreeSteps(CrossQ):
    """Returns of three steps: r + gamma r' + gamma^2 r'' and the value of the state after these.

    Fewer where the episode ends, which is where a row's next observation is not the next row's observation. For one
    environment; not corrected for the policy having changed since.
    """

    name = "three_steps"
    n = 3

    def __init__(self, observation_dim, action_dim, *arguments, **settings):
        super().__init__(observation_dim, action_dim, *arguments, **settings)
        agent = self

        def sample(replay, num_batches, batch_size):
            starts = replay._rng.integers(len(replay), size=[num_batches, batch_size])
            return agent.returns(replay._rows, starts, len(replay))

        Replay.sample = sample  # an algorithm has no replay of its own

    def returns(self, rows, starts, filled):
        """Rows that begin at `starts`, an array of any shape, in a table with so many filled ones."""
        reward, after = self.observation_dim + self.action_dim, slice(self.observation_dim + self.action_dim + 1, -1)
        result, last, discount = rows[starts], starts.copy(), np.ones(starts.shape, np.float32)
        for _ in range(self.n - 1):
            following = np.minimum(last + 1, filled - 1)
            goes_on = (last + 1 < filled) & (rows[last, -1] == 0)
            goes_on &= (rows[last][..., after] == rows[following][..., : self.observation_dim]).all(-1)
            last = np.where(goes_on, following, last)
            discount = np.where(goes_on, discount * self.discount, discount)
            result[..., reward] += np.where(goes_on, discount * rows[last, reward], 0)
        result[..., after] = rows[last][..., after]
        # The target's gamma (1 - d) becomes gamma^m (1 - d), for the m steps that were taken.
        result[..., -1] = 1 - discount * (1 - rows[last, -1])
        return result
