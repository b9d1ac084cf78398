"""Gymnasium environments as the agents see them: a flat float32 observation, an action in [-1, 1]^A."""

import warnings

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from tfsac.errors import NonFiniteError, RunError, UserError, require

# Modules of environments that come with an extra of tfsac's.
OWN_MODULES = ("shimmy",)


def make_env(env_id, unit_actions=True):
    """Builds an environment, refusing what the agents cannot act in.

    Args:
        env_id: Gymnasium's id, or `module:EnvId`, which imports the module first.
        unit_actions: whether step takes actions in [-1, 1]^A (for agents) or in the environment's own units (for
            exported policies).

    Returns:
        A gymnasium.Env with a float32 observation [O]; its attribute `unwrapped` is the bare environment. Its reset
        and step raise NonFiniteError for an observation or a reward that is NaN or infinite in float32,
        and RunError for an observation of another shape and for whatever the environment itself raises.

    Raises:
        UserError: no such environment, or not a Box action and a flat Box observation.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of an old version's name
            env = gym.make(env_id)
    except Exception as error:  # the constructor may be anyone's
        raise UserError(f"cannot make environment {env_id!r}: {_first_line(error)}") from error
    if isinstance(env.observation_space, Dict) and all(
        isinstance(space, Box) and len(space.shape) <= 1 for space in env.observation_space.values()
    ):
        env = gym.wrappers.FlattenObservation(env)
    _check_spaces(env_id, env.observation_space, env.action_space)
    env = _Checked(env)
    if unit_actions:
        low, high = env.action_space.low, env.action_space.high
        env = gym.wrappers.TransformAction(
            env, lambda action: to_bounds(action, low, high), Box(-1.0, 1.0, low.shape, np.float32)
        )
    return env


def to_bounds(action, low, high):
    """Maps an action from [-1, 1]^A to the environment's Box [low, high], as its dtype; exact at the bounds."""
    # Halves first: high - low may overflow. The clip is for the last bit, which rounding may put outside.
    scaled = np.clip((0.5 * low + 0.5 * high) + action * (0.5 * high - 0.5 * low), low, high)
    # Rounding may also leave the ends short of the bounds.
    return np.where(action <= -1, low, np.where(action >= 1, high, scaled)).astype(low.dtype)


def episode_seed(seed, environment, episode):
    """The seed that episode number `episode` of environment number `environment` of a run is reset with."""
    return int(np.random.SeedSequence([seed, environment, episode]).generate_state(1)[0])


def check_trusted(env_id, repeated, source):
    """Refuses to import a module because a file says so.

    `module:EnvId` imports the module when the environment is made. Modules that come with an extra of tfsac's are
    trusted; any other must be repeated by the user.

    Args:
        env_id: as read from a run directory or an artefact.
        repeated: as the user has said it, or None.
        source: where env_id was read, for the message.

    Raises:
        UserError: it names a module, and the user did not repeat it.
    """
    module, colon, _ = env_id.partition(":")
    require(
        not colon or module in OWN_MODULES or repeated == env_id,
        f"{source} would import the module {module!r}: if you trust it, add --env_id={env_id}",
    )


class _Checked(gym.Wrapper):
    """Hands out float32 copies (some environments write into the array they gave), and nothing unfit to learn from."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = Box(-np.inf, np.inf, env.observation_space.shape, np.float32)
        if env.observation_space.dtype == np.float32:
            self.observation_space = env.observation_space

    def reset(self, **kwargs):
        observation, info = self._call(self.env.reset, **kwargs)
        return self._checked(observation), info

    def step(self, action):
        observation, reward, terminated, truncated, info = self._call(self.env.step, action)
        observation = self._checked(observation)
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.float32(reward))
        if not finite:
            raise NonFiniteError(f"the environment's reward is {reward}", {"action": action})
        return observation, float(reward), terminated, truncated, info

    def _call(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise RunError(f"the environment {self.spec.id} raised {_first_line(error)}") from error

    def _checked(self, observation):
        with np.errstate(over="ignore"):
            observation = np.array(observation, np.float32)
        expected = self.observation_space.shape
        if observation.shape != expected:
            raise RunError(f"expected observations of shape {expected}, the environment gave {observation.shape}")
        if not np.all(np.isfinite(observation)):
            raise NonFiniteError("the environment's observation is not finite", {"observation": observation})
        return observation


def _first_line(error):
    return f"{type(error).__name__}: {error}".split("\n")[0]


def _check_spaces(env_id, observation_space, action_space):
    require(
        isinstance(action_space, Box) and np.issubdtype(action_space.dtype, np.floating),
        f"{env_id}: expected a continuous action space (a Box of floats), received {action_space}; "
        "SAC as built here has no discrete actions",
    )
    require(
        len(action_space.shape) == 1 and action_space.shape[0] > 0,
        f"{env_id}: expected a flat action Box of shape (A,), received shape {action_space.shape}",
    )
    require(
        action_space.is_bounded(),
        f"{env_id}: expected an action space bounded on every side, received {action_space}; "
        "give it bounds, for example with gymnasium.wrappers.RescaleAction",
    )
    require(
        isinstance(observation_space, Box) and len(observation_space.shape) == 1 and observation_space.shape[0] > 0,
        f"{env_id}: expected a flat Box observation of shape (O,) or a Dict of such, received {observation_space}; "
        "images and discrete observations are not supported",
    )
