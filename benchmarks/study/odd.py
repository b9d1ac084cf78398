"""Pendulum-v1 with rewards as they should not be: what a run of it shows is known beforehand. See diagnosis_runs.py."""

import gymnasium
from gymnasium.wrappers import TransformReward

ODD_REWARDS = {"SmallRewards": 1e-3, "LargeRewards": 1e3}


def _with_rewards(factor):
    def make():
        env = gymnasium.make("Pendulum-v1").unwrapped  # its time limit is set anew, outside of what changes it
        return TransformReward(env, lambda reward: reward * factor)

    return make


for name, factor in ODD_REWARDS.items():
    gymnasium.register(f"Pendulum{name}-v0", entry_point=_with_rewards(factor), max_episode_steps=200)
