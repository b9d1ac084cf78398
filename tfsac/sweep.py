"""Trains many runs side by side on Ray: python -m tfsac.sweep --gin_file=gin/reacher.gin --seeds=0-9

Every combination of seed and --gin_grid values is a trial, and every trial an ordinary run directory below --out.
The same command again goes on where a sweep was cut off. At the end --out holds sweep.csv, returns.png and best.gin.
"""

import csv
import itertools
import os
import re
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ray
from absl import flags
from ray import exceptions
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tfsac import checkpoint, config, plot, run_dir, train
from tfsac.envs import make_env
from tfsac.errors import UserError, require, run_command
from tfsac.remote_collectors import connect

RETRIES = 2  # of a trial, each from its last checkpoint
LOOK_EVERY = 2.0  # seconds between two looks at the trials


class Trial(NamedTuple):
    """One run of the sweep."""

    configuration: str  # the grid's values, 'SAC.tau=0.01', or '' without a grid
    seed: int
    settings: dict
    logdir: Path


class Progress(NamedTuple):
    """What a run directory says of its trial."""

    step: int
    steps_per_second: float  # NaN before the first row of metrics
    evaluation: float  # mean return of the last evaluation; NaN before


def parse_seeds(text):
    """'0-3,7' -> [0, 1, 2, 3, 7]; UserError for anything else."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        require(first <= last, f"--seeds: expected numbers and ranges such as 0-9 or 0,2,5-7, received {text!r}")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def make_trials(gin_files, gin_params, seeds, gin_grid, out):
    """Every combination of the grid's values, with every seed.

    Args:
        gin_files, gin_params: as for train.
        seeds: from `parse_seeds`.
        gin_grid: bindings of lists, 'SAC.tau = [0.005, 0.01]'.
        out: directory of the sweep.

    Raises:
        UserError: see `config.read` and `config.resolve`; a grid without values, or of the seed.
    """
    grid = config.read([], gin_grid)
    for name, values in grid.items():
        fits = isinstance(values, list) and len(values) > 0
        require(fits, f"--gin_grid: expected {name} = [value, ...], received {name} = {values!r}")
        require(name != "train.seed", "--gin_grid: seeds are chosen with --seeds")
    trials = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        configuration = ",".join(f"{name}={value}" for name, value in chosen.items())
        params = [*gin_params, *(f"{name} = {value!r}" for name, value in chosen.items())]
        for seed in seeds:
            settings = train.read_settings(gin_files, [*params, f"train.seed = {seed}"])
            folder = re.sub(r"[^\w.,=-]+", "_", configuration)
            trials.append(Trial(configuration, seed, settings, Path(out) / folder / f"seed{seed}"))
    for env_id in {trial.settings["train"]["env_id"] for trial in trials}:
        make_env(env_id).close()  # a mistake is told once and now, not by every trial
    return trials


def check_out(trials):
    """Refuses, with UserError, to go on with a sweep of other settings."""
    for trial in trials:
        path = trial.logdir / "config.gin"
        if path.exists():
            try:
                train.check_unchanged(trial.settings, train.read_settings([path], []))
            except UserError as error:
                raise UserError(f"{trial.logdir} is of another sweep: {error}; or sweep into another --out") from error


def progress(logdir):
    """Reads a trial's `Progress` from its tables, as far as they are there."""
    metrics, evaluations = (plot.read_csv(logdir / f"{table}.csv") for table in ("metrics", "evaluations"))
    episodes = plot.read_csv(logdir / "episodes.csv")
    step = max((int(table["step"][-1]) for table in (metrics, evaluations, episodes) if table), default=0)
    rate = float(metrics["steps_per_second"][-1]) if metrics else np.nan
    last = evaluations["return"][evaluations["step"] == evaluations["step"][-1]] if evaluations else [np.nan]
    return Progress(step, rate, float(np.mean(last)))


def finished(trial):
    """Whether the trial has come to its end, pictures and all."""
    done = checkpoint.steps(trial.logdir / "checkpoints")[-1:]
    return done == [trial.settings["train"]["total_steps"]] and (trial.logdir / "returns.png").exists()


