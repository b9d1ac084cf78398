"""Pendulum-v1 that takes 20 ms a step, as a simulator slower than the learner would: slow_pendulum:SlowPendulum-v0

env.kwargs = {'step_seconds': 0.005} makes it 5 ms.
"""

import time

import gymnasium as gym
from gymnasium.envs.classic_control.pendulum import PendulumEnv


class SlowPendulum(PendulumEnv):
    """Sleeps, and so leaves the core to others: four of them can run beside a learner on two cores."""

    def __init__(self, step_seconds=0.02, **kwargs):
        super().__init__(**kwargs)
        self.step_seconds = step_seconds

    def step(self, action):
        time.sleep(self.step_seconds)
        return super().step(action)


gym.register("SlowPendulum-v0", SlowPendulum, max_episode_steps=200)
