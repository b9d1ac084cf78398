"""Whole episodes with a given policy: an agent's, or an exported artefact's."""

import gymnasium
import numpy as np

from tfsac.statistics import confidence_interval


def rollout(act, env, episodes, seed=0, is_over=None):
    """Runs episodes on fixed seeds: equal seeds give equal start states.

    Args:
        act: observation [O] -> action [A] in the units that env takes.
        env: from `make_env`.
        episodes: how many.
        seed: of the first episode; each one after it has the next.
        is_over: called after every environment step; if it returns True, the rollout stops. None: never.

    Returns:
        Returns (undiscounted sums of rewards) and lengths (in steps): two lists, one number for each episode. None if
        is_over stopped it.
    """
    returns, lengths = [], []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        rewards, over = [], False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            rewards.append(float(reward))
            over = terminated or truncated
            if is_over and is_over():
                return None
        returns.append(sum(rewards))
        lengths.append(len(rewards))
    return returns, lengths


class ShowsEpisodes(gymnasium.Wrapper):
    """Moves a progress bar at the end of each episode.

    Args:
        env: the environment.
        bar: of tqdm.
    """

    def __init__(self, env, bar):
        super().__init__(env)
        self._bar = bar

    def step(self, action):
        """As Gymnasium's."""
        *result, terminated, truncated, info = super().step(action)
        self._bar.update(terminated or truncated)
        return *result, terminated, truncated, info


def repeats_starts(env):
    """Whether the environment obeys its seed: equal seeds, equal first observations."""
    first, second = (env.reset(seed=0)[0] for _ in range(2))
    return bool(np.array_equal(first, second))


def summary(returns):
    """Mean, standard deviation and 95 % interval of the mean of a list of returns, as JSON can hold them.

    The interval of a single return is None.
    """
    mean, low, high = confidence_interval(returns)
    std = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    return {"mean": mean, "std": std, "interval": [low, high] if len(returns) > 1 else None}
