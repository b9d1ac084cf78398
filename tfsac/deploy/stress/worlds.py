"""The menu of disturbances: what each level changes in the world that a policy was trained in.

Levels are those found in practice: Real World RL suite (delay 3, 6, 9 steps; noise; lost packets), rlrd (delays of a
wireless link), Open Duck Playground (0 to 60 ms), legged_gym and MuJoCo Playground (noise, masses, pushes); the
presets, lag, dead band and backlash are a choice of tfsac's.
"""

from typing import Any, NamedTuple

import numpy as np

from tfsac.data.envs import EnvSettings
from tfsac.data.imperfections.machine import known_factors, mujoco_parts, root_dofs

WIRELESS = (0.0, 0.3082, 0.5927, 0.0829, 0.0075, 0.0031, 0.0056)  # of 0, 1, 2 ... steps; rlrd's, rounded there
PRESETS = ("mild", "moderate", "severe")


class Level(NamedTuple):
    """One world.

    Attributes:
        value: of the disturbance, a number that levels are ordered by.
        label: the same with its unit, for people.
        env: the world, an `EnvSettings`.
        wrappers: put on before its imperfections, nearest to the machine; as `EnvSettings.wrappers`.
    """

    value: float
    label: str
    env: EnvSettings
    wrappers: tuple = ()


class Disturbance(NamedTuple):
    """One kind of disturbance, with its levels.

    Attributes:
        name: for JSON.
        title: for people.
        neutral: the value without any disturbance: 0, or 1 for a factor, or more than all levels.
        levels: by value.
        of_machine: whether it changes the machine itself, perhaps without effect on the task.
    """

    name: str
    title: str
    neutral: float
    levels: list
    of_machine: bool = False


class World(NamedTuple):
    """What the menu is made from.

    Attributes:
        env: that the policy was trained in, an `EnvSettings`.
        plain: such an environment, as `EnvSettings.make_plain` gives it.
        deviation, half_range: of each plain observation under the policy, [O], in its unit.
        rate: control rate in Hz, or None.
    """

    env: EnvSettings
    plain: Any
    deviation: np.ndarray
    half_range: np.ndarray
    rate: float | None


def time(steps, rate):
    """'2 steps (100 ms)'; without the time where the rate is not known."""
    word = f"{steps:g} step{'s' * (steps != 1)}"
    return f"{word} ({1e3 * steps / rate:.3g} ms)" if rate else word


def menu(world):
    """All disturbances that this world has, each a `Disturbance`; the presets, all at once, come last."""
    # The policy's row stays as wide as it is, whatever the delay.
    env = world.env._replace(history=world.env.remembered_actions)

    def setting(name, title, field, values, label, make=lambda value: value, neutral=0.0):
        levels = [Level(x, label(x), env._replace(**{field: make(x)})) for x in values]
        return Disturbance(name, title, neutral, levels)

    def wrapper(name, title, place, values, label, keywords, neutral=0.0):
        kind = f"tfsac.data.imperfections.{place}"
        levels = [Level(x, label(x), env, ((kind, keywords(x)),)) for x in values]
        return Disturbance(name, title, neutral, levels)

    def steps(x):
        return time(x, world.rate)

    def percent(of):
        return lambda x: f"{100 * x:g} % of {of}"

    def share(x):
        return {"share": x}

    disturbances = [
        setting("action_delay", "action delay", "action_delay", (1, 2, 3, 4, 5), steps),
        setting("observation_delay", "observation delay", "observation_delay", (1, 2, 3), steps),
        wrapper(
            "delay_jitter",
            "action delay that varies from step to step",
            "actions:JitteredDelay",
            (2, 3),
            lambda x: {2: "a wireless link's: mostly 1 or 2 steps, up to 6", 3: "0 to 3 steps, equally often"}[x],
            lambda x: {"probabilities": {2: WIRELESS, 3: (1, 1, 1, 1)}[x]},
        ),
        setting(
            "observation_noise",
            "sensor noise",
            "observation_noise",
            (0.01, 0.02, 0.05, 0.1),
            percent("each observation's deviation"),
            lambda x: _tuple(x * world.deviation),
        ),
        wrapper(
            "observation_bias",
            "sensor bias, fixed for an episode",
            "sensors:SensorBias",
            (0.02, 0.05, 0.1),
            percent("each observation's deviation"),
            lambda x: {"size": _tuple(x * world.deviation)},
        ),
        setting(
            "observation_bits",
            "sensor resolution",
            "observation_bits",
            (6, 8, 10, 12),
            lambda x: f"{x} bits of the range seen",
            lambda x: (x, _tuple(world.half_range)),
            neutral=64,
        ),
        setting("action_drop", "lost commands, the last one held", "action_drop", (0.05, 0.1, 0.3, 0.5), _percent),
        wrapper(
            "stuck_actions",
            "5 % losses that last",
            "actions:HoldLast",
            (1, 5, 10),
            steps,
            lambda x: {"probability": 0.05, "duration": x},
        ),
        wrapper(
            "action_noise", "noise on the action", "actions:ActionNoise", (0.05, 0.1, 0.3), percent("half-range"), share
        ),
        setting(
            "action_slew",
            "slew limit",
            "action_slew",
            (0.05, 0.1, 0.2),
            lambda x: f"{100 * x:g} % of the span in a step",
            neutral=1.0,
        ),
        wrapper(
            "actuator_lag", "first-order lag", "actions:ActuatorLag", (0.3, 0.6), lambda x: f"{x:g} kept a step", share
        ),
        wrapper("dead_band", "dead band", "actions:DeadBand", (0.05, 0.1, 0.2), percent("half-range"), share),
        wrapper("backlash", "backlash", "actions:Backlash", (0.05, 0.1, 0.2), percent("half-range"), share),
        wrapper(
            "weak_actuator",
            "weak actuator",
            "actions:WeakActuator",
            (0.6, 0.8, 0.9),
            lambda x: f"{100 * x:g} % of the command",
            lambda x: {"factor": x},
            neutral=1.0,
        ),
        *_machine(world, env, wrapper),
    ]
    return [
        *disturbances,
        Disturbance("unforeseen", "lag and backlash together, which no setting trains for", -1.0, _unforeseen(env)),
        Disturbance("all_at_once", "all at once", -1.0, presets(world, env)),
    ]


