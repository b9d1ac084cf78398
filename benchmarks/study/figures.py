"""The study's pictures; report.py calls draw()."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import results
import runs
import scores
from ablation import FAULTS
from matplotlib.ticker import EngFormatter

from tfsac.statistics import confidence_interval

HERE = Path(__file__).parent
LIMITS = {"pendulum": (-250, -125), "reacher": (-10, -3)}  # of the returns drawn: what comes before lies far below
TICKS = {"pendulum": (-1500, -1000, -500, -300, -200, -150), "reacher": (-100, -50, -20, -10, -8, -6)}
COLOURS = {"sac": "C0", "sac_v1": "C1"}


def draw():
    """Draws them all."""
    draw_returns()
    draw_peers()
    draw_losses()
    draw_budget()
    draw_ablation()


def draw_returns():
    figure, axes = plt.subplot_mosaic("AAABBB;CCDDEE", figsize=(11, 7), layout="constrained")
    for axis, task in zip(axes.values(), runs.ENV_IDS, strict=True):
        draw_curves(axis, task, runs.TASKS)
    save(figure, "returns")


def draw_peers():
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, task in zip(axes, scores.SOLVED, strict=True):
        draw_curves(axis, task, scores.beside_peers(task))
    save(figure, "peers")


def draw_losses():
    names = ("v_loss", "q1_loss", "policy_loss", "entropy")
    figure, axes = plt.subplots(2, len(names), figsize=(14, 6), layout="constrained")
    for line, task in zip(axes, scores.SOLVED, strict=True):
        for algorithm in ("sac", "sac_v1"):
            seeds = list(results.losses(f"{task}-{algorithm}").values())
            for axis, name in zip(line, names, strict=True):
                if seeds and name in seeds[0][0]:
                    values = np.array([[float(x[name]) for x in seed] for seed in seeds])
                    draw_mean(axis, name, [int(x["step"]) for x in seeds[0]], values, algorithm)
                axis.set(title=f"{task}: {name.replace('_', ' ')}", xlabel="environment steps")
        legend(line[-1])
    save(figure, "losses")


def draw_budget():
    names = ("return", "v_loss", "q1_loss", "policy_loss")
    figure, axes = plt.subplots(4, len(names), figsize=(14, 11), layout="constrained")
    for line, (task, reading) in zip(axes, ((t, r) for t in scores.SOLVED for r in ("one", "steps")), strict=True):
        for algorithm in ("sac_v1", "sac"):
            for axis, name in zip(line, names, strict=True):
                values = scores.budget(reading, task, algorithm, name)
                if values is not None:
                    draw_mean(axis, name, np.arange(1, 51), values, algorithm)
                axis.set(title=f"{task}, {reading}: {name.replace('_', ' ')}", xlabel="iteration")
        legend(line[0])
    save(figure, "budget")


def draw_ablation():
    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    for axis, task in zip(axes, scores.SOLVED, strict=True):
        for i, fault in enumerate(FAULTS):
            seeds = scores.load(f"ablation-{fault}-{task}")
            if seeds:
                steps, returns = scores.curves(seeds)
                style = {"color": f"C{i - 1}" if i else "k", "ls": "-" if i < 6 else "--", "lw": 1.2 if i else 3}
                axis.plot(steps, returns.mean(0), label=fault, **style)
        # All returns are negative: a logarithmic axis of their distance to zero, the better above.
        axis.set_yscale("function", functions=(lambda x: -np.log(-x), lambda x: -np.exp(-x)))
        axis.set_yticks(TICKS[task], TICKS[task])
        axis.set(title=f"sac_v1 on {task}, mean of seeds", xlabel="environment steps", ylabel="return")
    legend(axes[1], loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "ablation")


def draw_curves(axis, task, names):
    """Returns of those runs of the task: IQM over the seeds with its interval; each seed where they are few."""
    names = [name for name in names if name.startswith(f"{task}-") and scores.load(name)]
    for i, name in enumerate(names):
        steps, returns = scores.curves(scores.load(name))
        label, colour = f"{name.partition('-')[2]} ({len(returns)})", f"C{i}"
        if len(returns) >= scores.FEW:
            middle, low, high = scores.iqm(returns)
            axis.plot(steps, middle, color=colour, label=label)
            axis.fill_between(steps, low, high, alpha=0.15, color=colour)
        else:
            axis.plot(steps, returns.T, color=colour, lw=0.8, label=[label] + ["_"] * (len(returns) - 1))
    if scores.optimum(task) is not None:
        axis.axhline(scores.optimum(task), color="0.5", ls=":", label="optimal control")
    axis.set(title=runs.ENV_IDS[task], xlabel="environment steps", ylabel="return", ylim=LIMITS.get(task))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    legend(axis, title="(seeds)")


def draw_mean(axis, name, x, values, algorithm):
    """Mean over the seeds with its 95 % interval; squared errors, which fall a hundredfold, on a logarithmic axis."""
    mean, low, high = zip(*map(confidence_interval, values.T), strict=True)
    axis.plot(x, mean, label=algorithm, color=COLOURS[algorithm])
    if len(values) > 1:
        axis.fill_between(x, low, high, alpha=0.2, color=COLOURS[algorithm])
    axis.set_yscale("log" if name in ("v_loss", "q1_loss") else "linear")


def legend(axis, **where):
    if axis.lines:  # else what belongs here has not been run yet
        axis.legend(fontsize="small", **where)


def save(figure, name):
    for axis in figure.axes:
        if not axis.lines:
            axis.set_axis_off()
            axis.set_title(f"{axis.get_title()}\n(not run yet)")
    figure.savefig(HERE / f"{name}.png", dpi=90)
    plt.close(figure)
