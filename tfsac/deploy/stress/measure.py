"""Many episodes side by side in one world, and their numbers on return and motor."""

from typing import NamedTuple

import numpy as np

from tfsac.data.envs import EnvSettings, wrappers_of
from tfsac.statistics import confidence_interval


class Episodes(NamedTuple):
    """The record of N episodes, one for each seed.

    Attributes:
        returns, lengths: [N].
        fell: whether it ended in a terminal state, [N].
        actions: commanded, in half-ranges from the middle, [T, N, A] float32; NaN after an episode's end.
        observations: as the policy saw them, [T, N, O] float32, NaN after the end; None if they were not kept.
    """

    returns: np.ndarray
    lengths: np.ndarray
    fell: np.ndarray
    actions: np.ndarray
    observations: np.ndarray | None


class Bench:
    """N environments, used for one world after another.

    Args:
        env: `EnvSettings` of the first world.
        seeds: of the starts, one for each environment.
        is_over: called before every step; if it returns True, `run` raises KeyboardInterrupt.
    """

    def __init__(self, env, seeds, is_over=None):
        self.seeds, self._is_over = seeds, is_over or (lambda: False)
        self.plain = [env.make_plain() for _ in seeds]
        space = self.plain[0].action_space
        self.low, self.high = space.low, space.high
        self._middle, half = 0.5 * self.low + 0.5 * self.high, 0.5 * self.high - 0.5 * self.low
        self._half = np.where(half > 0, half, 1)

    def aimless(self):
        """Uniformly random actions, as a function for `run`; the same numbers for every caller."""
        rng = np.random.default_rng(2)
        return lambda rows: rng.uniform(self.low, self.high, [len(rows), len(self.low)])

    def run(self, act, env, wrappers=(), idle=0, keep=False):
        """One episode from each start.

        Args:
            act: observations [N, O] -> actions [N, A] in the environment's units.
            env: the world's `EnvSettings`.
            wrappers: put on before its imperfections, as `EnvSettings.wrappers`.
            idle: number of first steps in which the middle of the bounds is commanded instead.
            keep: whether to keep the observations.

        Returns:
            `Episodes`.
        """
        extra = EnvSettings(None, wrappers=wrappers)
        envs = [env.with_imperfections(extra.wrapped(plain), unit_actions=False) for plain in self.plain]
        try:
            return self._run(act, envs, idle, keep)
        finally:
            for env in envs:
                _restore(env)

    def _run(self, act, envs, idle, keep):
        rows = np.stack([env.reset(seed=seed)[0] for env, seed in zip(envs, self.seeds, strict=True)])
        count = len(envs)
        returns, lengths, fell = np.zeros(count), np.zeros(count, int), np.zeros(count, bool)
        going, all_actions, all_rows = list(range(count)), [], []
        while going:
            if self._is_over():
                raise KeyboardInterrupt
            actions = np.array(act(rows), self.low.dtype)
            if len(all_actions) < idle:
                actions[:] = self._middle
            commanded = np.full(actions.shape, np.nan, np.float32)
            commanded[going] = ((actions - self._middle) / self._half)[going]
            all_actions.append(commanded)
            if keep:
                seen = np.full(rows.shape, np.nan, np.float32)
                seen[going] = rows[going]
                all_rows.append(seen)
            still = []
            for i in going:
                rows[i], reward, terminated, truncated, _ = envs[i].step(actions[i])
                returns[i] += reward
                lengths[i] += 1
                fell[i] = terminated
                if not (terminated or truncated):
                    still.append(i)
            going = still
        return Episodes(returns, lengths, fell, np.stack(all_actions), np.stack(all_rows) if keep else None)

    def close(self):
        """Closes the environments."""
        for env in self.plain:
            env.close()


def _restore(env):
    """Takes back what wrappers have changed in the machine, which the next world shares."""
    for wrapper in wrappers_of(env):
        if hasattr(type(wrapper), "restore"):
            wrapper.restore()


def worst(returns):
    """Mean of the worst twentieth of the returns, of one at least."""
    count = max(1, round(0.05 * len(returns)))
    return float(np.mean(np.sort(returns)[:count]))


def difference(returns, others):
    """Mean of the paired differences with its 95 % interval, as JSON can hold it."""
    mean, low, high = confidence_interval(np.subtract(returns, others))
    return {"mean": mean, "low": low, "high": high}


def action_metrics(actions):
    """How hard the commands are on the motor, as means over the episodes.

    Args:
        actions: as in `Episodes`.

    Returns:
        Dict: total_variation, mean |a_t - a_{t-1}| of a coordinate in half-ranges per step; high_frequency, the share
        of the energy of a - mean(a) above a quarter of the control rate (half of what can be commanded); saturation,
        the share of coordinates beyond 99 % of the half-range.
    """
    variation, high, saturation = [], [], []
    for episode in np.moveaxis(actions, 1, 0):  # [T, A]
        episode = episode[np.all(np.isfinite(episode), axis=1)].astype(np.float64)
        saturation.append(np.mean(np.abs(episode) > 0.99))
        if len(episode) < 2:
            continue
        variation.append(np.mean(np.abs(np.diff(episode, axis=0))))
        # Both sides: a one-sided spectrum has half of every frequency but the highest.
        energy = np.abs(np.fft.fft(episode - episode.mean(axis=0), axis=0)) ** 2
        frequencies = np.abs(np.fft.fftfreq(len(episode)))  # in control rates
        total = np.sum(energy)
        high.append(np.sum(energy[frequencies > 0.25]) / total if total > 1e-12 else 0.0)
    return {
        "total_variation": float(np.mean(variation)) if variation else 0.0,
        "high_frequency": float(np.mean(high)) if high else 0.0,
        "saturation": float(np.mean(saturation)),
    }


def moved(actions, others):
    """Root mean square of how far two sets of episodes command differently, in half-ranges, while both last."""
    steps = min(len(actions), len(others))
    distance = np.subtract(actions[:steps], others[:steps], dtype=np.float64)
    return float(np.sqrt(np.nanmean(distance**2)))
