"""What may happen to an observation between the machine and the policy. Observations are flat, float32 [O]."""

from collections import deque

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from tfsac.data.imperfections.seeded import Seeded, drawn, one_each
from tfsac.errors import require


class SensorImperfection(Seeded):
    """Base: the policy sees `shown` instead of the true observation."""

    def __init__(self, env):
        if isinstance(env.observation_space, Dict):
            env = gym.wrappers.FlattenObservation(env)
        super().__init__(env)
        self.observation_space = Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def reset(self, **kwargs):
        """As of any environment."""
        observation, info = super().reset(**kwargs)
        return self.shown(observation).astype(np.float32), info

    def step(self, action):
        """As of any environment."""
        observation, *rest = self.env.step(action)
        return self.shown(observation).astype(np.float32), *rest

    def shown(self, observation):
        """What the policy sees if `observation` is true; both [O]."""
        raise NotImplementedError


class SensorNoise(SensorImperfection):
    """Gaussian noise, new in every step.

    Args:
        deviation: standard deviation in the observations' units, a number or a tuple of one each.

    Attributes:
        deviation: the same as float32, [O].
    """

    def __init__(self, env, deviation):
        super().__init__(env)
        size = self.observation_space.shape[0]
        self.deviation = np.broadcast_to(one_each("env.observation_noise", deviation, size), [size])

    def shown(self, observation):
        """See `SensorImperfection`."""
        return observation + self.deviation * self.rng.standard_normal(len(observation), np.float32)


class SensorBias(SensorImperfection):
    """An error that is drawn for each episode and stays: up or down by `size`, in the observations' units."""

    def __init__(self, env, size):
        super().__init__(env)
        self._size = one_each("SensorBias", tuple(size) if isinstance(size, list) else size, len(self._zeros()))

    def begin(self):
        """See `Seeded`."""
        self._bias = self._size * self.rng.choice(np.float32([-1, 1]), len(self._zeros()))

    def shown(self, observation):
        """See `SensorImperfection`."""
        return observation + self._bias

    def _zeros(self):
        return np.zeros(self.observation_space.shape, np.float32)


class Quantised(SensorImperfection):
    """Observations are rounded to multiples of a step, like an encoder's or a converter's.

    Args:
        bits: a number: the step is the range of the observation space divided by 2^bits. Or (bits, range): the step is
            2 range / 2^bits, for a range from -range to range, one number or one each.
        space: the observation space with that range; None stands for env's.

    Attributes:
        width: of a step, float32 [O]; 0 where nothing is rounded.

    Raises:
        UserError: a number without a range, for an observation space that is not bounded.
    """

    def __init__(self, env, bits, space=None):
        space = space or env.observation_space
        super().__init__(env)
        size = self.observation_space.shape[0]
        if isinstance(bits, tuple):
            bits, half = bits
            half = one_each("env.observation_bits", half, size)
        else:
            require(
                space.is_bounded(),
                f"env.observation_bits = {bits}: these observations have no bounds to divide; set (bits, range), for "
                "example (10, 8.0) for steps of 2 * 8 / 2^10, with one range or one for each observation",
            )
            half = 0.5 * (space.high.astype(np.float32) - space.low)
        self.width = np.broadcast_to(np.float32(half * 2.0 ** (1 - bits)), [size])

    def shown(self, observation):
        """See `SensorImperfection`."""
        step = np.where(self.width > 0, self.width, 1)
        return np.where(self.width > 0, np.round(observation / step) * step, observation)


class ObservationDelay(SensorImperfection):
    """The policy sees the observation of d steps ago, and the episode's first one in the first d steps.

    Gymnasium's DelayObservation shows zeros first, which may be no observation at all (a cosine and a sine of 0).

    Args:
        steps: d, or (least, largest), from which each episode draws d.
    """

    def __init__(self, env, steps):
        super().__init__(env)
        self._steps = steps

    def begin(self):
        """See `Seeded`."""
        self._delay, self._queue = drawn(self.rng, self._steps), deque()

    def shown(self, observation):
        """See `SensorImperfection`."""
        self._queue.append(observation)
        return self._queue.popleft() if len(self._queue) > self._delay else self._queue[0]
