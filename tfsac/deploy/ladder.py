"""The checks of every exported file: it is compared with the policy that was trained."""

import time
from typing import Any, NamedTuple

import numpy as np

from tfsac.data.envs import to_bounds
from tfsac.data.rollout import repeats_starts, rollout
from tfsac.statistics import confidence_interval

WARM_UP, TIMED = 200, 2_000  # calls
ROLLOUTS = 3  # of `make_reference`


class Behaviour(NamedTuple):
    """The trained policy, acting deterministically or by samples.

    Attributes:
        act: observation [O] -> action [A] in the environment's units.
        actions: on the states, with the noise if it samples, [N, A].
        returns: one for each episode.
    """

    act: Any
    actions: np.ndarray
    returns: list


class Reference(NamedTuple):
    """The policy that was trained, in numpy and without the files' guard, and the task for all measurements.

    Attributes:
        deterministic, sampling: two `Behaviour`s.
        states: observations from replay, [N, O].
        noise: N(0, I), [N, A].
        env: takes actions in its own units.
        low, high, limit, tolerance: see `format.Deployable`.
        worth: the unit for differences of return: the policy's gain on uniformly random actions, or the return's
            standard deviation if that is larger. A constant added to the rewards changes neither.
        repeats_starts: whether a reset with an equal seed gives an equal observation.
    """

    deterministic: Behaviour
    sampling: Behaviour
    states: np.ndarray
    noise: np.ndarray
    env: Any
    low: np.ndarray
    high: np.ndarray
    limit: float
    tolerance: float
    worth: float
    repeats_starts: bool


def make_reference(deployable, env, episodes):
    """Runs the trained policy in the environment: see `Reference`."""
    policy, states = deployable.policy, deployable.states
    low, high = env.action_space.low, env.action_space.high
    noise = np.random.default_rng(0).standard_normal([len(states), len(low)], np.float32)

    def deterministic(observation):
        return to_bounds(policy.deterministic(observation), low, high)

    def sample(observation, noise):
        return to_bounds(policy.sample(observation, noise), low, high)

    def behave(act, actions):
        return Behaviour(act, actions, rollout(act, env, episodes)[0])

    rng = np.random.default_rng(2)
    aimless = rollout(lambda _: rng.uniform(low, high).astype(low.dtype), env, episodes)[0]
    plain = behave(deterministic, deployable.actions)
    gain = float(np.mean(plain.returns) - np.mean(aimless))
    return Reference(
        plain,
        behave(with_noise(sample, len(low)), sample(states, noise)),
        states,
        noise,
        env,
        deployable.low,
        deployable.high,
        deployable.limit,
        deployable.tolerance,
        max(abs(gain), float(np.std(plain.returns, ddof=1))),
        repeats_starts(env),
    )


def with_noise(act, action_dim):
    """(observation, noise) -> action as observation -> action, with noise from N(0, 1) on a fixed seed."""
    rng = np.random.default_rng(1)
    return lambda observation: act(observation, rng.standard_normal(action_dim, np.float32))


def measure(act, reference, samples=False):
    """Error, extremes, return and latency of a file.

    Args:
        act: observation [O] -> action [A]; if it samples, (observation [O], noise [A]) -> action [A].
        reference: a `Reference`.
        samples: whether act samples.

    Returns:
        Dict: error (on replay states) and extreme_error, both `_error`; inside_bounds; guarded, whether it answers each
        extreme observation bit for bit as the same one behind the guard; return and return_difference, None if an
        action was not finite, since no environment takes those; latency_us.
    """
    expected = reference.sampling if samples else reference.deterministic
    size = len(reference.low)

    def quiet(observation):
        return act(observation, np.zeros(size, np.float32)) if samples else act(observation)

    rows = zip(reference.states, reference.noise, strict=True) if samples else zip(reference.states, strict=True)
    actions = np.array([act(*row) for row in rows])
    extremes = extreme_observations(reference.states.shape[1])
    extreme_actions = np.array([quiet(x) for x in extremes])
    guarded = np.clip(np.where(np.isnan(extremes), 0, extremes), -reference.limit, reference.limit)
    measured = {
        "error": _error(actions, expected.actions, reference, reference.states),
        "extreme_error": _error(
            extreme_actions, [reference.deterministic.act(x) for x in guarded], reference, extremes
        ),
        "inside_bounds": all(
            bool(np.all((x >= reference.low) & (x <= reference.high)))  # NaN is not
            for x in (actions, extreme_actions)
        ),
        "guarded": np.array_equal(extreme_actions, [quiet(x) for x in guarded]),
        "return": None,
        "return_difference": None,
        "latency_us": latency(quiet, reference.states[0]),
    }
    if np.all(np.isfinite(actions)):
        returns = rollout(with_noise(act, size) if samples else act, reference.env, len(expected.returns))[0]
        measured["return"] = {
            "mean": float(np.mean(returns)),
            "std": float(np.std(returns, ddof=1)),
            "episodes": len(returns),
        }
        interval = confidence_interval(np.subtract(returns, expected.returns))
        measured["return_difference"] = dict(zip(("mean", "low", "high"), interval, strict=True))
    return measured


