"""Whole episodes under a given way of acting: an agent's, or an exported artefact's."""

import numpy as np


def rollout(act, env, episodes, seed=0):
    """Runs episodes on fixed seeds: the same start states for every caller of one seed.

    Args:
        act: observation [O] -> action [A] in the units that env takes.
        env: from `make_env`.
        episodes: how many.
        seed: of the first episode; each one after it has the next.

    Returns:
        Returns (undiscounted sums of rewards) and lengths (in steps): two lists, one entry an episode.
    """
    returns, lengths = [], []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        rewards, over = [], False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            rewards.append(float(reward))
            over = terminated or truncated
        returns.append(sum(rewards))
        lengths.append(len(rewards))
    return returns, lengths


def summary(returns):
    """Mean, spread and 95 % interval of the mean (normal approximation) of a list of returns."""
    mean, std = float(np.mean(returns)), float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    half = 1.96 * std / len(returns) ** 0.5
    return {"mean": mean, "std": std, "low": mean - half, "high": mean + half}
