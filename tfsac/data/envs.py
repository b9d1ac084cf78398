"""Gymnasium environments as the agents see them: a flat float32 observation, an action in [-1, 1]^A."""

import contextlib
import sys
import traceback
import warnings
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from tfsac.data.imperfections.actions import ActionDelay, HoldLast, SlewLimit
from tfsac.data.imperfections.history import History
from tfsac.data.imperfections.machine import Randomize
from tfsac.data.imperfections.seeded import largest, require_pair
from tfsac.data.imperfections.sensors import ObservationDelay, Quantised, SensorNoise
from tfsac.errors import NonFiniteError, RunError, UserError, require
from tfsac.setting_types import (
    Count,
    CountOrZero,
    Deviations,
    Factors,
    Fraction,
    Positive,
    PositiveOrZero,
    Step,
    Steps,
    checked,
    parameters,
)
from tfsac.trust import load_named

BEYOND_FLOAT32 = (2 - 2**-24) * 2.0**127  # the least number that float32 rounds to infinity
# Our extra that brings what another package's message speaks of, with a cure that needs a compiler, or with none.
EXTRAS = {"Box2D": "box2d", "'shimmy'": "dm_control", "dm_control": "dm_control"}
TRIAL_STEPS = 2_000  # in which an environment without a declared time limit must show that it has one


