"""The diagnosis's picture: the return, and below it the evidence over the run with the range of healthy runs."""

import numpy as np
from matplotlib.figure import Figure

from tfsac.diagnosis.measures import MEASURES, View
from tfsac.diagnosis.thresholds import THRESHOLDS

POINTS = 40  # of a curve
PANELS = 3  # below the return
WHERE_HEALTHY = ("q_reach", "entropy_gap", "loss_sign")  # what is shown where nothing was found


def draw(record, diagnosis, path):
    """Writes the picture, a PNG."""
    findings = {x.evidence[0].condition.measure: x for x in diagnosis.suspicious if not x.cause}
    curves = {name: _curve(record, name) for name in (findings or WHERE_HEALTHY)}
    shown = [name for name, (steps, _) in curves.items() if len(steps) > 1][:PANELS]
    figure = Figure(figsize=(7, 2.2 * (1 + len(shown))), layout="constrained")
    axes = figure.subplots(1 + len(shown), sharex=True, squeeze=False)[:, 0]
    _draw_returns(axes[0], record)
    for panel, name in zip(axes[1:], shown, strict=True):
        finding = findings.get(name)
        threshold = finding.evidence[0].threshold if finding else THRESHOLDS.get(name)
        _draw_measure(panel, *curves[name], threshold)
        title = f"{finding.symptom.level}: {finding.symptom.title}\n" if finding else ""
        panel.set_title(f"{title}{MEASURES[name].text}", fontsize="small", loc="left")
    axes[-1].set_xlabel("environment steps")
    figure.savefig(path, dpi=100)


def _curve(record, name):
    """The measure at some earlier moments of the run: -> steps, values."""
    steps = record.metrics.get("step", np.array([]))
    chosen = steps[np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).astype(int))] if len(steps) else []
    with np.errstate(all="ignore"):
        measured = [(step, MEASURES[name](View(record.until(step)))) for step in chosen]
    measured = [(step, x.value) for step, x in measured if x is not None]
    return tuple(map(np.array, zip(*measured, strict=True))) if measured else ((), ())


def _draw_returns(axes, record):
    if len(record.training.get("step", ())):
        axes.plot(record.training["step"], record.training["return"], ".", ms=2, color="0.7", label="training")
    if len(record.evaluations.get("step", ())):
        axes.plot(record.evaluations["step"], record.evaluations["return"], label="evaluation")
    axes.set_title("return of an episode", fontsize="small", loc="left")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def _draw_measure(axes, steps, values, threshold):
    axes.plot(steps, values, ".-")
    if np.all(values > 0) and max(values) > 100 * min(values):
        axes.set_yscale("log")
    if threshold is None:
        return
    if threshold.healthy and (axes.get_yscale() == "linear" or threshold.healthy[0] > 0):
        axes.axhspan(*threshold.healthy, color="tab:green", alpha=0.15, label="healthy runs")
    if axes.get_yscale() == "linear" or threshold.value > 0:
        axes.axhline(threshold.value, color="tab:red", ls="--", lw=1, label="suspicious beyond")
    axes.legend(fontsize="small")
