"""Keeps runs of `crossq`, which no threshold of the diagnosis knows: python benchmarks/study/crossq_runs.py LOGDIR...

Adds to results/diagnosis.zip, under crossq/ and the name that benchmarks/any_task/runs.py gives the run: config.gin,
episodes.csv, evaluations.csv, and of metrics.csv a row for each 1,000 steps, with five digits.
"""

import csv
import io
import sys
import zipfile
from pathlib import Path

import results

EVERY = 1000  # steps


def keep(logdir):
    with zipfile.ZipFile(results.DIAGNOSIS, "a", zipfile.ZIP_DEFLATED) as archive:
        for table in ("config.gin", "episodes.csv", "evaluations.csv"):
            archive.write(logdir / table, f"crossq/{logdir.name}/{table}")
        archive.writestr(f"crossq/{logdir.name}/metrics.csv", thinned(logdir / "metrics.csv"))


def thinned(path):
    """The table's text with the first row at or after each 1,000 steps."""
    text, due = io.StringIO(), 0.0
    with open(path, newline="") as file:
        rows = csv.reader(file)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(next(rows))
        for step, *values in rows:
            if float(step) >= due:
                writer.writerow([step, *(f"{float(value):.5g}" for value in values)])
                due = float(step) // EVERY * EVERY + EVERY
    return text.getvalue()


if __name__ == "__main__":
    for logdir in map(Path, sys.argv[1:]):
        keep(logdir)
