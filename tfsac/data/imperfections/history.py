"""The past, as inputs of a policy without memory: the last observations and the last actions that it commanded."""

from collections import deque

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box


class History(gym.Wrapper):
    """Observations [o_t, o_{t-1} ..., a_{t-1}, a_{t-2} ...], newest first: [N O + K A] float32.

    The actions are those commanded, not what a delay or a loss made of them: a device knows no others. They are in
    the environment's own units. At the start of an episode, all observations are its first, all actions the middle
    of their bounds.

    Args:
        actions: K, how many actions.
        observations: N, how many observations, of which one is the present one.

    Attributes:
        remembered: N and K.
    """

    def __init__(self, env, actions, observations=1):
        if observations > 1:  # oldest first, [N, O], padded with the first
            env = gym.wrappers.FrameStackObservation(env, observations, padding_type="reset")
        super().__init__(env)
        low, high = env.action_space.low, env.action_space.high
        self._middle = (0.5 * low + 0.5 * high).astype(np.float32)
        self._actions, self.remembered = deque(maxlen=actions), (observations, actions)
        size = int(np.prod(env.observation_space.shape)) + actions * len(low)
        self.observation_space = Box(-np.inf, np.inf, [size], np.float32)

    def reset(self, **kwargs):
        """As of any environment."""
        self._actions.extend([self._middle] * self._actions.maxlen)
        observation, info = self.env.reset(**kwargs)
        return self._shown(observation), info

    def step(self, action):
        """As of any environment."""
        self._actions.appendleft(np.array(action, np.float32))
        observation, *rest = self.env.step(action)
        return self._shown(observation), *rest

    def _shown(self, observation):
        newest_first = observation[::-1] if observation.ndim == 2 else observation
        return np.concatenate([newest_first.ravel(), *self._actions], dtype=np.float32)
