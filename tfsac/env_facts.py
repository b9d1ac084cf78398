"""What an artefact says of the environment it was trained in: names, units, bounds, control rate."""

from importlib.metadata import version

import gymnasium
import numpy as np

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
}
_ACTIONS = {
    "Pendulum-v1": [("torque", "N m")],
    "Reacher-v5": [("joint0_torque", "N m"), ("joint1_torque", "N m")],
}


def describe(env):
    """Facts that JSON can hold.

    Args:
        env: from `make_env` with the environment's own action units.

    Returns:
        Dict: environment (id, control_rate_hz or None, versions), observation (names, units), action (names, units,
        low, high). Where nothing is known of names they count up and units are empty.
    """
    env_id = env.spec.id
    dt = getattr(env.unwrapped, "dt", None)
    low, high = (np.asarray(x, np.float64).tolist() for x in (env.action_space.low, env.action_space.high))
    return {
        "environment": {
            "id": env_id,
            "control_rate_hz": 1.0 / float(dt) if dt else None,
            "versions": {"gymnasium": gymnasium.__version__, "mujoco": version("mujoco")},
        },
        "observation": _named(_OBSERVATIONS.get(env_id), "observation", env.observation_space.shape[0]),
        "action": {**_named(_ACTIONS.get(env_id), "action", len(low)), "low": low, "high": high},
    }


def _named(known, word, count):
    known = known or [(f"{word}_{i}", "") for i in range(count)]
    return {"names": [name for name, _ in known], "units": [unit for _, unit in known]}