class EnvSettings(NamedTuple):
    """All that is needed to build the environment, in any process. Scope `env` of gin files.

    Attributes:
        id: Gymnasium's id, or `module:EnvId`, which imports the module first; None stands for an environment that a
            Python program passed as an object.
        kwargs: keyword arguments of gymnasium.make.
        wrappers: applied in order after gymnasium.make; each the name of a class of gymnasium.wrappers or
            'module:Class', alone or as (name, {keyword arguments}).
        max_episode_steps: the time limit of an episode; None leaves the environment its own.
        training_kwargs, training_wrappers: more of both for the environments that are learned in, as to shape a reward.
            Evaluations, exports and all that follows have the task without them.
        action_delay: control steps between a command and its effect. Here and below, for a pair (least, largest) each
            episode draws a value in between.
        observation_delay: control steps until the policy sees a measurement.
        observation_noise: standard deviation of Gaussian noise, in the observations' units: one number, or one each.
        observation_bits: number of bits to which observations are rounded, or (bits, range); see `Quantised`.
        action_drop: probability that a command is lost and the last one held.
        action_slew: largest change of an action in a step, in parts of the span between its bounds; None: no limit.
        randomize: factors of the machine's parameters by name, a number or a pair; see `Randomize`.
        history: how many of its last commands the policy sees; None stands for the largest action delay plus the
            largest observation delay.
        observation_history: how many observations the policy sees, the present one included.
    """

    id: str | None = "Pendulum-v1"
    kwargs: dict = {}  # noqa: RUF012 (nobody changes it)
    wrappers: tuple[str | tuple[str, dict], ...] = ()
    max_episode_steps: Count | None = None
    training_kwargs: dict = {}  # noqa: RUF012
    training_wrappers: tuple[str | tuple[str, dict], ...] = ()
    action_delay: Steps = 0
    observation_delay: Steps = 0
    observation_noise: PositiveOrZero | Deviations = 0.0
    observation_bits: Count | tuple[Count, Positive | Factors] | None = None
    action_drop: Fraction = 0.0
    action_slew: Step | None = None
    randomize: dict[str, Positive | tuple[Positive, Positive]] = {}  # noqa: RUF012
    history: CountOrZero | None = None
    observation_history: Count = 1

    def make(self, unit_actions=True):
        """Builds the environment; refuses one that the agents cannot act in.

        Args:
            unit_actions: whether step takes actions in [-1, 1]^A (for agents) or in the environment's own units (for
                exported policies).

        Returns:
            A gymnasium.Env as `wrap` returns it.

        Raises:
            UserError: no such environment or wrapper, or as `wrap` or `with_imperfections`.
        """
        return self.with_imperfections(self.make_plain(), unit_actions)

    def make_plain(self):
        """The environment as Gymnasium makes it, with its `wrappers`; errors as `make`."""
        require(
            self.id is not None,
            "this was trained in Python, in an environment passed as an object, and names none: go on in Python, with "
            "tfsac.load, or set env.id",
        )
        try:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of an old version's name
                # `wrap` checks what Gymnasium's checker only warns of.
                return self.wrapped(gym.make(self.id, self.max_episode_steps, disable_env_checker=True, **self.kwargs))
        except UserError:
            raise
        except Exception as error:  # the constructor may be anyone's
            words, unknown = _in_one_line(error), (gym.error.NameNotFound, gym.error.NamespaceNotFound)
            if isinstance(error, unknown) and ":" not in self.id and "Did you mean" not in words:
                words += "; one of another package is called module:id, such as highway_env:parking-v0"
            if isinstance(error, (ImportError, gym.error.DependencyNotInstalled, gym.error.NamespaceNotFound)):
                extras = [extra for word, extra in EXTRAS.items() if word in words]
                words += f"; the extra {extras[0]} brings it: pip install '.[{extras[0]}]'" if extras else ""
            raise UserError(f"cannot make environment {self.id!r}: {words}") from error

    def wrapped(self, env):
        """An environment inside the `wrappers`."""
        for name, keywords in self._named_wrappers():
            env = load_named(name, "env.wrappers")(env, **keywords)
        return env

    def with_imperfections(self, env, unit_actions=True):
        """Wraps an environment for the agents, with the imperfections that are set.

        A command is delayed, then maybe lost, then limited in its slew, and reaches the machine. A measurement gets
        noise, is rounded, then delayed. The policy's memory comes last: it holds commands as the policy gave them and
        observations as the policy saw them.

        Args:
            env: a gymnasium.Env, as `make_plain` gives it.
            unit_actions: see `make`.

        Returns:
            See `wrap`.

        Raises:
            UserError: as `wrap`; a setting that does not fit this environment.
        """
        for name in ("action_delay", "observation_delay"):
            require_pair(f"env.{name}", getattr(self, name))
        env = wrap(env, False, self.id)
        space = env.observation_space
        if self.randomize:
            env = Randomize(env, self.randomize)
        # From the machine outwards: the last one meets the command first.
        if self.action_slew is not None:
            env = SlewLimit(env, self.action_slew)
        if self.action_drop:
            env = HoldLast(env, self.action_drop)
        if largest(self.action_delay):
            env = ActionDelay(env, self.action_delay)
        if np.any(self.observation_noise):
            env = SensorNoise(env, self.observation_noise)
        if self.observation_bits is not None:
            env = Quantised(env, self.observation_bits, space)  # noise has no bounds
        if largest(self.observation_delay):
            env = ObservationDelay(env, self.observation_delay)
        if self.remembered_actions or self.observation_history > 1:
            env = History(env, self.remembered_actions, self.observation_history)
        return _with_unit_actions(env) if unit_actions else env

    @property
    def for_training(self):
        """The settings of the environments that are learned in."""
        kwargs, wrappers = self.kwargs | self.training_kwargs, (*self.wrappers, *self.training_wrappers)
        return self._replace(kwargs=kwargs, wrappers=wrappers, training_kwargs={}, training_wrappers=())

    def make_for_training(self, number=1):
        """Builds so many environments to learn in; errors as `make`, or as `require_same_spaces`."""
        envs = [self.for_training.make() for _ in range(number)]
        if self.has_other_training:
            with contextlib.closing(self.make()) as env:
                require_same_spaces(env, envs[0], self.id)
        return envs

    @property
    def has_other_training(self):
        """Whether what is learned in is not the task itself."""
        return bool(self.training_kwargs or self.training_wrappers)

    @property
    def remembered_actions(self):
        """K, how many of its last commands the policy sees."""
        if self.history is not None:
            return self.history
        return largest(self.action_delay) + largest(self.observation_delay)

    def input_scale(self, scale, env):
        """The factors of the policy's inputs, one number each.

        Args:
            scale: of the observations, one number each or None; it holds for each of several observations.
            env: from `make`. Its bounds scale the actions that the policy remembers, to unit half-ranges.

        Returns:
            A tuple of floats, or None if there is nothing to scale.

        Raises:
            UserError: scale has another length.
        """
        if self.observation_history == 1 and not self.remembered_actions:
            return scale
        low, high = (x.astype(np.float64) for x in action_bounds(env))
        half = 0.5 * high - 0.5 * low
        actions = tuple(float(1 / x) if x > 0 else 1.0 for x in half) * self.remembered_actions
        if scale is None and all(x == 1 for x in actions):
            return None
        size = (env.observation_space.shape[0] - len(actions)) // self.observation_history
        if scale is None:
            scale = (1.0,) * size
        require(
            len(scale) == size,
            f"observation_scale: expected one number for each of the environment's {size} observations, received "
            f"{len(scale)}",
        )
        return tuple(scale) * self.observation_history + actions

    @classmethod
    def read(cls, values):
        """The settings that `_asdict()` and JSON gave; UserError if a value has the wrong type or range."""
        annotations = parameters(cls)
        return cls(**{k: checked(f"env.{k}", values[k], annotations[k][0]) for k in cls._fields if k in values})

    def modules(self):
        """The id and the wrappers' names, which may name a module to import; see `trust.check_trusted`."""
        return [self.id or "", *(name for name, _ in self.for_training._named_wrappers())]

    def _named_wrappers(self):
        for wrapper in self.wrappers:
            name, keywords = (wrapper, {}) if isinstance(wrapper, str) else wrapper
            yield name if ":" in name else f"gymnasium.wrappers:{name}", keywords


