"""Random policies for the tests of exported files, and what they must answer."""

import numpy as np

from tfsac.data.envs import to_bounds
from tfsac.deploy.formats.format import Deployable, round_inward
from tfsac.policy import Layer, Policy

LIMIT = 1e6


def random_policy(sizes, seed):
    """A Policy of sizes O, hidden ..., A."""
    rng = np.random.default_rng(seed)
    *hidden, mu = (_layer(rng, inputs, units) for inputs, units in zip(sizes, sizes[1:], strict=False))
    return Policy(tuple(hidden), mu, _layer(rng, sizes[-2], sizes[-1]))


def deployable(policy, low, high, states, limit=LIMIT, name=None, **facts):
    """A Deployable of the policy whose actions on the states are numpy's in float64; facts take others' place."""
    low, high = (np.asarray(x, np.float64) for x in (low, high))
    states = np.asarray(states, np.float32)
    inputs, outputs = policy.sizes[0], len(low)
    about = {
        "tfsac": "0",
        "git_revision": "none",
        "environment": {"id": "None-v0"},
        "observation": _named("s", inputs) | {"low": [-3.0] * inputs, "high": [3.0] * inputs, "limit": limit},
        "action": _named("a", outputs) | {"low": low.tolist(), "high": high.tolist()},
    }
    actions = expected_actions(policy, states, low, high, limit=limit)
    return Deployable(policy, *round_inward(low, high), limit, states, actions, 0.0, about | facts, name)


def expected_actions(policy, observations, low, high, dtype=np.float64, limit=LIMIT):
    """[N, A] in the environment's units, computed in numpy behind the exported files' guard."""
    guarded = np.clip(np.where(np.isnan(observations), 0, observations), -limit, limit).astype(dtype)
    low, high = (np.asarray(x, dtype) for x in (low, high))
    return to_bounds(policy.astype(dtype).deterministic(guarded), low, high)


def _layer(rng, inputs, units):
    limit = np.sqrt(6 / (inputs + units))
    kernel = rng.uniform(-limit, limit, [inputs, units])
    return Layer(kernel.astype(np.float32), rng.normal(0, 0.1, units).astype(np.float32))


def _named(letter, count):
    return {"names": [f"{letter}{i}" for i in range(count)], "units": [""] * count}
