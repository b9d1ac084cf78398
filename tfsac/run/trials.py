"""The trials of a sweep and their results, read from settings and from run directories.

A trial is a set of values; each of its seeds is a run, in an ordinary run directory.
"""

import csv
import importlib.util
import itertools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfsac.data.envs import EnvSettings
from tfsac.errors import UserError, require
from tfsac.run import checkpoint, config, directory
from tfsac.run import settings as run_settings
from tfsac.run.pictures import draw_returns
from tfsac.run.tables import read_csv

SHOWN = 10  # trials that returns.png and the live table show of those that have ended: the best


class Run(NamedTuple):
    """One seed of a trial."""

    seed: int
    settings: dict
    logdir: Path


class Trial(NamedTuple):
    """A set of values, with every seed."""

    number: int
    values: dict  # by the setting's name; empty where the seeds are all there is to try
    runs: list

    @property
    def configuration(self):
        return ",".join(f"{name}={value}" for name, value in self.values.items())


def parse_seeds(text):
    """'0-3,7' -> [0, 1, 2, 3, 7]; UserError for anything else."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        require(first <= last, f"--seeds: expected numbers and ranges such as 0-9 or 0,2,5-7, received {text!r}")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def make_trial(gin_files, gin_params, seeds, number, values, folder):
    """The trial of these values, its runs in folder/seedS; UserError as `run.settings.read`."""
    runs = []
    for seed in seeds:
        params = [*gin_params, *(f"{name} = {value!r}" for name, value in values.items()), f"train.seed = {seed}"]
        settings = run_settings.read(gin_files, params)
        require(settings["train"]["eval_every"], "train.eval_every = None: a sweep compares evaluations")
        runs.append(Run(seed, settings, Path(folder) / f"seed{seed}"))
    return Trial(number, values, runs)


def grid_trials(gin_files, gin_params, seeds, gin_grid, out):
    """A trial for every combination of the grid's values.

    Args:
        gin_files, gin_params: as for train.
        seeds: from `parse_seeds`.
        gin_grid: bindings of lists, 'SAC.tau = [0.005, 0.01]'.
        out: directory of the sweep.

    Raises:
        UserError: see `config.read` and `config.resolve`; a grid without values, or of the seed; `check_out`.
    """
    grid = config.read([], gin_grid)
    for name, values in grid.items():
        fits = isinstance(values, list) and len(values) > 0
        require(fits, f"--gin_grid: expected {name} = [value, ...], received {name} = {values!r}")
        require(name != "train.seed", "--gin_grid: seeds are chosen with --seeds")
    trials = []
    for number, chosen in enumerate(itertools.product(*grid.values())):
        values = dict(zip(grid, chosen, strict=True))
        folder = re.sub(r"[^\w.,=-]+", "_", Trial(number, values, []).configuration)
        trials.append(make_trial(gin_files, gin_params, seeds, number, values, Path(out) / folder))
    _check(trials)
    return trials


def _check(trials):
    """Refuses, with UserError, settings that a run would refuse, and a directory with a sweep of other settings."""
    runs = [run for trial in trials for run in trial.runs]
    for env in {repr(run.settings["env"]): run.settings["env"] for run in runs}.values():
        EnvSettings(**env).make_for_training()[0].close()
    for run in runs:
        path = run.logdir / "config.gin"
        if path.exists():
            try:
                run_settings.check_unchanged(run.settings, run_settings.read([path], []))
            except UserError as error:
                raise UserError(f"{run.logdir} is of another sweep: {error}; or sweep into another --out") from error


def make_search(gin_files, gin_params, seeds, texts, trials, out):
    """The `run.search.Search` of these settings, in out/search.journal.

    Args:
        gin_files, gin_params, seeds, out: see `grid_trials`.
        texts: distributions, see `run.search.parse`.
        trials: how many.

    Raises:
        UserError: settings, a distribution or a file that does not fit.
    """
    require(importlib.util.find_spec("optuna"), "--search needs Optuna, which is not installed: pip install optuna")
    require(trials > 0, f"--trials: expected a positive number, received {trials}")
    from tfsac.run.search import Search, parse

    def take(name, value):
        ((full_name, _),) = config.read([], [f"{name} = {value!r}"]).items()
        require(full_name != "train.seed", "--search: seeds are chosen with --seeds")
        scope, _, parameter = full_name.rpartition(".")
        return full_name, run_settings.read(gin_files, [*gin_params, f"{name} = {value!r}"])[scope][parameter]

    distributions = parse(texts, take)
    settings = make_trial(gin_files, gin_params, seeds[:1], 0, {}, out).runs[0].settings
    EnvSettings(**settings["env"]).make_for_training()[0].close()
    fixed = {f"{scope}.{name}": repr(x) for scope, values in settings.items() for name, x in values.items()}
    fixed |= {"--seeds": repr(seeds)}
    out.mkdir(parents=True, exist_ok=True)
    return Search(out / "search.journal", distributions, fixed, trials)


class Progress(NamedTuple):
    """What a run directory says of its run."""

    step: int
    steps_per_second: float  # NaN before the first row of metrics
    evaluation: float  # mean return of the last evaluation; NaN before


def progress(logdir):
    """Reads a run's `Progress` from its tables, as far as they are there."""
    metrics, episodes = (read_csv(logdir / f"{table}.csv") for table in ("metrics", "episodes"))
    evaluated = evaluations(logdir)
    steps = [int(table["step"][-1]) for table in (metrics, episodes) if table]
    rate = float(metrics["steps_per_second"][-1]) if metrics else np.nan
    return Progress(max([*steps, *evaluated], default=0), rate, [np.nan, *evaluated.values()][-1])


def evaluations(logdir):
    """Mean return by step, of each evaluation so far."""
    table = read_csv(logdir / "evaluations.csv")
    steps = dict.fromkeys(table["step"]) if table else ()
    return {int(step): float(np.mean(table["return"][table["step"] == step])) for step in steps}


def finished(run):
    """Whether the run has ended and drawn its pictures."""
    done = checkpoint.steps(run.logdir / "checkpoints")[-1:]
    return done == [run.settings["train"]["total_steps"]] and (run.logdir / "returns.png").exists()


def write_results(trials, states, out):
    """Writes sweep.csv, returns.png and best.gin.

    The best trial has the highest mean return of the last evaluations, over all its seeds.

    Returns:
        The best trial, or None while none has all its seeds done.
    """
    rows, whole = [], {}  # trials that are done: by number, mean of the last evaluations
    for trial in trials:
        results = [progress(run.logdir) for run in trial.runs]
        for run, result in zip(trial.runs, results, strict=True):
            row = {"trial": trial.number, "configuration": trial.configuration, "seed": run.seed, "step": result.step}
            rows.append(row | {"return_mean": result.evaluation, "state": states[run.logdir], "logdir": run.logdir})
        if all(states[run.logdir] == "done" for run in trial.runs):
            whole[trial.number] = float(np.mean([result.evaluation for result in results]))
    with open(out / "sweep.csv", "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if not whole:
        return None
    by_number = {trial.number: trial for trial in trials}
    best = [by_number[number] for number in sorted(whole, key=whole.get, reverse=True)]
    shown = sorted(best[:SHOWN], key=lambda trial: trial.number)
    curves = {trial.configuration or "all seeds": [run.logdir for run in trial.runs] for trial in shown}
    title = "deterministic policy: mean and 95 % band of the mean"
    draw_returns(curves, title + f", {SHOWN} best trials" * (len(best) > SHOWN), out / "returns.png")
    directory.write_whole(out / "best.gin", config.write(best[0].runs[0].settings))
    return best[0]
