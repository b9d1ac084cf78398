"""Random policies for the tests of exported files, and what they must answer."""

import numpy as np

from tfsac.envs import to_bounds
from tfsac.numpy_policy import NumpyPolicy


def random_weights(sizes, seed):
    """Arrays by name, as `NumpyPolicy` takes them, for sizes O, hidden ..., A."""
    rng = np.random.default_rng(seed)
    *hidden, last = sizes[1:]
    layers = [(f"hidden_{i}", n) for i, n in enumerate(hidden)]
    weights = {}
    for inputs, (name, units) in zip(sizes, layers, strict=False):
        weights |= _dense(rng, name, inputs, units)
    for name in ("mu", "log_std"):
        weights |= _dense(rng, name, sizes[-2], last)
    return weights


def expected_actions(weights, observations, low, high, dtype=np.float64):
    """[N, A] in the environment's units, computed in numpy behind the exported files' guard."""
    policy = NumpyPolicy({name: x.astype(dtype) for name, x in weights.items()})
    guarded = np.clip(np.where(np.isnan(observations), 0, observations), -1e6, 1e6).astype(dtype)
    return np.array([to_bounds(policy.deterministic(x), low.astype(dtype), high.astype(dtype)) for x in guarded])


def _dense(rng, name, inputs, units):
    limit = np.sqrt(6 / (inputs + units))
    kernel = rng.uniform(-limit, limit, [inputs, units])
    return {
        f"{name}/kernel": kernel.astype(np.float32),
        f"{name}/bias": rng.normal(0, 0.1, units).astype(np.float32),
    }