def make_env(env_id, unit_actions=True):
    """Builds the environment of that id; see `EnvSettings.make`."""
    return EnvSettings(env_id).make(unit_actions)


def wrap(env, unit_actions=True, name=None):
    """Wraps an environment for the agents.

    Args:
        env: a gymnasium.Env.
        unit_actions: see `EnvSettings.make`.
        name: for messages; default its id or its class.

    Returns:
        A gymnasium.Env with a float32 observation [O]; its attribute `unwrapped` is the bare environment. Its reset
        and step raise NonFiniteError for an observation or a reward that is NaN or infinite in float32. They raise
        RunError for one of another type or shape, and for any exception of the environment itself.

    Raises:
        UserError: a space is missing, the action's is no Box, the observation's no flat Box, or a wrapper keeps
            statistics.
    """
    name = name or (env.spec.id if env.spec else type(env.unwrapped).__name__)
    for attribute in ("observation_space", "action_space"):
        space = getattr(env, attribute, None)
        require(
            isinstance(space, gym.Space),
            f"{name}: expected an attribute {attribute}, a gymnasium.spaces.Box as a rule, received "
            f"{'none' if space is None else space}",
        )
    require(
        not _has_wrapper(env, gym.wrappers.NormalizeObservation),
        f"{name}: NormalizeObservation keeps statistics that an exported policy would lack: take the agent's "
        "observation_scale instead",
    )
    require(
        not _has_wrapper(env, gym.wrappers.NormalizeReward),
        f"{name}: NormalizeReward keeps statistics that no checkpoint has, and another environment would have others: "
        "take a factor that stays, with TransformReward or SACv1.reward_scale, instead",
    )
    if isinstance(env.observation_space, Dict) and all(map(_is_measured, env.observation_space.values())):
        env = _FlattenDict(env, name)
    _check_spaces(name, env.observation_space, env.action_space)
    env = _Checked(env, name)
    return _with_unit_actions(env) if unit_actions else env


def _is_measured(space):
    """Whether a part of a Dict may go into one row: numbers, or a matrix of floats; anything else may be an image."""
    if not isinstance(space, Box):
        return False
    axes = sum(size > 1 for size in space.shape)  # dm_control's manipulation has parts of shape [1, 6, 2]
    return axes <= (2 if np.issubdtype(space.dtype, np.floating) else 1)


def require_same_spaces(env, training_env, name):
    """Refuses, with UserError, a training environment that a policy for the task does not fit; both are of `wrap`."""
    for space in ("observation_space", "action_space"):
        task, training = getattr(env, space), getattr(training_env, space)
        require(
            task == training,
            f"{name}: expected the same {space} with env.training_kwargs and env.training_wrappers as without, "
            f"received {training} and {task}: give what changes it to env.kwargs or env.wrappers",
        )


def _with_unit_actions(env):
    low, high = env.action_space.low, env.action_space.high
    return gym.wrappers.TransformAction(
        env, lambda action: to_bounds(action, low, high), Box(-1.0, 1.0, low.shape, np.float32)
    )


def require_time_limit(env, name):
    """Refuses an environment whose episodes may never end.

    An environment that declares no limit may still have one, as those of dm_control and highway-env do. So it is run
    until an episode is truncated: with the middle of the actions, which may keep a vehicle from crashing, then with
    random ones. Termination proves nothing, since a good policy may never fall.

    Args:
        env: from `EnvSettings.make`.
        name: of the environment.

    Raises:
        UserError: no limit is declared, and none was met in TRIAL_STEPS steps.
    """
    if (env.spec and env.spec.max_episode_steps) or _has_wrapper(env, gym.wrappers.TimeLimit):
        return
    space = env.action_space
    space.seed(0)
    middle = (0.5 * space.low + 0.5 * space.high).astype(space.dtype)
    for act in (lambda: middle, space.sample):
        env.reset(seed=0)
        for _ in range(TRIAL_STEPS):
            *_, terminated, truncated, _ = env.step(act())
            if truncated:
                return
            if terminated:
                env.reset()
    raise UserError(
        f"{name} has no time limit (none declared, none met in {TRIAL_STEPS:,} steps): its evaluations might never "
        "end; set env.max_episode_steps, for example to 1000"
    )