def _unforeseen(env):
    """Mild, moderate and severe: a motor that follows late, then gears with play."""
    levels = []
    for number, (lag, play) in enumerate(((0.3, 0.05), (0.6, 0.1), (0.8, 0.2))):
        kind = "tfsac.data.imperfections.actions"
        wrappers = ((f"{kind}:Backlash", {"share": play}), (f"{kind}:ActuatorLag", {"share": lag}))
        words = f"{PRESETS[number]} ({lag:g} kept a step, play of {100 * play:g} % of half-range)"
        levels.append(Level(number, words, env, wrappers))
    return levels


def _machine(world, env, wrapper):
    """Factors of what this machine has, and what pushes it."""
    titles = {
        "actuator_gear": "motor strength",
        "body_mass": "masses, with their inertia",
        "dof_damping": "damping of the joints",
        "dof_armature": "armature of the joints",
        "geom_friction": "friction of contacts",
    }
    parts = mujoco_parts(world.plain)
    if parts:
        fields = {field: title for field, title in titles.items() if np.any(getattr(parts[0], field))}
        factors = {field: (0.5, 0.8, 1.25, 2.0) for field in fields}
    else:
        fields = {field: field for field in known_factors(world.plain) if field != "dt"}
        factors = {field: (0.8, 0.9, 1.1, 1.25) for field in fields}
    for field, title in fields.items():
        levels = [Level(x, f"x {x:g}", env._replace(randomize=env.randomize | {field: x})) for x in factors[field]]
        yield Disturbance(field, title, 1.0, levels, of_machine=True)
    if parts and parts[0].nu:
        yield wrapper(
            "friction_loss",
            "dry friction in the joints",
            "machine:FrictionLoss",
            (0.01, 0.02, 0.05, 0.1),
            lambda x: f"{100 * x:g} % of the largest torque",
            lambda x: {"share": x},
        )
    if root_dofs(world.plain):
        yield wrapper(
            "push",
            "pushes, one in 2 s",
            "machine:Push",
            (0.1, 0.3, 1.0),
            lambda x: f"{x:g} m/s",
            lambda x: {"speed": x},
        )


def presets(world, env):
    """Mild, moderate and severe: all at once."""
    parts = mujoco_parts(world.plain)
    if parts:
        fields = [x for x in ("body_mass", "dof_damping", "geom_friction") if np.any(getattr(parts[0], x))]
    else:
        fields = [x for x in known_factors(world.plain) if x not in ("dt", "g")]  # neither varies from place to place

    def preset(number, delay, noise, bits, drop, strength, factor):
        changed = env._replace(
            action_delay=delay,
            observation_noise=_tuple(noise * world.deviation),
            observation_bits=(bits, _tuple(world.half_range)),
            action_drop=drop,
            randomize=env.randomize | dict.fromkeys(fields, (1 / factor, factor)),
        )
        weak = (("tfsac.data.imperfections.actions:WeakActuator", {"factor": strength}),)
        words = f"delay {delay}, noise {100 * noise:g} %, {bits} bits, {100 * drop:g} % lost, actuator {strength:g}"
        return Level(number, f"{PRESETS[number]} ({words}, machine up to {factor:g} off)", changed, weak)

    return [
        preset(0, (0, 1), 0.01, 12, 0.01, 0.95, 1.05),
        preset(1, (1, 2), 0.02, 10, 0.05, 0.9, 1.1),
        preset(2, (1, 3), 0.05, 8, 0.1, 0.8, 1.25),
    ]


def _percent(x):
    return f"{100 * x:g} %"


def _tuple(values):
    return tuple(float(x) for x in values)
