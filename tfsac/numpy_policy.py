"""The policy in numpy, for acting: one observation takes about 20 us, a tenth of TensorFlow's dispatch alone."""

import numpy as np

# Bounds on log_std (2018b's code): a standard deviation between 2e-9 and 7.4 before the tanh.
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class NumpyPolicy:
    """A copy of the policy network's weights that answers one observation.

    Args:
        weights: arrays by name: hidden_0/kernel, hidden_0/bias, ..., mu/kernel, ..., log_std/bias. By name, since Keras
            orders the two heads as it likes.
    """

    def __init__(self, weights):
        def layer(name):
            return weights[f"{name}/kernel"], weights[f"{name}/bias"]

        self._hidden = [layer(f"hidden_{i}") for i in range(len(weights) // 2 - 2)]
        self._mu, self._log_std = layer("mu"), layer("log_std")

    def deterministic(self, observation):
        """tanh(mu): [O] -> [A] in [-1, 1]."""
        kernel, bias = self._mu
        return np.tanh(self._features(observation) @ kernel + bias)

    def sample(self, observation, noise):
        """tanh(mu + exp(log_std) eps): [O], [A] -> [A] in [-1, 1]."""
        features = self._features(observation)
        mu, log_std = (features @ kernel + bias for kernel, bias in (self._mu, self._log_std))
        return np.tanh(mu + np.exp(np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)) * noise)

    def _features(self, x):
        for kernel, bias in self._hidden:
            x = np.maximum(x @ kernel + bias, 0)
        return x


def for_raw_observations(weights, observation_scale):
    """Folds observation_scale into the first layer: the result answers s as the given weights s * observation_scale.

    Args:
        weights: arrays by name, as `NumpyPolicy` takes them.
        observation_scale: one number for each observation, [O]; None stands for 1.
    """
    if observation_scale is None:
        return weights
    return weights | {"hidden_0/kernel": np.float32(observation_scale)[:, None] * weights["hidden_0/kernel"]}
