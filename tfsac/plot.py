"""Draws a run, or several seeds with a confidence band: python -m tfsac.plot DIR... [--out=DIR]

Writes returns.png and losses.png (the report's figures 3 to 6) into --out, by default the first DIR.
"""

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from absl import flags

from tfsac.errors import UserError, require, run_command

matplotlib.use("Agg")  # pictures are files: no screen is needed
from matplotlib import pyplot as plt  # noqa: E402


def draw(logdirs, out):
    """Writes returns.png and losses.png.

    Args:
        logdirs: run directories, seeds of one experiment; from two on, mean and 95 % band of the mean are drawn.
        out: directory of the pictures, made if missing.

    Raises:
        UserError: a directory without a run, a damaged table, or runs of different experiments.
    """
    for logdir in logdirs:
        path = Path(logdir) / "evaluations.csv"
        require(path.is_file(), f"no {path}: expected a run directory, one of a run that was evaluated at least once")
        require(read_csv(path), f"no row in {path} yet: the run was not evaluated so far")
    Path(out).mkdir(parents=True, exist_ok=True)
    title = f"{Path(logdirs[0]).name}" if len(logdirs) == 1 else f"{len(logdirs)} runs: mean and 95 % band of the mean"
    draw_returns({"deterministic policy": logdirs}, title, Path(out) / "returns.png")
    _draw_losses(logdirs, title, Path(out) / "losses.png")


def read_csv(path):
    """Columns of a CSV file by name, float64 arrays; none where there is no such file or no row.

    The last line counts only once its end is there: the run may be writing it.

    Raises:
        UserError: something in it is no number.
    """
    columns = defaultdict(list)
    text = Path(path).read_text() if Path(path).is_file() else ""
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
        for name, value in row.items():
            try:
                columns[name].append(float(value))
            except (TypeError, ValueError) as error:
                raise UserError(f"{path}: expected numbers in the column {name}, received {value!r}") from error
    return {name: np.array(values) for name, values in columns.items()}


def draw_returns(groups, title, path):
    """Draws the evaluations over the environment steps, one curve a group.

    Args:
        groups: run directories by label: seeds of one experiment each.
        title: of the picture.
        path: of the picture.

    Raises:
        UserError: as `draw`.
    """
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for label, logdirs in groups.items():
        if len(groups) == len(logdirs) == 1:
            training = read_csv(Path(logdirs[0]) / "episodes.csv")
            if training:
                axes.plot(training["step"], training["return"], ".", ms=2, color="0.7", label="training episodes")
        runs = []
        for logdir in logdirs:
            rows = read_csv(Path(logdir) / "evaluations.csv")
            steps = np.unique(rows["step"])
            runs.append((steps, np.array([rows["return"][rows["step"] == step].mean() for step in steps])))
        _band(axes, runs, label)
    axes.set(title=title, xlabel="environment steps", ylabel="return of an episode")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_losses(logdirs, title, path):
    tables = [table for table in (read_csv(Path(x) / "metrics.csv") for x in logdirs) if table]
    names = [name for name in (tables[0] if tables else []) if name.endswith("_loss")]
    names = [name for name in names if all(name in table for table in tables)]
    if not names:
        return  # a run that ended before its first gradient step, or runs of two algorithms
    figure, rows = plt.subplots(
        len(names), figsize=(7, 2 * len(names)), sharex=True, layout="constrained", squeeze=False
    )
    for axes, name in zip(rows[:, 0], names, strict=True):
        _band(axes, [(table["step"], table[name]) for table in tables], None)
        axes.set(ylabel=name.replace("_", " "))
    rows[0, 0].set(title=title)
    rows[-1, 0].set(xlabel="environment steps")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _band(axes, runs, label):
    """Draws curves [(steps, values)]: a single one as it is, several as the mean at common steps and its 95 % band."""
    if len(runs) == 1:
        axes.plot(*runs[0], label=label)
        return
    steps = sorted(set.intersection(*(set(steps) for steps, _ in runs)))
    require(steps, "the runs have no step in common: expected seeds of one experiment")
    values = np.array([[x[list(s).index(step)] for step in steps] for s, x in runs])  # [runs, steps]
    mean, error = values.mean(axis=0), 1.96 * values.std(axis=0, ddof=1) / len(runs) ** 0.5
    axes.plot(steps, mean, label=label)
    axes.fill_between(steps, mean - error, mean + error, alpha=0.3)


def main(logdirs):
    """The command; see the module's docstring."""
    out = flags.FLAGS.out or logdirs[0]
    draw(logdirs, out)
    print(f"wrote {out}/returns.png and {out}/losses.png")


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "Directory of the pictures; default the first DIR.")
    run_command(main, arguments="DIR")
