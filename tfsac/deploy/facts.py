"""What an artefact says of the environment it was trained in: names, units, bounds, control rate."""

import math
from importlib.metadata import version
from numbers import Real

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, flatdim

from tfsac.data.envs import EnvSettings, time_limit, wrappers_of
from tfsac.errors import UserError, require

# Gymnasium's documentation of the environment, as (name, unit).
_OBSERVATIONS = {
    "Pendulum-v1": [("cos(theta)", ""), ("sin(theta)", ""), ("theta_dot", "rad/s")],
    "Reacher-v5": [
        ("cos(joint0)", ""),
        ("cos(joint1)", ""),
        ("sin(joint0)", ""),
        ("sin(joint1)", ""),
        ("target_x", "m"),
        ("target_y", "m"),
        ("joint0_velocity", "rad/s"),
        ("joint1_velocity", "rad/s"),
        ("fingertip_x - target_x", "m"),
        ("fingertip_y - target_y", "m"),
    ],
    "tfsac.data.furuta:Furuta-v0": [("arm", "counts"), ("pendulum from upright", "counts")],
}
_ACTIONS = {
    "Pendulum-v1": [("torque", "N m")],
    "Reacher-v5": [("joint0_torque", "N m"), ("joint1_torque", "N m")],
    "tfsac.data.furuta:Furuta-v0": [("motor", "V")],
}
# Of gymnasium.wrappers those that step what they wrap once for each action; others may skip, as MaxAndSkipObservation.
_KEEP_TIME = (
    "ClipAction", "ClipReward", "DelayObservation", "DtypeObservation", "FilterObservation", "FlattenObservation",
    "FrameStackObservation", "OrderEnforcing", "PassiveEnvChecker", "RecordEpisodeStatistics", "RescaleAction",
    "RescaleObservation", "StickyAction", "TimeAwareObservation", "TimeLimit", "TransformAction",
    "TransformObservation", "TransformReward",
)  # fmt: skip


def describe(env, settings):
    """Facts that JSON can hold.

    Args:
        env: from `EnvSettings.make` with the environment's own action units.
        settings: its `EnvSettings`; None for an environment that was passed as an object.

    Returns:
        Dict: environment (id with its module or None, kwargs, wrappers, max_episode_steps, time_limit and
        control_rate_hz or None, versions, and its imperfections), observation (names, units), action (names, units,
        low, high). A rate that is unknown for a wrapper has control_rate_unknown, which says why. If the policy
        remembers, also history: how many observations (the present one included) and actions, newest first, and the
        actions' values after a reset. Unknown names are numbered, unknown units empty.
    """
    rate, unknown = control_rate(env)
    plain = settings is not None and not settings.wrappers  # a wrapper may give other observations and actions
    documented_id = settings.id if plain else None
    size, low, high = env.observation_space.shape[0], env.action_space.low, env.action_space.high
    past = _history(settings, env) if settings else None
    sensors = (size - past["actions"] * len(low)) // past["observations"] if past else size
    sensed = _named(_OBSERVATIONS.get(documented_id) or _keys(env), "observation", sensors)
    acted = _named(_ACTIONS.get(documented_id), "action", len(low))
    return {
        "environment": {
            "id": settings.id if settings else None,
            "kwargs": dict(settings.kwargs) if settings else {},
            "wrappers": list(settings.wrappers) if settings else [],
            "max_episode_steps": settings.max_episode_steps if settings else None,
            "time_limit": time_limit(env),
            "control_rate_hz": rate,
            **({"control_rate_unknown": unknown} if unknown else {}),
            "versions": {"gymnasium": gymnasium.__version__, "mujoco": version("mujoco")},
            **(_imperfections(settings) if settings else {}),
        },
        "observation": _with_past(sensed, acted, past) if past else sensed,
        "action": {
            **acted,
            "low": np.asarray(low, np.float64).tolist(),
            "high": np.asarray(high, np.float64).tolist(),
        },
        **({"history": past} if past else {}),
    }


def control_period(env):
    """Seconds of one step of the bare environment, as its attribute `dt` says; None where that is no such number."""
    dt = getattr(env.unwrapped, "dt", None)
    return float(dt) if isinstance(dt, Real) and math.isfinite(dt) and dt > 0 else None


def control_rate(env):
    """Actions in a second, None if unknown; and why, if a wrapper is the reason, else None."""
    period = control_period(env)
    for kind in map(type, wrappers_of(env)):
        ours = kind.__module__.startswith("tfsac.")
        keeps_time = ours or (kind.__module__.startswith("gymnasium.wrappers.") and kind.__name__ in _KEEP_TIME)
        if period and not keeps_time:
            return None, f"{kind.__name__} may take several steps for one action"
    return (1.0 / period if period else None), None


def environment(facts, source):
    """The `EnvSettings` in an artefact's facts, which may come from anyone.

    A file of version 0.1 names the id alone.

    Raises:
        UserError: this is not what tfsac wrote; source names the artefact.
    """
    said = facts.get("environment") if isinstance(facts, dict) else None
    try:
        require(isinstance(said, dict) and "id" in said, "environment: expected its id")
        return EnvSettings.read(said)
    except UserError as error:
        raise UserError(f"{source}: its facts are not what tfsac.export wrote: {error}") from error


def _imperfections(settings):
    """The imperfections in the settings that are not at their defaults."""
    plain = ("id", "kwargs", "wrappers", "training_kwargs", "training_wrappers", "max_episode_steps")
    default = EnvSettings()._asdict()
    return {k: x for k, x in settings._asdict().items() if k not in plain and x != default[k]}


def _history(settings, env):
    """What the policy sees of the past; None if nothing."""
    if settings.observation_history == 1 and settings.remembered_actions == 0:
        return None
    middle = 0.5 * np.asarray(env.action_space.low, np.float64) + 0.5 * np.asarray(env.action_space.high, np.float64)
    return {
        "observations": settings.observation_history,
        "actions": settings.remembered_actions,
        "order": "newest first",
        "fill": middle.tolist(),
    }


def _with_past(sensed, acted, past):
    """Names and units of all that the policy sees."""
    names, units = list(sensed["names"]), list(sensed["units"])
    for steps in range(1, past["observations"]):
        names += [f"{name}, {steps} before" for name in sensed["names"]]
        units += sensed["units"]
    for steps in range(1, past["actions"] + 1):
        names += [f"{name} commanded, {steps} before" for name in acted["names"]]
        units += acted["units"]
    return {"names": names, "units": units}


def _named(names, word, count):
    if names is None or len(names) != count:
        names = [(f"{word}_{i}", "") for i in range(count)]
    return {"names": [name for name, _ in names], "units": [unit for _, unit in names]}


def _keys(env):
    """Names from the keys of a Dict observation, in the order in which it is flattened; None where there is none."""
    for wrapper in wrappers_of(env):
        space = wrapper.env.observation_space
        if isinstance(space, Dict):
            return [
                (str(key) if part.shape == () else f"{key}_{i}", "")
                for key, part in space.items()
                for i in range(flatdim(part))
            ]
    return None
