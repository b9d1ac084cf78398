"""What may happen to an action between the policy's command and the machine. Actions in the environment's own units."""

from collections import deque

import numpy as np

from tfsac.data.imperfections.seeded import Seeded, drawn
from tfsac.errors import require


class ActionImperfection(Seeded):
    """Base: the machine gets `applied` instead of the command.

    Attributes:
        low, high, middle: of the action's bounds, [A]. The middle is applied until a command arrives.
        half: (high - low) / 2, [A].
    """

    def __init__(self, env):
        super().__init__(env)
        self.low, self.high = env.action_space.low, env.action_space.high
        self.half = 0.5 * self.high - 0.5 * self.low
        self.middle = 0.5 * self.low + 0.5 * self.high

    def step(self, action):
        """As of any environment."""
        applied = self.applied(np.asarray(action, self.low.dtype))
        return self.env.step(np.clip(applied, self.low, self.high).astype(self.low.dtype))

    def applied(self, action):
        """What is applied now that `action` is commanded; both [A]."""
        raise NotImplementedError


class ActionDelay(ActionImperfection):
    """The command of d steps ago is applied, and the middle of the bounds in the first d steps.

    Args:
        steps: d, or (least, largest), from which each episode draws d.

    Attributes:
        delay: d of this episode.
    """

    def __init__(self, env, steps):
        super().__init__(env)
        self._steps = steps

    def begin(self):
        """See `Seeded`."""
        self.delay = drawn(self.rng, self._steps)
        self._queue = deque([self.middle] * self.delay)

    def applied(self, action):
        """See `ActionImperfection`."""
        self._queue.append(action)
        return self._queue.popleft()


class JitteredDelay(ActionImperfection):
    """Each command has its own delay; the newest command that has arrived is applied.

    Args:
        probabilities: of 0, 1, 2 ... steps.
    """

    def __init__(self, env, probabilities):
        super().__init__(env)
        self._probabilities = np.array(probabilities) / np.sum(probabilities)

    def begin(self):
        """See `Seeded`."""
        self._step, self._under_way, self._applied = 0, [], (-1, self.middle)

    def applied(self, action):
        """See `ActionImperfection`."""
        delay = int(self.rng.choice(len(self._probabilities), p=self._probabilities))
        self._under_way.append((self._step + delay, self._step, action))
        arrived = [(sent, command) for at, sent, command in self._under_way if at <= self._step]
        self._under_way = [command for command in self._under_way if command[0] > self._step]
        self._applied = max([self._applied, *arrived], key=lambda command: command[0])
        self._step += 1
        return self._applied[1]


class HoldLast(ActionImperfection):
    """A command is lost with some probability; then the last one that arrived is held, as StickyAction does.

    Args:
        probability: that a loss begins, in each step without one.
        duration: steps of a loss.
    """

    def __init__(self, env, probability, duration=1):
        super().__init__(env)
        self._probability, self._duration = probability, duration

    def begin(self):
        """See `Seeded`."""
        self._held, self._left = self.middle, 0

    def applied(self, action):
        """See `ActionImperfection`."""
        lost = self.rng.random() < self._probability  # drawn in every step: no loss decides the next draw
        if self._left == 0 and lost:
            self._left = self._duration
        if self._left > 0:
            self._left -= 1
        else:
            self._held = action
        return self._held


class SlewLimit(ActionImperfection):
    """The applied action moves by at most `share` of the span between the bounds in a step, from the middle on."""

    def __init__(self, env, share):
        super().__init__(env)
        self._most = share * 2 * self.half

    def begin(self):
        """See `Seeded`."""
        self._applied = self.middle

    def applied(self, action):
        """See `ActionImperfection`."""
        self._applied = self._applied + np.clip(action - self._applied, -self._most, self._most)
        return self._applied


class ActuatorLag(ActionImperfection):
    """A first-order lag: x <- share x + (1 - share) command is applied; x begins at the middle."""

    def __init__(self, env, share):
        super().__init__(env)
        self._share = share

    def begin(self):
        """See `Seeded`."""
        self._applied = self.middle

    def applied(self, action):
        """See `ActionImperfection`."""
        self._applied = self._share * self._applied + (1 - self._share) * action
        return self._applied


class DeadBand(ActionImperfection):
    """Commands within `share` of the half-range from the middle do nothing, like a motor against its friction."""

    def __init__(self, env, share):
        super().__init__(env)
        self._share = share

    def applied(self, action):
        """See `ActionImperfection`."""
        return np.where(np.abs(action - self.middle) < self._share * self.half, self.middle, action)


class Backlash(ActionImperfection):
    """Play: the applied action follows only after the command has crossed a gap of `share` of the half-range."""

    def __init__(self, env, share):
        super().__init__(env)
        self._gap = 0.5 * share * self.half

    def begin(self):
        """See `Seeded`."""
        self._applied = self.middle

    def applied(self, action):
        """See `ActionImperfection`."""
        self._applied = np.clip(self._applied, action - self._gap, action + self._gap)
        return self._applied


class WeakActuator(ActionImperfection):
    """The command's distance from the middle, times factor, is applied."""

    def __init__(self, env, factor):
        super().__init__(env)
        require(0 < factor <= 1, f"WeakActuator: expected a factor above 0, up to 1, received {factor!r}")
        self._factor = factor

    def applied(self, action):
        """See `ActionImperfection`."""
        return self.middle + self._factor * (action - self.middle)


class ActionNoise(ActionImperfection):
    """Gaussian noise with a standard deviation of `share` of the half-range."""

    def __init__(self, env, share):
        super().__init__(env)
        self._deviation = share * self.half

    def applied(self, action):
        """See `ActionImperfection`."""
        return action + self._deviation * self.rng.standard_normal(len(self.half))
