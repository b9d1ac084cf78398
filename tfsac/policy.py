"""The trained policy as one value: an agent gives it, a checkpoint keeps it, and every export is made from it.

It also acts, in numpy: one observation takes about 20 us, a tenth of TensorFlow's dispatch alone.
"""

import re
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tfsac.errors import UserError, require

# Bounds on log_std (2018b's code): a standard deviation between 2e-9 and 7.4 before the tanh.
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class Layer(NamedTuple):
    """x -> x kernel + bias."""

    kernel: np.ndarray  # [inputs, units]
    bias: np.ndarray  # [units]

    def __call__(self, x):
        return x @ self.kernel + self.bias


class Policy(NamedTuple):
    """pi(.|s): layers with ReLU between them, then two heads. Whatever else a network has folds into these.

    Observations are in the environment's units, actions in [-1, 1]^A.

    Attributes:
        hidden: the ReLU layers.
        mu, log_std: the heads, [units, A] and [A]: the Gaussian before the tanh. log_std is clipped when it is used.
    """

    hidden: tuple[Layer, ...]
    mu: Layer
    log_std: Layer

    def deterministic(self, observation):
        """tanh(mu), the median of each coordinate: [O] -> [A] in [-1, 1]; or [B, O] -> [B, A]."""
        return np.tanh(self.mu(self._features(observation)))

    def sample(self, observation, noise):
        """tanh(mu + exp(log_std) eps): [O], [A] -> [A] in [-1, 1]; or [B, O], [B, A] -> [B, A]."""
        features = self._features(observation)
        log_std = np.clip(self.log_std(features), LOG_STD_MIN, LOG_STD_MAX)
        return np.tanh(self.mu(features) + np.exp(log_std) * noise)

    @property
    def layers(self):
        """The layers of the deterministic action in order, mu last."""
        return (*self.hidden, self.mu)

    @property
    def sizes(self):
        """(O, units of each hidden layer ..., A)."""
        return (self.layers[0].kernel.shape[0], *(layer.bias.size for layer in self.layers))

    @property
    def parameters(self):
        """How many numbers the deterministic action needs."""
        return sum(layer.kernel.size + layer.bias.size for layer in self.layers)

    @property
    def multiply_adds(self):
        """Of one deterministic action."""
        return sum(layer.kernel.size for layer in self.layers)

    def scaled_input(self, scale):
        """The policy that answers s as this one answers scale * s, for scale [O]; rounded once, from float64."""
        scale = np.asarray(scale, np.float64)[:, None]

        def scaled(layer):
            return layer._replace(kernel=(scale * layer.kernel).astype(np.float32))

        if self.hidden:
            return self._replace(hidden=(scaled(self.hidden[0]), *self.hidden[1:]))
        return self._replace(mu=scaled(self.mu), log_std=scaled(self.log_std))

    def astype(self, dtype):
        """The same policy in another precision: in float64 it tells how much of an error is float32's rounding."""
        hidden, mu, log_std = self
        cast = [Layer(*(array.astype(dtype) for array in layer)) for layer in (*hidden, mu, log_std)]
        return Policy(tuple(cast[:-2]), *cast[-2:])

    def arrays(self):
        """Its arrays by name: hidden_0/kernel, hidden_0/bias, ..., mu/kernel, ..., log_std/bias."""
        named = {f"hidden_{i}": layer for i, layer in enumerate(self.hidden)}
        named |= {"mu": self.mu, "log_std": self.log_std}
        return {f"{name}/{part}": array for name, layer in named.items() for part, array in layer._asdict().items()}

    @classmethod
    def from_arrays(cls, arrays):
        """Takes back what `arrays` gave.

        Raises:
            UserError: a name too many or missing, shapes that do not fit each other, or numbers that are not finite.
        """
        count = sum(bool(re.fullmatch(r"hidden_\d+/kernel", name)) for name in arrays)
        names = [*(f"hidden_{i}" for i in range(count)), "mu", "log_std"]
        expected = {f"{name}/{part}" for name in names for part in Layer._fields}
        wrong = sorted(expected ^ set(arrays))
        require(not wrong, f"a policy of {count} hidden layers: {wrong[0] if wrong else ''} is missing or unexpected")
        layers = [Layer(arrays[f"{name}/kernel"], arrays[f"{name}/bias"]) for name in names]
        for name, layer in zip(names, layers, strict=True):
            for part, array in layer._asdict().items():
                if not np.issubdtype(array.dtype, np.floating) or not np.all(np.isfinite(array)):
                    raise UserError(f"the policy's {name}/{part} holds numbers that are not finite")
        *hidden, mu, log_std = layers
        sound = all(x.kernel.ndim == 2 and x.bias.shape == x.kernel.shape[1:] for x in layers)
        chains = [[*hidden, mu], [*hidden, log_std]]
        sound = sound and all(a.bias.size == b.kernel.shape[0] for chain in chains for a, b in pairwise(chain))
        require(sound and mu.kernel.shape == log_std.kernel.shape, "the policy's layers do not fit each other")
        return cls(tuple(hidden), mu, log_std)

    def _features(self, x):
        for layer in self.hidden:
            x = np.maximum(layer(x), 0)
        return x
