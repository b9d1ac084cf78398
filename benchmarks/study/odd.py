"""Pendulum-v1 and `SAC` as they should not be: what a run of them shows is known beforehand. See diagnosis_runs.py."""

import gymnasium
import numpy as np
from gymnasium.wrappers import TransformObservation, TransformReward

from tfsac.algorithms.sac import SAC

ODD_OBSERVATIONS = {"LargeObservation": (1, 1, 1000), "TinyObservation": (1, 1, 0.001)}  # factors of cos, sin, rad/s
ODD_REWARDS = {"SmallRewards": 1e-3, "LargeRewards": 1e3}


class AlphaBackwards(SAC):
    """Alpha rises where the entropy is above its target, and falls where it is below."""

    def update_temperature(self, log_prob):
        return super().update_temperature(-2 * self.target_entropy - log_prob)  # what is missing becomes a surplus


def _pendulum():
    return gymnasium.make("Pendulum-v1").unwrapped  # its time limit is set anew, outside of what changes it


def _with_rewards(factor):
    return lambda: TransformReward(_pendulum(), lambda reward: reward * factor)


def _with_observations(factors):
    space = gymnasium.spaces.Box(-np.inf, np.inf, [len(factors)])
    return lambda: TransformObservation(_pendulum(), lambda observation: observation * np.float32(factors), space)


for name, factor in ODD_REWARDS.items():
    gymnasium.register(f"Pendulum{name}-v0", entry_point=_with_rewards(factor), max_episode_steps=200)
for name, factors in ODD_OBSERVATIONS.items():
    gymnasium.register(f"Pendulum{name}-v0", entry_point=_with_observations(factors), max_episode_steps=200)
