"""What all imperfections share: their own random numbers, so that equal seeds still give equal starts."""

import gymnasium as gym
import numpy as np

from tfsac.errors import require


class Seeded(gym.Wrapper):
    """A wrapper with its own random generator, seeded by the episode's seed.

    Gymnasium's StickyAction draws from the environment's generator: with it, equal seeds give unequal starts.

    Attributes:
        rng: np.random.Generator; a function of the seed of `reset` and of the class.
    """

    def __init__(self, env):
        super().__init__(env)
        self.rng = np.random.default_rng()

    def reset(self, *, seed=None, **kwargs):
        """As of any environment; an episode without a seed goes on drawing where the last one ended."""
        if seed is not None:
            self.rng = self.generator(seed)
        self.begin()
        return self.env.reset(seed=seed, **kwargs)

    @classmethod
    def generator(cls, seed):
        """What an episode of that seed draws from: no two kinds of imperfection draw the same numbers."""
        return np.random.default_rng([seed, *cls.__name__.encode()])

    def begin(self):
        """Called before the environment's own reset: draws the episode's values and clears the memory."""


def drawn(rng, steps):
    """A number of steps: `steps` itself, or drawn uniformly from (least, largest)."""
    return int(rng.integers(*steps, endpoint=True)) if isinstance(steps, tuple) else steps


def largest(steps):
    """The largest number of steps that `drawn` gives."""
    return steps[1] if isinstance(steps, tuple) else steps


def require_pair(name, value):
    """Refuses, with UserError, a pair whose first number is above its second."""
    ordered = not isinstance(value, tuple) or value[0] <= value[1]
    require(ordered, f"{name}: expected a pair (least, largest), received {value!r}")


def one_each(name, value, size):
    """A number, or a tuple of one number for each of `size` observations, as float32 that broadcasts over them."""
    require(
        not isinstance(value, tuple) or len(value) == size,
        f"{name}: expected one number, or one for each of the environment's {size} observations, received {value!r}",
    )
    return np.float32(value)
