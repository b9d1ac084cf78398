"""Pendulum-v1 that takes 20 ms a step, as a simulator slower than the learner would: slow_pendulum:SlowPendulum-v0"""

import time

import gymnasium as gym
from gymnasium.envs.classic_control.pendulum import PendulumEnv

STEP_SECONDS = 0.02


class SlowPendulum(PendulumEnv):
    """Sleeps, and so leaves the core to others: four of them can run beside a learner on two cores."""

    def step(self, action):
        time.sleep(STEP_SECONDS)
        return super().step(action)


gym.register("SlowPendulum-v0", SlowPendulum, max_episode_steps=200)
