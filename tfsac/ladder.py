"""The ladder of checks: what every exported artefact is measured by, beside the policy that was trained."""

import math
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfsac.envs import to_bounds
from tfsac.networks import policy_network
from tfsac.policy import sample_with_log_prob
from tfsac.rollout import rollout
from tfsac.saved_model import ExportedPolicy

WARM_UP, TIMED = 200, 2_000  # calls
# What an artefact may differ from the Keras policy by: the action in parts of its span, the mean return in parts of it.
EXACT_ACTION, EXACT_RETURN, CLOSE_RETURN = 1e-5, 1e-3, 1e-2


class Reference(NamedTuple):
    """The Keras policy behind the same guard, and the task that all artefacts are measured on.

    Attributes:
        act: observation [O] -> action [A] in the environment's units.
        states: observations from replay, [N, O].
        noise: N(0, I), [N, A], for the artefact that samples.
        actions: of `act` on the states, [N, A].
        sampled: actions on the states with the noise, [N, A].
        env: takes actions in its own units.
        returns: of `act`, one an episode.
    """

    act: callable
    states: np.ndarray
    noise: np.ndarray
    actions: np.ndarray
    sampled: np.ndarray
    env: object
    returns: list

    @property
    def low(self):
        """Least action, [A]."""
        return self.env.action_space.low

    @property
    def high(self):
        """Largest action, [A]."""
        return self.env.action_space.high


def make_reference(weights, states, env, episodes):
    """Builds the Keras policy from its weights, and runs it: see `Reference`."""
    network = _keras_policy(weights)
    noise = np.random.default_rng(0).standard_normal([len(states), len(env.action_space.low)], np.float32)

    def bounded(unit_action):
        return to_bounds(np.asarray(unit_action), env.action_space.low, env.action_space.high)

    @tf.function(input_signature=[tf.TensorSpec([None, states.shape[1]])])
    def parameters(observation):
        return network(ExportedPolicy.guard(observation))

    def act(observation):
        return bounded(tf.tanh(parameters(observation[None])[0])[0])

    mu, log_std = parameters(states)
    actions, sampled = bounded(tf.tanh(mu)), bounded(sample_with_log_prob(mu, log_std, noise)[0])
    return Reference(act, states, noise, actions, sampled, env, rollout(act, env, episodes)[0])


def measure(act, reference, sample=False):
    """Error, extremes, return and latency of an artefact.

    Args:
        act: observation [O] -> action [A]; for a sampling artefact (observation [O], noise [A]) -> action [A].
        reference: a `Reference`.
        sample: whether act samples.

    Returns:
        Dict: error (on replay states) and extreme_error, both `_error`; inside_bounds; return and return_difference;
        latency_us.
    """
    low, high, noise = reference.low, reference.high, np.zeros_like(reference.low)
    if sample:
        rng = np.random.default_rng(1)
        actions = [act(*pair) for pair in zip(reference.states, reference.noise, strict=True)]
        expected = reference.sampled

        def quiet(observation):
            return act(observation, noise)

        def drawn(observation):
            return act(observation, rng.standard_normal(len(low), np.float32))
    else:
        actions, expected, quiet, drawn = [act(x) for x in reference.states], reference.actions, act, act
    extremes = extreme_observations(reference.states.shape[1])
    extreme_actions = np.array([quiet(x) for x in extremes])
    returns = rollout(drawn, reference.env, len(reference.returns))[0]
    everything = np.concatenate([actions, extreme_actions])
    return {
        "error": _error(actions, expected, low, high, reference.states),
        "extreme_error": _error(extreme_actions, [reference.act(x) for x in extremes], low, high, extremes),
        "inside_bounds": bool(np.all((everything >= low) & (everything <= high))),  # NaN is not
        "return": {"mean": float(np.mean(returns)), "std": float(np.std(returns, ddof=1)), "episodes": len(returns)},
        "return_difference": paired_difference(returns, reference.returns),
        "latency_us": latency(quiet, reference.states[0]),
    }


def extreme_observations(observation_dim):
    """Observations that no sensor should give, every coordinate at once and each one alone: [N, O] float32."""
    values = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e6, -1e6, 1e-40, -0.0], np.float32)
    together = np.repeat(values[:, None], observation_dim, axis=1)
    alone = np.zeros([len(values) * observation_dim, observation_dim], np.float32)
    alone[np.arange(len(alone)), np.tile(np.arange(observation_dim), len(values))] = np.repeat(values, observation_dim)
    return np.concatenate([together, alone])


def paired_difference(returns, reference):
    """Mean difference of returns on equal start states, with its 95 % interval (normal approximation)."""
    difference = np.subtract(returns, reference)
    half = 1.96 * float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else math.inf
    mean = float(difference.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half}


def latency(act, observation):
    """Microseconds of one call with one observation: p50, p99, max; meaningful on a quiet machine only."""
    for _ in range(WARM_UP):
        act(observation)
    times = []
    for _ in range(TIMED):
        begin = time.perf_counter_ns()
        act(observation)
        times.append((time.perf_counter_ns() - begin) / 1e3)
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99)), "max": max(times)}


def check(kind, measured, reference):
    """Holds an artefact's measurements to what its kind promises.

    Args:
        kind: of `tflite.KINDS`, or 'saved_model', or 'c'.
        measured: from `measure`.
        reference: a `Reference`.

    Returns:
        Whether it passed, by what was checked.
    """
    found = {"finite and inside the bounds": measured["inside_bounds"]}
    size = abs(float(np.mean(reference.returns)))
    difference = measured["return_difference"]
    if kind in ("float32", "saved_model", "c", "sample"):
        found["action error"] = measured["error"]["max"] <= 100 * EXACT_ACTION
    if kind in ("float32", "saved_model", "c"):
        found["return"] = abs(difference["mean"]) <= EXACT_RETURN * size
    if kind in ("float16", "dynamic"):
        insignificant = difference["low"] <= 0 <= difference["high"]
        found["return"] = insignificant or abs(difference["mean"]) < CLOSE_RETURN * size
    return found


def _error(actions, expected, low, high, observations):
    """Distance of actions in % of the span: max, mean, and the observation with the largest, as JSON can hold it."""
    error = 100 * np.abs(np.subtract(actions, expected, dtype=np.float64)) / np.subtract(high, low, dtype=np.float64)
    worst = observations[int(np.argmax(error.max(axis=1)))]
    return {"max": float(error.max()), "mean": float(error.mean()), "worst": [str(x) for x in worst]}


def _keras_policy(weights):
    hidden = [weights[f"hidden_{i}/bias"].size for i in range(len(weights) // 2 - 2)]
    network = policy_network(weights["hidden_0/kernel"].shape[0], weights["mu/bias"].size, hidden, seed=0)
    for variable in network.variables:
        variable.assign(keras.ops.convert_to_tensor(weights[variable.path]))
    return network
