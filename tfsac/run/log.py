"""What a run writes down and shows while it runs: CSV tables, TensorBoard, the progress bar."""

import csv
import json
import math
import os
import sys
import time
from operator import index
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tfsac.errors import require
from tfsac.quiet_tensorflow import tf
from tfsac.run import checkpoint
from tfsac.run.loop import METRICS_EVERY
from tfsac.run.tables import TABLES


class LogState(NamedTuple):
    """How far a log has come.

    Attributes:
        seconds: of the run.
        bytes: sizes of the log's files by name.
        evaluated: the step of the last evaluation.
    """

    seconds: float
    bytes: dict
    evaluated: int

    @classmethod
    def read(cls, state, step):
        """Takes back what JSON made of `RunLog.get_state`, at this step of the run; any exception if it is no such."""
        sizes = {name: index(size) for name, size in state["bytes"].items()}
        seconds, evaluated = float(state["seconds"]), index(state.get("evaluated", step))  # 0.1 saved after evaluations
        require(0 <= seconds < math.inf and min(sizes.values(), default=0) >= 0, "expected numbers from 0 on")
        return cls(seconds, sizes, evaluated)

    @classmethod
    def of_run(cls, restored, logdir):
        """The state at the last checkpoint of a run, or at its end if that came after it.

        Args:
            restored: the Checkpoint.
            logdir: its run directory, whose finished.json counts, too.

        Raises:
            UserError: one of them holds no such state.
        """
        with checkpoint.reading(f"the checkpoint of step {restored.step}"):
            log = restored.facts["log"]
        finished = Path(logdir) / "finished.json"
        if finished.exists():
            with checkpoint.reading(finished):
                state = json.loads(finished.read_text())
                log = state["log"] if state["step"] == restored.step else log
        with checkpoint.reading(f"what {logdir} says of its tables"):
            return cls.read(log, restored.step)


class RunLog:
    """The log of one run.

    Args:
        logdir: the run directory.
        total_steps: where the progress bar ends.
        step: where the run stands; above 0 after a resume.
        state: the `LogState` at that step; later rows are cut off, so that none is there twice.
        shown: the metrics that the progress bar shows beside returns.
    """

    def __init__(self, logdir, total_steps, step=0, state=None, shown=()):
        self._logdir, self._shown_metrics = Path(logdir), shown
        state = state or LogState(0.0, {}, step)
        self.evaluated = state.evaluated
        for path in self._files():
            size = state.bytes.get(str(path.relative_to(self._logdir)), 0)
            if size:
                with open(path, "r+b") as file:
                    file.truncate(min(size, path.stat().st_size))
            else:
                path.unlink()
        self._began, self._began_at, self._began_after = time.monotonic(), step, state.seconds
        self._last = step, state.seconds  # where the last row of metrics was written
        self._tables, self._shown = {}, {}
        self._tensorboard = tf.summary.create_file_writer(os.fsencode(self._logdir / "tensorboard"))
        self._bar = tqdm(
            total=total_steps, initial=step, unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True
        )

    def block(self, block):
        """Logs a `loop.Block`: its episodes, and the means of its metrics where these are due."""
        for step, total, length in block.episodes:
            self._write("episodes", {"step": step, "return": total, "length": length})
            self._show(training=total)
        if block.metrics and block.is_due(METRICS_EVERY):
            self._metrics(block.step, block.metrics)
        self._bar.update(block.step - self._bar.n)

    def _metrics(self, step, values):
        (last_step, last_seconds), seconds = self._last, self.seconds
        self._last = step, seconds
        clock = {"seconds": seconds, "steps_per_second": (step - last_step) / max(seconds - last_seconds, 1e-9)}
        means = {name: float(np.mean(value)) for name, value in values.items()}
        self._write("metrics", {"step": step} | clock | means)
        self._scalars("metrics", step, clock | means)
        self._show(**{name: means[name] for name in self._shown_metrics if name in means})

    def evaluation(self, step, returns, lengths):
        """Logs the returns and lengths of evaluation episodes, one number for each episode."""
        for episode, (total, length) in enumerate(zip(returns, lengths, strict=True)):
            self._write("evaluations", {"step": step, "episode": episode, "return": total, "length": length})
        self.evaluated = step
        self._scalars("evaluations", step, {"return": np.mean(returns)})
        self._show(evaluation=np.mean(returns))
        if self._bar.disable:  # no terminal: a line now and then instead of a bar that moves
            rate = (step - self._began_at) / max(self.seconds - self._began_after, 1e-9)
            left = tqdm.format_interval((self._bar.total - step) / max(rate, 1e-9))
            shown = "  ".join(f"{name} {value}" for name, value in self._shown.items())
            print(f"step {step}/{self._bar.total}  {rate:.0f} steps/s  {shown}  left {left}", flush=True)

    @property
    def seconds(self):
        """Seconds that the run has taken, without the time between a stop and a resume."""
        return self._began_after + time.monotonic() - self._began

    def get_state(self):
        """A `LogState` as JSON can hold it; the tables are on the disk, not in a cache, on return."""
        self._tensorboard.flush()
        for file, _ in self._tables.values():
            file.flush()
            os.fsync(file.fileno())
        sizes = {str(path.relative_to(self._logdir)): path.stat().st_size for path in self._files()}
        return {"seconds": self.seconds, "bytes": sizes, "evaluated": self.evaluated}

    def close(self):
        """Closes every file and leaves the bar where it stands."""
        self._bar.close()
        self._tensorboard.close()
        for file, _ in self._tables.values():
            file.close()

    def _write(self, table, row):
        if table not in self._tables:
            path = self._logdir / f"{table}.csv"
            header = path.read_text("utf-8").partition("\n")[0].split(",") if path.exists() else list(row)
            file = open(path, "a", 1, "utf-8", newline="")  # noqa: SIM115 (open as long as the run; readable at once)
            # A run that another version began keeps its columns.
            writer = csv.DictWriter(file, header, restval="nan", extrasaction="ignore", lineterminator="\n")
            self._tables[table] = file, writer
            if file.tell() == 0:
                writer.writeheader()
        self._tables[table][1].writerow(row)

    def _scalars(self, group, step, values):
        with self._tensorboard.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def _show(self, **values):
        self._shown |= {name: f"{value:.4g}" for name, value in values.items()}
        self._bar.set_postfix(self._shown, refresh=False)

    def _files(self):
        tables = (self._logdir / f"{table}.csv" for table in TABLES)
        return [*(path for path in tables if path.exists()), *self._logdir.glob("tensorboard/*")]
