"""What Python's side of the comparison is: whole episodes of the file's policy in the environment."""

from typing import NamedTuple

import numpy as np

from tfsac.deploy.demo.packing import pack

STARTS = 10  # start states that the page offers
LONGEST = 1000  # steps; an environment that never ends has no more
GOLDEN_STEPS = 2000  # steps of golden episodes, all together
FORCED_BYTES = 100_000  # of states in a page, one episode's at least
# How far the runtimes' actions differ, in parts of the action's span, and how far observations may drift apart by that
# for a comparison of whole episodes to say anything.
NUDGE, DRIFT = 1e-7, 1e-5


class Episode(NamedTuple):
    """One episode.

    Attributes:
        observations: [T, O], each one the observation that the action of its row answers.
        actions: [T, A], in the environment's units.
        rewards: [T].
        states: array by name, [T, n] each: the machine's before each step.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    states: dict


def run(act, env, seed, state, observe=None):
    """Runs one episode.

    Args:
        act: observation [O] -> action [A].
        env: takes such actions.
        seed: of the start.
        state: () -> the machine's state, array by name.
        observe: () -> observation [O], in more digits than the environment hands out; None: its own.

    Returns:
        An Episode.
    """
    rows, states, over = [], [], False
    observation, _ = env.reset(seed=seed)
    while not over and len(rows) < LONGEST:
        action = act(observation)
        shown = observation if observe is None else observe()
        states.append(state())
        observation, reward, terminated, truncated, _ = env.step(action)
        rows.append((shown, action, reward))
        over = terminated or truncated
    columns = {name: np.array([row[name] for row in states]) for name in states[0]}
    return Episode(*map(np.array, zip(*rows, strict=True)), columns)


def golden(act, env, state, observe=None):
    """Episodes of the first seeds, and whether another runtime can be held to them.

    Where limbs hit the ground, rounding grows tenfold every few steps, and two runs that are both right end apart. So
    do they where a sensor's rounding hides small differences from a policy that balances. So each episode is run a
    second time with actions that are off by as much as runtimes differ.

    Returns:
        A list of Episode; whether the observations of each stay within DRIFT all the same.
    """
    episodes, steady, steps = [], True, 0
    for seed in range(STARTS):
        episode = run(act, env, seed, state, observe)
        episodes.append(episode)
        steady = steady and _steady(act, env, seed, observe, episode)
        steps += len(episode.rewards)
        if steps + len(episode.rewards) > GOLDEN_STEPS:
            break
    return episodes, steady


def _steady(act, env, seed, observe, episode):
    """Whether an episode whose actions are all off by NUDGE, up or down, stays within DRIFT of this one."""
    rng = np.random.default_rng(seed)
    low, high = env.action_space.low, env.action_space.high
    observation, _ = env.reset(seed=seed)
    for expected in episode.observations:
        shown = observation if observe is None else observe()
        if np.max(np.abs(shown - expected)) > DRIFT:
            return False
        action = act(observation)
        off = NUDGE * (high - low) * rng.choice([-1, 1], action.shape)
        observation, *_ = env.step(np.clip(action + off, low, high).astype(action.dtype))
    return True


def packed(episodes, channel, forced):
    """The episodes for the page, end to end.

    Args:
        episodes: from `golden`.
        channel: the environment's Channel.
        forced: whether the page must begin each step from the machine's state here, since rounding grows.
    """

    def joined(arrays):
        return pack(np.concatenate(list(arrays)))

    if forced:
        each = sum(values.nbytes for values in episodes[0].states.values())
        episodes = episodes[: max(1, FORCED_BYTES // each)]
    lengths = [len(e.rewards) for e in episodes]
    parts = {name: joined(getattr(e, name) for e in episodes) for name in ("observations", "actions", "rewards")}
    if forced:
        parts["states"] = {name: joined(e.states[name] for e in episodes) for name in episodes[0].states}
    normals = [channel.normals(seed, length) for seed, length in enumerate(lengths)]
    return parts | {"normals": None if normals[0] is None else joined(normals), "lengths": lengths}


def spread(episodes, channel):
    """Standard deviation of what each sensor shows, a list."""
    return np.concatenate([e.observations[:, : channel.sensors] for e in episodes]).std(axis=0).tolist()
