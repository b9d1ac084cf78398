"""Trains many runs side by side on Ray: every combination of values, or a search for the best ones.

    python -m tfsac.sweep --gin_file=gin/sac/reacher.gin --seeds=0-9 --gin_grid='SAC.tau = [0.005, 0.01]'
    python -m tfsac.sweep --gin_file=gin/sac/reacher.gin --trials=30 --search='SAC.tau = loguniform(1e-3, 3e-2)'

A trial is a set of values; each of its seeds is an ordinary run directory below --out. If a sweep was cut off, the same
command continues it. At the end --out holds sweep.csv, returns.png, best.gin and, for a search, importances.png.
"""

import contextlib
import functools
import os
import shlex
import signal
import sys
from pathlib import Path

import numpy as np
from absl import flags

from tfsac import train
from tfsac.errors import UserError, require, require_ray, run_command
from tfsac.run import checkpoint, directory, trials
from tfsac.run import settings as run_settings
from tfsac.run.pictures import draw_importances
from tfsac.run.trials import evaluations, finished, progress

with contextlib.suppress(ImportError):  # `main` says what to install
    import ray
    from ray import exceptions
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from tfsac.data.remote_collectors import connect

RETRIES = 2  # of a run, each from its last checkpoint
LOOK_EVERY = 2.0  # seconds between two looks at the runs


def _train(logdir, settings):
    """Trains one run, from its last checkpoint if it has one; -> the mistake that the user has to mend, or None."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")  # a core is a run's: Ray runs as many as there are cores
    checkpoints = logdir / "checkpoints"
    try:
        train.set_threads()
        restored = checkpoint.restore(checkpoints) if checkpoint.steps(checkpoints) else None
        status = train.run(str(logdir), settings, restored, overwrite=not restored)
    except UserError as error:
        return str(error)  # another try would change nothing
    return "interrupted" if status else None


@functools.cache
def _remote_train():
    """`_train` as Ray's: each run in a process of its own, begun again if it raises or its node goes."""
    return ray.remote(num_cpus=1, max_calls=1, max_retries=RETRIES, retry_exceptions=True)(_train)


class Sweep:
    """Trials, and the state of each of their runs.

    Attributes:
        trials: list of `Trial`; a search adds to it.
        states: words by a run's logdir: waits, runs, done, pruned, or 'failed: ' and why.

    Args:
        begun: the trials of a grid, or those that a search has ended before.
        states: of these, where `finished` does not tell.
        search: a `run.search.Search`, or None.
        propose: (number, values) -> `Trial`, for the search.
    """

    def __init__(self, begun, states=None, search=None, propose=None):
        self.trials, self._search, self._propose = list(begun), search, propose
        self.states = {run.logdir: "done" if finished(run) else "waits" for trial in begun for run in trial.runs}
        self.states |= states or {}
        self._open = []  # trials that the search waits for
        self._running = {}  # Ray's reference: run
        self._taken_before = {}  # when the directory of a run was taken, maybe by an earlier call

    def run(self, show):
        """Runs the trials, as many runs at once as the cores allow.

        Args:
            show: called now and then with this object.

        Raises:
            KeyboardInterrupt: after every run under way has saved a checkpoint.
        """
        for trial in self.trials:
            self._begin(trial)
        try:
            while self._ask() or self._running:
                ready, _ = ray.wait(list(self._running), timeout=LOOK_EVERY) if self._running else ((), ())
                for reference in ready:
                    run = self._running.pop(reference)
                    if self.states[run.logdir] != "pruned":
                        self.states[run.logdir] = _outcome(reference, run)
                for run in self._running.values():
                    taken = directory.taken_at(run.logdir) != self._taken_before[run.logdir]
                    if taken and self.states[run.logdir] == "waits":
                        self.states[run.logdir] = "runs"
                for trial in list(self._open):
                    self._judge(trial)
                show(self)
        except KeyboardInterrupt:
            for reference in self._running:
                ray.cancel(reference)
            ray.wait(list(self._running), num_returns=len(self._running), timeout=60)
            raise

    def _begin(self, trial):
        for run in trial.runs:
            if self.states.setdefault(run.logdir, "done" if finished(run) else "waits") == "waits":
                self._taken_before[run.logdir] = directory.taken_at(run.logdir)
                self._running[_remote_train().remote(run.logdir.absolute(), run.settings)] = run

    def _ask(self):
        """Asks the search for trials while a core would have nothing to do; -> whether there is one to wait for."""
        cores = ray.cluster_resources().get("CPU", 1)
        while self._search and len(self._running) < cores and (proposal := self._search.ask()):
            trial = self._propose(*proposal)
            self.trials.append(trial)
            self._open.append(trial)
            self._begin(trial)
        return bool(self._open)

    def _judge(self, trial):
        """Tells the search how a trial stands, and ends it where the search says so."""
        states = [self.states[run.logdir] for run in trial.runs]
        begun = [evaluations(run.logdir) for run in trial.runs if self.states[run.logdir] in ("runs", "done")]
        if not set(states) & {"waits", "runs"}:
            failed = any(state != "done" for state in states)
            self._search.tell(trial.number, None if failed else float(np.mean([list(x.values())[-1] for x in begun])))
            self._open.remove(trial)
            return
        steps = set.intersection(*map(set, begun)) if begun else ()
        if self._search.prunes(trial.number, {step: np.mean([x[step] for x in begun]) for step in steps}):
            for reference, run in self._running.items():
                if run in trial.runs:
                    ray.cancel(reference)  # it saves a checkpoint, too
            self.states |= {run.logdir: "pruned" for run in trial.runs if self.states[run.logdir] != "done"}
            self._open.remove(trial)