def extreme_observations(observation_dim):
    """Observations that no sensor should give, in all coordinates together and in each alone: [N, O] float32."""
    values = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e6, -1e6, 1e-40, -0.0], np.float32)
    together = np.repeat(values[:, None], observation_dim, axis=1)
    alone = np.zeros([len(values) * observation_dim, observation_dim], np.float32)
    alone[np.arange(len(alone)), np.tile(np.arange(observation_dim), len(values))] = np.repeat(values, observation_dim)
    return np.concatenate([together, alone])


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


def check(form, measured, reference):
    """Compares a file's measurements with the limits of its format.

    The first check is the error of each action on the same states. A wrong weight, layer, bound or guard shows there,
    and nothing later in an episode can hide or imitate it. The guard is held to itself: the file answers what no sensor
    gives as it answers 0 and the limit, which needs no tolerance.

    The last check is the return, for faults that the replay's states do not show. It fails if the whole 95 % interval
    of the paired difference lies below a loss of `Format.allowed_loss` times the return's worth. (A fraction of the
    mean will not do: a constant in the reward may bring the mean near zero.) A difference alone is no fault: if
    contacts make rounding grow tenfold every few steps, two exact copies end in different episodes. Losses below the
    limit are not found, nor those that this number of episodes cannot tell from chance; the report shows the interval.

    Args:
        form: the file's `Format`.
        measured: from `measure`.
        reference: a `Reference`.

    Returns:
        Whether it passed, by what was checked.
    """
    error, difference = measured["error"], measured["return_difference"]
    sound = {"finite and inside the bounds": measured["inside_bounds"]}
    sound["guard"] = measured["guarded"]
    sound["action error"] = all(
        error[key] is not None and (limit is None or error[key] <= limit)
        for key, limit in allowed_error(form, reference).items()
    )
    sound["return"] = difference is not None and difference["high"] >= -form.allowed_loss * reference.worth
    return sound


def allowed_error(form, reference):
    """Limits of a file's action errors on the states, in % of the span: max, mean; None for no limit.

    A policy that switches between its bounds answers neighbouring states with opposite actions; any rounding moves some
    state across the line, by the whole span. So the limits depend on the policy. Noise of `Format.noise` on the
    observations is as harmless as rounding; the trained policy's own actions are measured with this noise. If the noise
    alone moves an action beyond `Format.largest_error`, the largest error says nothing about the file and has no limit.
    The limit of the mean is the noise's mean error, if that is above `Format.mean_error`. A wrong weight or layer also
    changes actions far from the line, and more of them.
    """
    if form.largest_error is form.mean_error is None:
        return {"max": 100 * reference.tolerance, "mean": None}
    states, act = reference.states, reference.deterministic.act
    noise = form.noise * states.std(axis=0) * np.random.default_rng(3).standard_normal(states.shape)
    moved = _error(act((states + noise).astype(np.float32)), reference.deterministic.actions, reference, states)
    largest = None if form.largest_error is None or moved["max"] > 100 * form.largest_error else form.largest_error
    return {"max": largest and 100 * largest, "mean": max(100 * form.mean_error, moved["mean"])}


def _error(actions, expected, reference, observations):
    """Distance of actions in % of the span: max, mean, and the observation with the largest, as JSON can hold it.

    If low equals high, there is only one action, which the bounds check; its error is 0.
    """
    span = np.subtract(reference.high, reference.low, dtype=np.float64)
    distance = np.abs(np.subtract(actions, expected, dtype=np.float64))
    error = 100 * np.where(span > 0, distance / np.where(span > 0, span, 1), 0)
    worst = observations[int(np.argmax(error.max(axis=1)))]  # NaN counts as the largest
    finite = bool(np.all(np.isfinite(error)))
    return {
        "max": float(error.max()) if finite else None,
        "mean": float(error.mean()) if finite else None,
        "worst": [str(x) for x in worst],
    }
