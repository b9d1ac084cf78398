"""What a format of exported policies is. A new one is a file beside this one and a line in `pipeline.FORMATS`."""

import math
from typing import NamedTuple

import numpy as np

from tfsac.errors import require
from tfsac.policy import Policy

SEQUENCE = 8  # steps of a golden sequence


class NotChecked(Exception):
    """This machine cannot run the file, which therefore neither passed nor failed; the message says why."""


class Deployable(NamedTuple):
    """The policy and all that goes to a device with it, in any format.

    Attributes:
        policy: a `Policy`.
        low, high: bounds of the action in the environment's units, float32 [A], nowhere outside its own.
        limit: the guard: an observation is clipped to [-limit, limit], and NaN counts as 0.
        states: observations from replay, float32 [N, O]: quantised formats take their ranges from them.
        actions: the trained policy's on the states, in the environment's units, [N, A].
        rounding: the largest error of these actions through float32 alone, in parts of the span.
        facts: what the file says about itself, as JSON can hold it.
        name: prefix of the symbols in policy.h; None stands for tfsac_policy.
    """

    policy: Policy
    low: np.ndarray
    high: np.ndarray
    limit: float
    states: np.ndarray
    actions: np.ndarray
    rounding: float
    facts: dict
    name: str | None = None

    @property
    def tolerance(self):
        """The largest error allowed to formats that compute in float32, in parts of the span.

        Another order of summation rounds as much as the trained policy itself, and sometimes more.
        """
        return max(1e-5, 10 * self.rounding)

    def examples(self, count):
        """Row numbers of some states, evenly over all."""
        return np.linspace(0, len(self.states) - 1, min(count, len(self.states))).astype(int)


class Format:
    """A file of the export, or a directory.

    Attributes:
        file: its name in the export's directory.
        purpose: which device or program takes it, one line.
        oldest_runtime: the oldest runtime with which a test has loaded such a file.
        samples: whether it takes noise as a second input, and explores.
        largest_error, mean_error: limits of the difference between its actions and the trained policy's on states of
            the replay, in parts of the action's span. Both None: as float32, `Deployable.tolerance`.
        noise: observation noise that is as harmless as the file's rounding, in parts of each observation's standard
            deviation in the replay; see `ladder.allowed_error`.
        allowed_loss: the part of the return's worth that it may lose; see `ladder.check`.
        allowed_under_stress: limit of the difference of its return in a disturbed world, in parts of the policy's gain
            on random actions; the report marks a difference that may be larger.
    """

    file = purpose = oldest_runtime = ""
    samples = False
    largest_error = mean_error = None
    noise = 0.0
    allowed_loss = 0.01
    allowed_under_stress = 0.01

    def write(self, path, deployable):
        """Writes the file.

        Raises:
            UserError: the format cannot hold this policy.
        """
        raise NotImplementedError

    def load(self, path):
        """The file as a function: observation [O] (and noise [A], if it samples) -> action [A].

        Raises:
            NotChecked: nothing here can run it.
        """
        raise NotImplementedError

    def finish(self, path, act, deployable, measured):
        """Adds the measurements to the file, if the format has a place for them, and examines the file.

        Args:
            path: the file.
            act: from `load`.
            deployable: what it was written from.
            measured: from `ladder.measure`.

        Returns:
            Checks of this format only, by name, True if passed; and facts for the report, as JSON can hold them.
        """
        return {}, {}

    def describe(self, entry):
        """Lines on the file for people, from its entry in the report."""
        return []


def guard_limit(policy, states):
    """Where observations are clipped before the policy sees them.

    The guard is for values that no sensor gives: with infinity or 1e30 some runtimes compute NaN, each in its own way.
    It must not change observations of the training. So it is a thousand times the largest observation of the replay,
    and at least 1e6.

    Args:
        policy: a `Policy`.
        states: observations from replay, [N, O].

    Raises:
        UserError: observations or weights so large that such an observation could overflow float32.
    """
    limit = max(1e6, 10.0 ** math.ceil(math.log10(max(1e3 * float(np.max(np.abs(states))), 1))))
    largest = np.full(policy.sizes[0], limit)  # what each sum could reach
    for number, layer in enumerate(policy.layers):
        largest = largest @ np.abs(layer.kernel).astype(np.float64) + np.abs(layer.bias)
        require(
            np.all(largest < np.finfo(np.float32).max),  # NaN is not
            f"layer {number} of the policy holds NaN, infinity or weights that could overflow float32 with "
            f"observations up to {limit:g}: expected a policy that was trained on smaller ones",
        )
    return limit


def round_inward(low, high):
    """Bounds as float32, nowhere outside the given ones; if no float32 lies between two bounds, the nearest to both."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    nearest = low32
    low32 = np.where(low32 < low, np.nextafter(low32, np.float32(np.inf)), low32)
    high32 = np.where(high32 > high, np.nextafter(high32, np.float32(-np.inf)), high32)
    between = low32 <= high32
    return np.where(between, low32, nearest), np.where(between, high32, nearest)


def sequence(deployable, act, steps=SEQUENCE):
    """Successive observations of the machine, and the actions of a policy with a memory, from a reset on.

    Args:
        deployable: a `Deployable` whose facts have a history.
        act: a row of the policy's input -> action [A] in the environment's units.

    Returns:
        Dict of lists, as JSON can hold them: observation [steps, O], action [steps, A].
    """
    past = deployable.facts["history"]
    fill = np.float32(past["fill"])
    size = (deployable.policy.sizes[0] - past["actions"] * len(fill)) // past["observations"]
    observations = deployable.states[deployable.examples(steps), :size]
    seen, commands, actions = [observations[0]] * past["observations"], [fill] * past["actions"], []
    for observation in observations:
        seen = [observation, *seen[:-1]]
        action = np.float32(act(np.concatenate([*seen, *commands], dtype=np.float32)))
        commands = [action, *commands][: past["actions"]]
        actions.append(action)
    return {"observation": observations.tolist(), "action": np.array(actions).tolist()}