# max_calls: a process of its own for each trial. A trial that raises, or whose node goes, is begun again by Ray.
@ray.remote(num_cpus=1, max_calls=1, max_retries=RETRIES, retry_exceptions=True)
def _run(logdir, settings):
    """Trains one trial, from its last checkpoint if it has one; -> what the user has to mend, or None."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")  # a core is a trial's: Ray runs as many trials as there are cores
    checkpoints = logdir / "checkpoints"
    try:
        train.set_threads()
        restored = checkpoint.restore(checkpoints) if checkpoint.steps(checkpoints) else None
        status = train.run(str(logdir), not restored, restored, settings)
    except UserError as error:
        return str(error)  # another try would change nothing
    return "interrupted" if status else None


def sweep(trials, show):
    """Runs the trials, as many at once as the cores allow.

    Args:
        trials: from `make_trials`.
        show: called now and then with the state of each trial, words by trial's logdir.

    Returns:
        The last state of each trial: 'done', or why it failed.

    Raises:
        KeyboardInterrupt: after every trial under way has saved a checkpoint.
    """
    states = {trial.logdir: "done" if finished(trial) else "waits" for trial in trials}
    taken_before = {trial.logdir: run_dir.taken_at(trial.logdir) for trial in trials}  # by an earlier call, maybe
    running = {}
    for trial in trials:
        if states[trial.logdir] != "done":
            running[_run.remote(trial.logdir.absolute(), trial.settings)] = trial
    try:
        while running:
            ready, _ = ray.wait(list(running), timeout=LOOK_EVERY)
            for ref in ready:
                trial = running.pop(ref)
                states[trial.logdir] = _outcome(ref, trial)
            for trial in running.values():
                if run_dir.taken_at(trial.logdir) != taken_before[trial.logdir]:
                    states[trial.logdir] = "runs"
            show(states)
    except KeyboardInterrupt:
        for ref in running:
            ray.cancel(ref)
        ray.wait(list(running), num_returns=len(running), timeout=60)
        raise
    return states


def _outcome(ref, trial):
    try:
        fault = ray.get(ref)
    except exceptions.RayError as error:
        fault = str(getattr(error, "cause", None) or error).splitlines()[0]
    if fault:
        return f"failed: {fault}"
    if not finished(trial):
        return "failed: its run directory is not here: --out must be on a disk that all machines share"
    return "done"


def write_results(trials, states, out):
    """Writes sweep.csv, returns.png and best.gin, of the trials that are done.

    The best configuration is that of the highest mean return of the last evaluations, over all its seeds.

    Returns:
        The best configuration, or None while none has all its seeds done.
    """
    rows, groups = [], {}
    for trial in trials:
        found = progress(trial.logdir)
        result = {"step": found.step, "return_mean": found.evaluation, "state": states[trial.logdir]}
        rows.append({"configuration": trial.configuration, "seed": trial.seed, **result, "logdir": trial.logdir})
        groups.setdefault(trial.configuration, []).append((trial, found.evaluation))
    with open(out / "sweep.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    whole = {
        configuration: group
        for configuration, group in groups.items()
        if all(states[trial.logdir] == "done" for trial, _ in group)
    }
    if not whole:
        return None
    curves = {name or "all seeds": [trial.logdir for trial, _ in group] for name, group in whole.items()}
    plot.draw_returns(curves, "deterministic policy: mean and 95 % band of the mean", out / "returns.png")
    best = max(whole, key=lambda name: np.mean([evaluation for _, evaluation in whole[name]]))
    run_dir.write_whole(out / "best.gin", config.write(whole[best][0][0].settings))
    return best


class _Display:
    """A live table on a terminal, a line for each trial that begins or ends elsewhere."""

    def __init__(self, trials, live):
        self._trials, self._live, self._before = trials, live, {}

    def __call__(self, states):
        if not self._live.console.is_terminal:
            for logdir, state in states.items():
                if state != self._before.get(logdir, "waits"):
                    print(f"{logdir}: {state}", flush=True)
            self._before = dict(states)
            return
        done = sum(state == "done" for state in states.values())
        table = Table("trial", "step", "steps/s", "return", "state", title=f"{done} of {len(states)} trials done")
        for trial in self._trials:
            found = progress(trial.logdir)
            numbers = f"{found.step:,}", f"{found.steps_per_second:.0f}", f"{found.evaluation:.4g}"
            table.add_row(f"{trial.configuration} seed {trial.seed}", *numbers, states[trial.logdir])
        self._live.update(table, refresh=True)


def main():
    """The command; see the module's docstring."""
    args = flags.FLAGS
    # Shells start background commands with SIGINT ignored, which Python would leave at that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    params = args.gin_param + ([f"train.env_id = {args.env_id!r}"] if args.env_id else [])
    seeds = parse_seeds(args.seeds)
    settings = train.read_settings(args.gin_file, params)
    out = Path(args.out or run_dir.default_name(settings["train"]["env_id"], "sweep-"))
    trials = make_trials(args.gin_file, params, seeds, args.gin_grid, out)
    check_out(trials)
    out.mkdir(parents=True, exist_ok=True)
    left = sum(not finished(trial) for trial in trials)
    if left:
        connect(args.ray_address)
        print(f"{left} of {len(trials)} trials in {out}, {int(ray.cluster_resources()['CPU'])} at once", flush=True)
    try:
        with Live(console=Console(), auto_refresh=False) as live:
            states = sweep(trials, _Display(trials, live))
    except KeyboardInterrupt:
        print(f"interrupted; the same command with --out={out} goes on", file=sys.stderr)
        return 130
    best = write_results(trials, states, out)
    failed = [f"{logdir}: {state}" for logdir, state in states.items() if state != "done"]
    print(*failed, sep="\n", end="\n" * bool(failed), file=sys.stderr)
    if best is not None:
        print(f"best configuration: {best or 'the only one'}; {out}: sweep.csv, returns.png, best.gin")
    return 1 if failed else 0


if __name__ == "__main__":
    flags.DEFINE_multi_string("gin_file", [], "Settings, as for tfsac.train; repeatable.")
    flags.DEFINE_multi_string("gin_param", [], "One setting, as for tfsac.train; repeatable.")
    flags.DEFINE_string("seeds", "0", "Seeds: numbers and ranges, such as 0-9 or 0,2,5-7.")
    flags.DEFINE_multi_string("gin_grid", [], "Values to try, such as 'SAC.tau = [0.005, 0.01]'; repeatable.")
    flags.DEFINE_string("out", None, "Directory of the sweep; default runs/sweep-<environment>-<time>.")
    flags.DEFINE_string("ray_address", None, "Ray to join, such as auto; default one started here.")
    flags.DEFINE_string("env_id", None, "Shorthand for --gin_param=\"train.env_id = '...'\".")
    run_command(main)
