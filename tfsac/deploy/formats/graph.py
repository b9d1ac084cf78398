"""The trained policy as plain TensorFlow functions: what a SavedModel holds and .tflite files are converted from."""

import math

from tfsac.policy import LOG_STD_MAX, LOG_STD_MIN
from tfsac.quiet_tensorflow import tf


class PolicyGraph(tf.Module):
    """The policy with all that the device needs: the guard before it, the environment's bounds after it.

    The weights are variables of this module itself. If they belonged to a Keras 3 model inside it, saving would work,
    but TFLiteConverter would write a file without weights, silently.

    Args:
        policy: a `Policy`.
        low, high, limit: see `format.Deployable`.
    """

    def __init__(self, policy, low, high, limit):
        super().__init__(name="policy")
        hidden, mu, log_std = policy  # all there is; anything more must not be left out
        self._hidden = [_variables(f"hidden_{i}", layer) for i, layer in enumerate(hidden)]
        self._mu, self._log_std = _variables("mu", mu), _variables("log_std", log_std)
        self._low, self._high, self._limit = tf.constant(low), tf.constant(high), limit
        # Halves first: high - low may overflow.
        self._middle, self._half = 0.5 * self._low + 0.5 * self._high, 0.5 * self._high - 0.5 * self._low

    def deterministic(self, observation):
        """observation [B, O] -> action [B, A]: tanh(mu) scaled to the bounds."""
        return {"action": self.to_bounds(self.network(self.guard(observation)))}

    def sample(self, observation, noise):
        """observation [B, O], noise ~ N(0, I) [B, A] -> action [B, A] and its log_prob [B].

        log_prob is the density of the action in [-1, 1]^A; in the environment's units it is less by the sum of
        log((high - low) / 2).
        """
        mean, log_std = self.distribution(observation).values()
        u = mean + tf.exp(log_std) * noise
        log_normal = -0.5 * tf.square(noise) - 0.5 * math.log(2 * math.pi) - log_std
        log_det = 2.0 * (math.log(2.0) - u - tf.nn.softplus(-2.0 * u))  # log(1 - tanh^2(u)), without cancellation
        return {"action": self.to_bounds(tf.tanh(u)), "log_prob": tf.reduce_sum(log_normal - log_det, axis=-1)}

    def distribution(self, observation):
        """observation [B, O] -> mean [B, A] and log_std [B, A] of the Gaussian before the tanh."""
        features = self._features(self.guard(observation))
        return {
            "mean": _dense(features, self._mu),
            "log_std": tf.clip_by_value(_dense(features, self._log_std), LOG_STD_MIN, LOG_STD_MAX),
        }

    def guard(self, observation):
        """NaN counts as 0 and all is clipped, since runtimes disagree on NaN and on very large numbers."""
        numbers = tf.where(tf.equal(observation, observation), observation, tf.zeros_like(observation))
        return tf.clip_by_value(numbers, -self._limit, self._limit)

    def network(self, observation):
        """observation [B, O] -> tanh(mu) [B, A]: the part that can be quantised."""
        return tf.tanh(_dense(self._features(observation), self._mu))

    def to_bounds(self, unit_action):
        """[-1, 1]^A -> the environment's bounds, [B, A]."""
        # The clip is for the last bit, which rounding may put outside.
        return tf.clip_by_value(self._middle + self._half * unit_action, self._low, self._high)

    def _features(self, x):
        for layer in self._hidden:
            x = tf.nn.relu(_dense(x, layer))
        return x


def _variables(name, layer):
    return [tf.Variable(array, name=f"{name}_{part}") for part, array in layer._asdict().items()]


def _dense(x, layer):
    kernel, bias = layer
    return tf.matmul(x, kernel) + bias