def action_bounds(env):
    """Least and largest action in the environment's own units, [A] each; env has unit actions."""
    return env.env.action_space.low, env.env.action_space.high


def require_bounds(action, low, high):
    """Refuses, with UserError, an environment whose actions have other bounds than before.

    A policy acts in [-1, 1]^A: with other bounds the same action is another torque, and nothing would say so.

    Args:
        action: from a checkpoint or an artefact, with `low` and `high`; None if it has none.
        low, high: the environment's, [A] each.
    """
    for name, now in (("low", low), ("high", high)):
        before = np.asarray(action[name] if action else now, np.float64)
        # Files keep bounds that are rounded inward to float32.
        require(
            before.shape == now.shape and np.allclose(before, now, rtol=1e-5),
            f"its actions had {name} = {before.tolist()}, and the environment has {now.tolist()} now: "
            "take the version that it was trained in, or train again",
        )


def time_limit(env):
    """Steps after which an episode is truncated; None if the environment declares no limit."""
    return env.spec.max_episode_steps if env.spec else None


def say_time_limit(before, env):
    """Says on standard error if the environment's time limit is not the one of training.

    Its returns are then of other episodes; but no limit is in the replay, so that all else stays true.

    Args:
        before: from a checkpoint or an artefact; None if it has none.
        env: the environment.
    """
    now = time_limit(env)
    if type(before) is int and now not in (None, before):
        print(
            f"note: the time limit of episodes is {now} steps, it was {before} in training: returns are not comparable",
            file=sys.stderr,
        )


def to_bounds(action, low, high):
    """Maps an action from [-1, 1]^A to the environment's Box [low, high], as its dtype; exact at the bounds."""
    # Halves first: high - low may overflow. The clip is for the last bit, which rounding may put outside.
    scaled = np.clip((0.5 * low + 0.5 * high) + action * (0.5 * high - 0.5 * low), low, high)
    # Rounding may also leave the ends short of the bounds.
    return np.where(action <= -1, low, np.where(action >= 1, high, scaled)).astype(low.dtype)


def flatten_dict(env, observation):
    """A dict as an environment with Dict observations gives it -> the observation as agents see it, float32 [O].

    Args:
        env: from `EnvSettings.make`.
        observation: the dict; keys that the environment does not have are left out.

    Raises:
        UserError: a key is missing, or the environment's observations are no dicts.
    """
    wrapper = _find_wrapper(env, _FlattenDict)
    require(wrapper, "observation: expected an array, as the environment gives it, received a dict")
    try:
        return np.asarray(gym.spaces.flatten(wrapper.env.observation_space, observation), np.float32)
    except Exception as error:  # what it holds may be anything
        keys, shown = ", ".join(wrapper.env.observation_space), " ".join(repr(observation).split())[:80]
        raise UserError(f"observation: expected a dict with {keys}, received {shown}") from error


