"""The study's raw numbers: one compressed table of each kind, with the rows of all runs.

results/returns.csv.gz   run, step, seconds, episode, return: every evaluation episode
results/losses.csv.gz    run, step and the losses, a row for each 250 steps (ours only)
results/budget.csv.gz    run, seed, iteration, ...: see budget.py
results/diagnosis.zip    whole run directories and logs: see diagnosis_runs.py
"""

import contextlib
import csv
import gzip
import io
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent / "results"
DIAGNOSIS = FOLDER / "diagnosis.zip"


class Table:
    """A CSV file whose first column is the name of a run, compressed with gzip.

    Args:
        path: of the file, which need not exist yet.
        columns: their names, without that of the run.
    """

    def __init__(self, path, columns):
        self.path, self.columns = Path(path), tuple(columns)
        self._size, self._runs = None, {}

    def runs(self):
        """Rows by name of the run, in the order in which they were added: dicts of text by column."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._size:
            self._size, self._runs = size, {}
            if size:
                with gzip.open(self.path, "rt", newline="") as file:
                    for row in csv.DictReader(file):
                        self._runs.setdefault(row.pop("run"), []).append(row)
        return self._runs

    def add(self, run, rows):
        """Appends the rows of a run, in the order of the columns.

        They are one member of the gzip file and written at once, so that a run is there whole or not at all, and two
        processes may add runs at the same time.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self.path.exists():
            writer.writerow(["run", *self.columns])
        writer.writerows([run, *row] for row in rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:
            file.write(gzip.compress(text.getvalue().encode(), mtime=0))


RETURNS = Table(FOLDER / "returns.csv.gz", ("step", "seconds", "episode", "return"))
LOSSES = Table(  # a cell is empty where an algorithm has no such loss
    FOLDER / "losses.csv.gz", ("step", "v_loss", "q1_loss", "q2_loss", "policy_loss", "alpha", "entropy", "q1")
)
BUDGET = Table(
    FOLDER / "budget.csv.gz", ("seed", "iteration", "trajectory_return", "return", "v_loss", "q1_loss", "policy_loss")
)


@contextlib.contextmanager
def unpacked():
    """A folder with the content of diagnosis.zip, for as long as the context lasts."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(DIAGNOSIS) as archive:
            archive.extractall(folder)
        yield Path(folder)


def seeds(table, name):
    """Of that run: rows by seed. The order is that of the seeds' names as text, as in a directory."""
    prefix = f"{name}-seed"
    return {int(run.removeprefix(prefix)): rows for run, rows in sorted(table.runs().items()) if run.startswith(prefix)}


def losses(name):
    """Rows of losses by seed, without the columns that the algorithm does not have."""
    found = seeds(LOSSES, name)
    return {seed: [{key: x for key, x in row.items() if x} for row in rows] for seed, rows in found.items()}
