"""The trained policy as a SavedModel: plain TensorFlow, loadable where neither tfsac nor TFP is installed."""

import math

import tensorflow as tf

from tfsac.numpy_policy import LOG_STD_MAX, LOG_STD_MIN

# Far beyond any observation, far below where float32 loses track: keeps every exported graph finite.
OBSERVATION_LIMIT = 1e6


class ExportedPolicy(tf.Module):
    """The policy with all that the device needs inside: the guard before it, the environment's bounds behind it.

    The weights are variables of this module itself: one whose only link to them is a Keras 3 model saves well, but
    TFLiteConverter then writes a file without weights and says nothing.

    Args:
        weights: arrays by name, as `NumpyPolicy` takes them.
        low, high: bounds of the action in the environment's units, [A].
        scale: what the first layer's weights expect observations to be multiplied by, [O].
    """

    def __init__(self, weights, low, high, scale=1.0):
        super().__init__(name="policy")
        self.observation_dim, self.action_dim = weights["hidden_0/kernel"].shape[0], len(low)
        self._weights = {name: tf.Variable(array, name=name.replace("/", "_")) for name, array in weights.items()}
        self._layers = [f"hidden_{i}" for i in range(len(weights) // 2 - 2)]
        self._scale = scale
        self._low, self._high = tf.constant(low, tf.float32), tf.constant(high, tf.float32)
        # Halves first: high - low may overflow.
        self._middle, self._half = 0.5 * self._low + 0.5 * self._high, 0.5 * self._high - 0.5 * self._low

    def deterministic(self, observation):
        """observation [B, O] -> action [B, A]: tanh(mu) scaled to the bounds."""
        return {"action": self._to_bounds(self.unit_action(observation))}

    def sample(self, observation, noise):
        """observation [B, O], noise ~ N(0, I) [B, A] -> action [B, A] and its log_prob [B].

        log_prob is the density of the action in [-1, 1]^A; in the environment's units it is less by the sum of
        log((high - low) / 2).
        """
        mean, log_std = self.distribution(observation).values()
        u = mean + tf.exp(log_std) * noise
        log_normal = -0.5 * tf.square(noise) - 0.5 * math.log(2 * math.pi) - log_std
        log_det = 2.0 * (math.log(2.0) - u - tf.nn.softplus(-2.0 * u))  # log(1 - tanh^2(u)), without cancellation
        return {"action": self._to_bounds(tf.tanh(u)), "log_prob": tf.reduce_sum(log_normal - log_det, axis=-1)}

    def distribution(self, observation):
        """observation [B, O] -> mean [B, A] and log_std [B, A] of the Gaussian before the tanh."""
        hidden = self._hidden(self.guard(observation, self._scale))
        log_std = tf.clip_by_value(self._dense(hidden, "log_std"), LOG_STD_MIN, LOG_STD_MAX)
        return {"mean": self._dense(hidden, "mu"), "log_std": log_std}

    def unit_action(self, observation):
        """observation [B, O] -> tanh(mu) [B, A]."""
        return self.network(self.guard(observation, self._scale))

    def network(self, scaled):
        """scaled observation [B, O] -> tanh(mu) [B, A]: the part that can be quantised to int8."""
        return tf.tanh(self._dense(self._hidden(scaled), "mu"))

    @staticmethod
    def guard(observation, scale=1.0):
        """NaN counts as 0 and everything is clipped: runtimes disagree on NaN, and agree on nothing so large."""
        known = tf.where(tf.equal(observation, observation), observation, tf.zeros_like(observation))
        # Scaled before the clip: behind it, the converter would fold the scale back into the first layer's weights.
        return tf.clip_by_value(known * scale, -OBSERVATION_LIMIT * scale, OBSERVATION_LIMIT * scale)

    def _hidden(self, x):
        for name in self._layers:
            x = tf.nn.relu(self._dense(x, name))
        return x

    def _dense(self, x, name):
        return tf.matmul(x, self._weights[f"{name}/kernel"]) + self._weights[f"{name}/bias"]

    def _to_bounds(self, unit_action):
        # The clip is for the last bit, which rounding may put outside.
        return tf.clip_by_value(self._middle + self._half * unit_action, self._low, self._high)


def save(policy, path):
    """Writes the SavedModel with signatures `deterministic` (also as `serving_default`), `sample` and `distribution`.

    Args:
        policy: an ExportedPolicy.
        path: directory to make.
    """
    observation = tf.TensorSpec([None, policy.observation_dim], name="observation")
    noise = tf.TensorSpec([None, policy.action_dim], name="noise")
    deterministic = tf.function(policy.deterministic).get_concrete_function(observation)
    signatures = {
        "serving_default": deterministic,
        "deterministic": deterministic,
        "sample": tf.function(policy.sample).get_concrete_function(observation, noise),
        "distribution": tf.function(policy.distribution).get_concrete_function(observation),
    }
    tf.saved_model.save(policy, str(path), signatures)
