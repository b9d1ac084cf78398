"""Gymnasium's Pendulum as a page's task: its constants and starts; the equations are in pendulum.js."""

import numpy as np

from tfsac.deploy.demo import episodes
from tfsac.deploy.demo.channel import Channel
from tfsac.errors import require

CONSTANTS = ("g", "m", "l", "dt", "max_speed", "max_torque")
VERIFIED = 200  # random steps that the equations are held to


def describe(act, env):
    """What the page needs to know; the arguments and the error are those of `mujoco_task.describe`."""
    bare = env.unwrapped
    constants = {name: float(getattr(bare, name)) for name in CONSTANTS}
    channel = Channel(env)
    drawn = ", ".join(channel.drawn)
    require(not drawn, f"the page's pendulum is the same in all episodes, and env.randomize draws its {drawn}")
    _verify(channel.machine, constants)
    starts = []
    for seed in range(episodes.STARTS):
        env.reset(seed=seed)
        starts.append({"state": [float(x) for x in bare.state], "delay": channel.delay()})
    whole, steady = episodes.golden(act, env, lambda: {"state": np.array(bare.state)})
    return {
        "kind": "pendulum",
        "starts": starts,
        "channel": channel.describe(),
        "episodes": episodes.packed(whole, channel, forced=not steady),
        "single_steps": None,
        "spread": episodes.spread(whole, channel),
        "reward": {"kind": "pendulum"},
        "labels": None,
        "pendulum": constants,
    }


def _verify(env, constants):
    """Holds the environment to the equations that the page has: a wrapper may do more than these say."""
    g, m, l, dt, max_speed, max_torque = constants.values()  # noqa: E741 (Gymnasium's names)
    rng = np.random.default_rng(0)
    shown, _ = env.reset(seed=0)
    theta, speed = env.unwrapped.state
    for _ in range(VERIFIED):
        start = np.array([np.cos(theta), np.sin(theta), speed], np.float32)
        require(np.array_equal(shown, start), "the observation is not Pendulum's own: something stands between")
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        torque = np.clip(action, -max_torque, max_torque)[0]  # float32, as what is computed of it alone
        angle = (theta + np.pi) % (2 * np.pi) - np.pi
        cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = speed + (3 * g / (2 * l) * np.sin(theta) + 3.0 / (m * l**2) * torque) * dt
        speed = np.clip(speed, -max_speed, max_speed)
        theta = theta + speed * dt
        shown, reward, _, truncated, _ = env.step(action)
        same = np.array_equal(env.unwrapped.state, [theta, speed]) and reward == -cost
        require(same, "the step is not Pendulum's own: something stands between")
        if truncated:
            shown, _ = env.reset()
        theta, speed = env.unwrapped.state
