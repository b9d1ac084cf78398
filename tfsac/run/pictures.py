"""The pictures of a run, or of several seeds with a confidence band: the report's figures 3 to 6."""

from pathlib import Path

import numpy as np

from tfsac.errors import require
from tfsac.run.tables import read_csv
from tfsac.statistics import confidence_interval


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
    title = (
        shown(Path(logdirs[0]).name) if len(logdirs) == 1 else f"{len(logdirs)} runs: mean and 95 % band of the mean"
    )
    draw_returns({"deterministic policy": logdirs}, title, Path(out) / "returns.png")
    _draw_losses(logdirs, title, Path(out) / "losses.png")


def shown(name):
    """A name of the user's for a picture: Matplotlib refuses bytes that are no letters, and takes $x$ for a formula."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("$", r"\$")


def draw_returns(groups, title, path):
    """Draws the evaluations over the environment steps, one curve a group.

    Args:
        groups: run directories by label: seeds of one experiment each.
        title: of the picture.
        path: of the picture.

    Raises:
        UserError: as `draw`.
    """
    figure = _figure(7, 4)
    axes = figure.subplots()
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
        _band(axes, runs, shown(label))
    axes.set(title=title, xlabel="environment steps", ylabel="return of an episode")
    axes.legend()
    figure.savefig(path, dpi=120)


def draw_importances(shares, path):
    """Draws each setting's share of what makes trials good, {name: share}; -> whether there was one to draw."""
    if not shares:
        return False
    figure = _figure(7, 1 + 0.4 * len(shares))
    axes = figure.subplots()
    names = sorted(shares, key=shares.get)
    axes.barh(names, [shares[name] for name in names])
    axes.set(title="importance of each setting (PED-ANOVA)", xlim=(0, 1), xlabel="share")
    figure.savefig(path, dpi=120)
    return True


def _draw_losses(logdirs, title, path):
    tables = [table for table in (read_csv(Path(x) / "metrics.csv") for x in logdirs) if table]
    names = [name for name in (tables[0] if tables else []) if name.endswith("_loss")]
    names = [name for name in names if all(name in table for table in tables)]
    if not names:
        return  # a run that ended before its first gradient step, or runs of two algorithms
    figure = _figure(7, 2 * len(names))
    rows = figure.subplots(len(names), sharex=True, squeeze=False)
    for axes, name in zip(rows[:, 0], names, strict=True):
        _band(axes, [(table["step"], table[name]) for table in tables], None)
        axes.set(ylabel=name.replace("_", " "))
    rows[0, 0].set(title=title)
    rows[-1, 0].set(xlabel="environment steps")
    figure.savefig(path, dpi=120)


def _figure(width, height):
    # Imported here, since a start need not wait for it; and not pyplot, which would choose a backend for the process.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _band(axes, runs, label):
    """Draws curves [(steps, values)]: a single one as it is, several as the mean at common steps and its 95 % band."""
    if len(runs) == 1:
        axes.plot(*runs[0], label=label)
        return
    steps = sorted(set.intersection(*(set(steps) for steps, _ in runs)))
    require(steps, "the runs have no step in common: expected seeds of one experiment")
    values = np.array([[x[list(s).index(step)] for s, x in runs] for step in steps])  # [steps, runs]
    mean, low, high = zip(*map(confidence_interval, values), strict=True)
    axes.plot(steps, mean, label=label)
    axes.fill_between(steps, low, high, alpha=0.3)
