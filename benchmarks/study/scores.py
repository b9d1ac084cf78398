"""What the study's results say, read from results/ and summarised over the seeds."""

import functools
from pathlib import Path

import numpy as np
import results
import runs
from rliable import library
from scipy.stats import trim_mean

OPTIMA = {"pendulum": "pendulum_optimum.csv", "reacher": "reacher_optimum.csv"}
SOLVED = {"pendulum": -200, "reacher": -4.5}  # mean return of 100 episodes that ends the clock
FEW = 5  # seeds below which an interval would say nothing: the seeds themselves are shown


@functools.cache
def load(name):
    """Every seed of a run: {seed: {step: (seconds, mean return of its episodes)}}."""
    found = {}
    for seed, rows in results.seeds(results.RETURNS, name).items():
        steps = {}
        for row in rows:
            steps.setdefault(int(row["step"]), []).append((float(row["seconds"] or "nan"), float(row["return"])))
        found[seed] = {step: tuple(np.mean(values, axis=0)) for step, values in steps.items()}
    return found


def at(name, mark):
    """(seconds, return) of each seed at a step; a step a call later where the evaluation came with it."""
    return [seed[step] for seed in load(name).values() for step in seed if 0 <= step - mark < 8]


def beside_peers(task):
    """The run of `sac`, then those of the peers."""
    return [f"{task}-sac", *(name for name in runs.PEER_TASKS if name.startswith(f"{task}-"))]


def curves(seeds):
    """The steps that all seeds were evaluated at, and the returns there: [points], [seeds, points]."""
    steps = sorted(set.intersection(*(set(seed) for seed in seeds.values())))
    return steps, np.array([[seed[step][1] for step in steps] for seed in seeds.values()])


def iqm(values):
    """IQM over the seeds of [seeds, points], and its 95 % stratified bootstrap interval: [3, points]."""
    # rliable's own aggregate_iqm is this trimmed mean of one point; a curve's points are taken at once, being many.
    return bootstrapped(np.array(values)[:, None], lambda x: trim_mean(x[:, 0], 0.25))


def bootstrapped(returns, statistic):
    """A statistic of the [seeds, 1, points] of one or of each of two runs, and its interval: [3, points]."""
    np.random.seed(0)  # what rliable draws from, whatever random_state it is given
    point, interval = library.get_interval_estimates({"": returns}, statistic, reps=2_000)
    return np.array([point[""], *interval[""]])


def optimum(task):
    """Mean return of optimal control from the 100 starts, or None where it is not known."""
    path = Path(__file__).parents[1] / OPTIMA.get(task.split("-")[0], "none")
    return np.mean([float(row["return"]) for row in runs.read(path)]) if path.is_file() else None


def budget(reading, task, algorithm, column):
    """[seeds, 50] of that column, or None where it was not run or has no such loss."""
    table = results.BUDGET.runs().get(f"{reading}-{task}-{algorithm}")
    if not table or table[0][column] == "nan":
        return None
    return np.array([float(x[column]) for x in table]).reshape(-1, 50)
