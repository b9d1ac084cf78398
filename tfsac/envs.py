"""Gymnasium environments as the agents see them: a flat float32 observation, an action in [-1, 1]^A."""

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from tfsac.errors import UserError, require

# Modules of environments that come with an extra of tfsac's.
OWN_MODULES = ("shimmy",)


def make_env(env_id, unit_actions=True):
    """Builds an environment, refusing what the agents cannot act in.

    Args:
        env_id: Gymnasium's id, or `module:EnvId`, which imports the module first.
        unit_actions: whether step takes actions in [-1, 1]^A (for agents) or in the environment's own units (for
            exported policies).

    Returns:
        A gymnasium.Env with a float32 observation [O]; its attribute `unwrapped` is the bare environment.

    Raises:
        UserError: no such environment, or not a Box action and a flat Box observation.
    """
    try:
        env = gym.make(env_id)
    except (gym.error.Error, ImportError, ValueError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"cannot make environment {env_id!r}: {reason}") from error
    if isinstance(env.observation_space, Dict):
        env = gym.wrappers.FlattenObservation(env)
    _check_spaces(env_id, env.observation_space, env.action_space)
    if env.observation_space.dtype != np.float32:
        space = Box(-np.inf, np.inf, env.observation_space.shape, np.float32)
        env = gym.wrappers.TransformObservation(env, lambda x: np.asarray(x, np.float32), space)
    if unit_actions:
        low, high = env.action_space.low, env.action_space.high
        env = gym.wrappers.TransformAction(
            env, lambda action: to_bounds(action, low, high), Box(-1.0, 1.0, low.shape, np.float32)
        )
    return env


def to_bounds(action, low, high):
    """Maps an action from [-1, 1]^A to the environment's Box [low, high], as its dtype; exact at the bounds."""
    # Halves first: high - low may overflow. The clip is for the last bit, which rounding may put outside.
    scaled = (0.5 * low + 0.5 * high) + action * (0.5 * high - 0.5 * low)
    return np.clip(scaled, low, high).astype(low.dtype)


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