def wrappers_of(env):
    """Yields the wrappers around an environment, the outermost first."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def episode_seed(seed, environment, episode):
    """The seed for the reset of an episode (by number) in an environment (by number) of a run."""
    return int(np.random.SeedSequence([seed, environment, episode]).generate_state(1)[0])


class _Checked(gym.Wrapper):
    """Checks what the environment gives, and copies it as float32, since some environments write into their arrays."""

    def __init__(self, env, name):
        super().__init__(env)
        self._name = name
        space = env.observation_space
        if space.dtype != np.float32:
            with np.errstate(over="ignore"):
                space = Box(space.low.astype(np.float32), space.high.astype(np.float32))  # bounds beyond it are none
        self.observation_space = space

    def reset(self, **kwargs):
        result = self._call(self.env.reset, **kwargs)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise self._unfit("reset", "(observation, info)", result, _OLD_API)
        observation, info = result
        return self._observation("reset", observation), info

    def step(self, action):
        result = self._call(self.env.step, action)
        if not (isinstance(result, tuple) and len(result) == 5):
            raise self._unfit("step", "(observation, reward, terminated, truncated, info)", result, _OLD_API)
        observation, reward, terminated, truncated, info = result
        observation = self._observation("step", observation)
        reward = self._number("reward", reward)
        if not abs(reward) < BEYOND_FLOAT32:  # nor is NaN
            raise NonFiniteError(f"the environment's reward is {reward}", {"action": action})
        terminated, truncated = self._flag("terminated", terminated), self._flag("truncated", truncated)
        return observation, reward, terminated, truncated, info

    def close(self):
        try:
            super().close()
        except Exception as error:  # nothing depends on it any more
            print(f"the environment {self._name} raised {_in_one_line(error)} when it was closed", file=sys.stderr)

    def _call(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except RunError:
            raise
        except Exception as error:
            # Gymnasium's own wrappers, such as the time limit, unpack what the old API does not give.
            is_old = "argument 'seed'" in str(error) or "values to unpack (expected" in str(error)
            cure = f"; {_OLD_API}" if is_old else ""
            raise RunError(f"the environment {self._name} raised {_in_one_line(error)}{cure}") from error

    def _observation(self, method, observation):
        expected = self.observation_space.shape
        array = _numbers(observation, np.float32)
        if array is None:
            raise self._unfit(method, f"an observation of shape {expected}", observation)
        if array.shape != expected:
            raise RunError(
                f"expected observations of shape {expected}, the environment {self._name} gave {array.shape} "
                f"from {method}"
            )
        if not np.isfinite(array).all():
            raise NonFiniteError("the environment's observation is not finite", {"observation": array})
        return array

    def _number(self, word, value):
        """A number, or an array of one, as a Python float."""
        if type(value) in _PLAIN:  # as good as always, and numpy's way below takes ten times as long
            return float(value)
        array = _numbers(value, np.float64)
        if array is None or array.size != 1:
            raise self._unfit("step", f"one number as {word}", value)
        return float(array.item())

    def _flag(self, word, value):
        number = self._number(word, value)
        if number not in (0.0, 1.0):
            raise self._unfit("step", f"True or False as {word}", value)
        return number == 1.0

    def _unfit(self, method, expected, received, cure="mend the environment, or wrap it"):
        text = " ".join(repr(received).split())
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        return RunError(f"{method} of the environment {self._name}: expected {expected}, received {shown}; {cure}")


_PLAIN = (float, bool, np.float64, np.float32, np.bool_)
_OLD_API = "is it of gym's API before 0.26? shimmy's GymV21CompatibilityV0 or GymV26CompatibilityV0 make it Gymnasium's"


def _numbers(value, dtype):
    """A copy as an array of that type; None if value holds no real numbers (None, text, ragged lists)."""
    try:
        array = np.asarray(value)
    except Exception:  # what converts itself may raise anything
        return None
    if array.dtype.kind not in "biuf":
        return None
    if array.dtype == dtype:
        return array.copy()
    with np.errstate(over="ignore"):
        return array.astype(dtype)


class _FlattenDict(gym.wrappers.FlattenObservation):
    """As Gymnasium's, with an error of one line for another observation."""

    def __init__(self, env, name):
        super().__init__(env)
        self._name = name

    def observation(self, observation):
        try:
            return super().observation(observation)
        except Exception as error:
            keys = ", ".join(self.env.observation_space)
            shown = " ".join(repr(observation).split())[:80]
            raise RunError(
                f"expected a Dict observation with {keys}, the environment {self._name} gave {shown}"
            ) from error


def _has_wrapper(env, kind):
    return _find_wrapper(env, kind) is not None


def _find_wrapper(env, kind):
    return next((wrapper for wrapper in wrappers_of(env) if isinstance(wrapper, kind)), None)


def _in_one_line(error):
    """The error's kind and first line, and where it was raised: its message alone may be empty."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    words = str(error).split("\n")[0]
    where = f"({place.filename}, line {place.lineno}, in {place.name}; --traceback shows all)"
    return f"{type(error).__name__}: {words} {where}" if words else f"{type(error).__name__} {where}"


def _check_spaces(name, observation_space, action_space):
    require(
        isinstance(action_space, Box) and np.issubdtype(action_space.dtype, np.floating),
        f"{name}: expected a continuous action space (a Box of floats), received {action_space}; "
        "SAC as built here has no discrete actions",
    )
    require(
        len(action_space.shape) == 1 and action_space.shape[0] > 0,
        f"{name}: expected a flat action Box of shape (A,), received shape {action_space.shape}",
    )
    require(
        action_space.is_bounded(),
        f"{name}: expected an action space bounded on every side, received {action_space}; "
        "give it bounds, for example with gymnasium.wrappers.RescaleAction",
    )
    cure = "env.wrappers = [('FlattenObservation', {})] makes it flat (of no use for images)"
    if not observation_space.is_np_flattenable:
        cure = "a wrapper of your own must make numbers of it, always as many, since its size differs"
    require(
        isinstance(observation_space, Box) and len(observation_space.shape) == 1 and observation_space.shape[0] > 0,
        f"{name}: expected a flat Box observation of shape (O,) or a Dict of such and of matrices of floats, received "
        f"{observation_space}; {cure}",
    )