def _outcome(reference, run):
    try:
        fault = ray.get(reference)
    except exceptions.RayError as error:
        lines = str(getattr(error, "cause", None) or error).splitlines()  # of some there are none
        fault = lines[0] if lines else type(error).__name__
    if fault:
        return f"failed: {fault}"
    if not finished(run):
        return "failed: its run directory is not here: --out must be on a disk that all machines share"
    return "done"


class _Display:
    """A live table on a terminal, a line for each run that begins or ends elsewhere."""

    def __init__(self, live):
        self._live, self._before, self._ended = live, {}, {}

    def __call__(self, sweep):
        if not self._live.console.is_terminal:
            for logdir, state in sweep.states.items():
                if state != self._before.get(logdir, "waits"):
                    print(f"{logdir}: {state}", flush=True)
            self._before = dict(sweep.states)
            return
        self._live.update(self.table(sweep), refresh=True)

    def table(self, sweep):
        """Every run under way, and the best of those that have ended."""
        states = list(sweep.states.values())
        counts = ", ".join(f"{states.count(word)} {word}" for word in ("done", "pruned", "runs", "waits"))
        table = Table("trial", "seed", "step", "steps/s", "return", "state", title=counts)
        under_way, ended = [], []
        for trial in sweep.trials:
            for run in trial.runs:
                state = sweep.states[run.logdir]
                over = state not in ("runs", "waits")
                result = self._ended.get(run.logdir) or progress(run.logdir)  # tables of hundreds are read once
                if over:
                    self._ended[run.logdir] = result
                values = " ".join(f"{name}={_short(value)}" for name, value in trial.values.items())
                numbers = f"{result.step:,}", f"{result.steps_per_second:.0f}", f"{result.evaluation:.4g}"
                row = f"{trial.number} {values}", str(run.seed), *numbers, state
                (ended if over else under_way).append((result.evaluation, row))
        under_way.sort(key=lambda pair: pair[1][-1])  # what runs before what waits
        ended.sort(key=lambda pair: np.nan_to_num(pair[0], nan=-np.inf), reverse=True)
        for _, row in [*under_way[: trials.SHOWN], *ended[: trials.SHOWN]]:
            table.add_row(*row)
        return table


def _short(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main():
    """The command; see the module's docstring."""
    args = flags.FLAGS
    require_ray("tfsac.sweep")
    # Shells start background commands with SIGINT ignored, which Python would leave at that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    params = args.gin_param + ([f"env.id = {args.env_id!r}"] if args.env_id else [])
    common = args.gin_file, params, trials.parse_seeds(args.seeds)
    settings = run_settings.read(args.gin_file, params)
    out = Path(args.out or directory.default_name(settings["env"]["id"], "sweep-"))
    require(not (args.search and args.gin_grid), "--search and --gin_grid exclude each other")
    if args.search:
        search = trials.make_search(*common, args.search, args.trials, out)

        def propose(number, values):
            return trials.make_trial(*common, number, values, out / f"trial{number}")

        told = [(propose(number, values), state) for number, values, state in search.told()]
        gone = {"done": "failed: its run directory is gone"}
        states = {run.logdir: gone.get(x, x) for trial, x in told for run in trial.runs if not finished(run)}
        sweep = Sweep([trial for trial, _ in told], states, search, propose)
        left, runs = ((args.trials - n) * len(common[2]) for n in (len(told), 0))
    else:
        search, sweep = None, Sweep(trials.grid_trials(*common, args.gin_grid, out))
        left, runs = sum(state != "done" for state in sweep.states.values()), len(sweep.states)
    with directory.take(out, overwrite=False):
        if left > 0:
            connect(args.ray_address)
            print(f"{left} of {runs} runs in {out}, {int(ray.cluster_resources()['CPU'])} at once", flush=True)
            try:
                with Live(console=Console(), auto_refresh=False) as live:
                    sweep.run(_Display(live))
            except KeyboardInterrupt:
                print(f"interrupted; the same command with {shlex.quote(f'--out={out}')} goes on", file=sys.stderr)
                return 130
        best = trials.write_results(sweep.trials, sweep.states, out)
        drawn = search is not None and draw_importances(search.importances(), out / "importances.png")
    failed = [f"{logdir}: {state}" for logdir, state in sweep.states.items() if state.startswith("failed")]
    print(*failed, sep="\n", end="\n" * bool(failed), file=sys.stderr)
    if best is not None:
        files = "sweep.csv, returns.png, best.gin" + ", importances.png" * drawn
        print(f"best configuration: {best.configuration or 'the only one'}; {out}: {files}")
    return 1 if failed else 0


if __name__ == "__main__":
    flags.DEFINE_multi_string("gin_file", [], "Settings, as for tfsac.train; repeatable.")
    flags.DEFINE_multi_string("gin_param", [], "One setting, as for tfsac.train; repeatable.")
    flags.DEFINE_string("seeds", "0", "Seeds: numbers and ranges, such as 0-9 or 0,2,5-7.")
    flags.DEFINE_multi_string("gin_grid", [], "Values to try, such as 'SAC.tau = [0.005, 0.01]'; repeatable.")
    flags.DEFINE_multi_string(
        "search", [], "What to draw from, such as 'SAC.tau = loguniform(1e-3, 3e-2)'; repeatable."
    )
    flags.DEFINE_integer("trials", 30, "With --search: how many sets of values to try, each with every seed.")
    flags.DEFINE_string("out", None, "Directory of the sweep; default runs/sweep-<environment>-<time>.")
    flags.DEFINE_string("ray_address", None, "Ray to join, such as auto; default one started here.")
    flags.DEFINE_string("env_id", None, "Shorthand for --gin_param=\"env.id = '...'\".")
    run_command(main)
