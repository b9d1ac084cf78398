"""What tfsac has put between the policy and the machine: a page does it again, in channel.js."""

import numpy as np
from gymnasium.wrappers import FrameStackObservation

from tfsac.data.envs import wrappers_of
from tfsac.data.imperfections.actions import ActionDelay
from tfsac.data.imperfections.history import History
from tfsac.data.imperfections.machine import Randomize
from tfsac.data.imperfections.seeded import Seeded
from tfsac.data.imperfections.sensors import Quantised, SensorNoise
from tfsac.errors import require

LAYERS = (History, FrameStackObservation, Quantised, SensorNoise, ActionDelay)  # from the policy to the machine


class Channel:
    """The layers around an environment that a page can do again.

    Args:
        env: an environment, from `EnvSettings.make`.

    Attributes:
        machine: the environment inside the layers; what it draws for itself at a reset stays with it.
        is_plain: whether there is no such layer.
        sensors: how many numbers the machine shows.
        drawn: names of what the machine draws anew for each episode.

    Raises:
        UserError: another layer of tfsac's, or another order; the message names it.
    """

    def __init__(self, env):
        self._layers = {}
        for kind in LAYERS:
            if type(env) is kind:
                self._layers[kind] = env
                env = env.env
        self.machine, self.is_plain, self.sensors = env, not self._layers, env.observation_space.shape[0]
        self.drawn = []
        for wrapper in wrappers_of(env):
            if isinstance(wrapper, Randomize):
                self.drawn = sorted(wrapper.factors)
            else:
                known = not isinstance(wrapper, (Seeded, *LAYERS))
                require(known, f"the page does not know what {type(wrapper).__name__} does, where it stands")

    def describe(self):
        """What the page needs to know: a dict that JSON can hold."""
        noise, rounding = self._layers.get(SensorNoise), self._layers.get(Quantised)
        observations, actions = self._layers[History].remembered if History in self._layers else (1, 0)
        return {
            "noise": noise and noise.deviation.tolist(),
            "rounding": rounding and rounding.width.tolist(),
            "observations": observations,
            "actions": actions,
            "drawn": self.drawn,
        }

    def delay(self):
        """Control steps between a command and its effect, in the episode that was begun last."""
        return self._layers[ActionDelay].delay if ActionDelay in self._layers else 0

    def normals(self, seed, steps):
        """The standard normal numbers in the noise of an episode's first observations, [steps, O]; None without."""
        if SensorNoise not in self._layers:
            return None
        return SensorNoise.generator(seed).standard_normal([steps, self.sensors], np.float32)
