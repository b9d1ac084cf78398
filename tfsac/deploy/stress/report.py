"""The results of a stress test, for people and for programs: stress.md, stress.json, stress.png."""

import json
from pathlib import Path

import numpy as np

from tfsac.deploy.stress.stress import TOLERATED
from tfsac.run.directory import write_whole
from tfsac.run.pictures import shown

NOT_SUFFICIENT = (
    "These are simulated disturbances, one at a time except for the last: to pass is necessary before the policy moves "
    "a machine, but not sufficient."
)


def write(out, result):
    """Writes the three files into a directory, made if missing.

    Args:
        out: the directory.
        result: from `stress.stress`.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "stress.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_whole(out / "stress.md", "\n".join(text(result)) + "\n")
    if result["disturbances"]:
        _draw(result, out / "stress.png")


def tolerates(result):
    """What the file tolerates, a line for each disturbance."""
    lines = []
    for disturbance in result["disturbances"]:
        kept = disturbance["tolerated"]
        if disturbance["no_effect"]:
            words = "no effect on this task, so nothing is known about it"
        elif kept is None:
            words = f"not even {_mildest(disturbance)}"
        else:
            words = kept["label"] + (" and maybe more: no level was too much" if kept["all_levels"] else "")
        lines.append(f"{disturbance['title']}: {words}")
    return lines


def text(result):
    """The lines of stress.md."""
    base = result["baseline"]
    lines = [f"# What {result['file']} tolerates", ""]
    if base is None:
        return [*lines, "Interrupted before anything was measured."]
    lines += [f"- {line}" for line in tolerates(result)]
    lines += [
        "",
        f"Tolerated: {100 * TOLERATED:.0f} % of what it gains on random actions is kept, at this level and all milder "
        f"ones. {NOT_SUFFICIENT}",
        "",
    ]
    if result["interrupted"]:
        lines += ["**Interrupted: what follows is what was measured until then.**", ""]
    rate = result["control_rate_hz"]
    lines += [
        f"{result['environment']}, {result['episodes']} starts from seed {result['seed']}, the same in every row"
        + (f"; a step is {1e3 / rate:.4g} ms." if rate else "."),
        f"As it was trained: return {base['return']:.4g}; random actions: {result['random_return']:.4g}.",
        "",
        "| | return | difference, 95 % interval | worst 5 % | falls | kept | total variation | above fs/4 | saturated |"
        + (" other | it is ahead by |" if result["compared_with"] else ""),
        "|---|---|---|---|---|---|---|---|---|" + ("---|---|" if result["compared_with"] else ""),
        _row("**as it was trained**", base),
    ]
    for disturbance in result["disturbances"]:
        note = ": no effect on this task" if disturbance["no_effect"] else ""
        blank = "|" * (9 + 2 * bool(result["compared_with"]))
        lines += [f"| **{disturbance['title']}**{note} {blank}"]
        lines += [_row(row["label"], row) for row in disturbance["levels"]]
    lines += ["", *_notes(result)]
    return lines


def _mildest(disturbance):
    return min(disturbance["levels"], key=lambda row: abs(row["level"] - disturbance["neutral"]))["label"]


def _row(label, row):
    change = row["difference"]
    kept = "" if row["retention"] is None else f"{100 * row['retention']:.0f} %"
    cells = [
        label,
        f"{row['return']:.4g}",
        f"{change['mean']:+.3g} ({change['low']:+.3g} to {change['high']:+.3g})",
        f"{row['worst']:.4g}",
        f"{100 * row['falls']:.0f} %",
        kept,
        *(f"{row[name]:.3f}" for name in ("total_variation", "high_frequency", "saturation")),
    ]
    if "reference" in row:
        cells[1] += f" (reference {row['reference']:.4g})"
    if "other" in row:
        ahead = row["other"]["ahead"]
        cells += [
            f"{row['other']['return']:.4g}",
            f"{ahead['mean']:+.3g} ({ahead['low']:+.3g} to {ahead['high']:+.3g})",
        ]
    return "| " + " | ".join(cells) + " |"


def _notes(result):
    notes = [
        "Differences are to the row of the world that it was trained in, start by start. Kept is the remaining part of "
        "the gain on random actions. Each disturbance replaces its own setting of that world and leaves the rest.",
        "Total variation is of the commands, per step, in half-ranges. Above fs/4 is the share of their energy that is "
        "faster than a quarter of the control rate, which is chatter. Delays make slow swings, noise makes chatter.",
        "The reference of a delay is this file without the delay, after as many idle steps: the return of perfect "
        "prediction. A delayed observation costs less than a delayed action, since the first action is not idle.",
    ]
    seen = result.get("observations")
    if seen and len(seen["deviation"]) <= 24:
        deviations = ", ".join(f"{x:.3g}" for x in seen["deviation"])
        notes.append(f"The observations' standard deviations, in their units and order: {deviations}.")
    if result["compared_with"]:
        notes.append(f"The other one, in the same worlds: {result['compared_with']}.")
    return [line for note in notes for line in (note, "")][:-1]


def _draw(result, path):
    """A map of what is kept, from mild to harsh, beside the curves of delay and noise."""
    from matplotlib.figure import Figure

    disturbances = [x for x in result["disturbances"] if x["levels"]]
    figure = Figure(figsize=(14, 1.5 + 0.42 * len(disturbances)), layout="constrained")
    columns = figure.subplot_mosaic([["map", "delay"], ["map", "variation"]], width_ratios=[2.2, 1])
    _draw_map(columns["map"], disturbances)
    _draw_delay(columns["delay"], result)
    _draw_variation(columns["variation"], result)
    figure.suptitle(shown(f"{Path(result['file']).name} in {result['environment']}"))
    figure.savefig(path, dpi=100)


def _draw_map(axes, disturbances):
    width = max(len(x["levels"]) for x in disturbances)
    values, labels = np.full([len(disturbances), width], np.nan), {}
    for y, disturbance in enumerate(disturbances):
        harshness = sorted(disturbance["levels"], key=lambda row: _harshness(row["level"], disturbance["neutral"]))
        for x, row in enumerate(harshness):
            values[y, x] = np.clip(row["retention"] if row["retention"] is not None else np.nan, 0, 1)
            labels[y, x] = _short(row["label"])
    axes.imshow(values, cmap="RdYlGn", vmin=0.5, vmax=1, aspect="auto")
    for (y, x), label in labels.items():
        dark = not 0.58 < values[y, x] < 0.95
        axes.text(x, y, label, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    titles = [x["title"] + (" (no effect)" if x["no_effect"] else "") for x in disturbances]
    axes.set_yticks(range(len(disturbances)), titles, fontsize=8)
    axes.set_xticks([])
    axes.set_xlabel("mild to harsh; green keeps all of the gain on random actions, red half of it or less")


def _harshness(level, neutral):
    factor = neutral == 1 and level > 0
    return abs(np.log(level)) if factor else abs(level - neutral)


def _short(label):
    head = label.split(" of ")[0].split(" (")[0]
    return head if len(head) <= 22 else f"{head[:20]}..."


def _find(result, name):
    return next((x for x in result["disturbances"] if x["name"] == name and x["levels"]), None)


def _draw_delay(axes, result):
    disturbance, base = _find(result, "action_delay"), result["baseline"]
    if disturbance is None:
        return
    rows = disturbance["levels"]
    steps = [row["level"] for row in rows]
    axes.axhline(base["return"], color="0.7", lw=1, label="as trained")
    axes.plot(steps, [row["return"] for row in rows], "o-", color="C0", label="this file")
    low, high = ([base["return"] + row["difference"][end] for row in rows] for end in ("low", "high"))
    axes.fill_between(steps, low, high, color="C0", alpha=0.2)
    if "reference" in rows[0]:
        axes.plot(steps, [row["reference"] for row in rows], "k--", lw=1, label="perfect prediction")
    if "other" in rows[0]:
        axes.plot(steps, [row["other"]["return"] for row in rows], "s-", color="C1", label="the other")
    axes.set(xlabel="action delay, steps", ylabel="return")
    axes.legend(fontsize=8)


def _draw_variation(axes, result):
    base = result["baseline"]["total_variation"]
    axes.axhline(base, color="0.7", lw=1)
    disturbance = _find(result, "observation_noise")
    if disturbance is None:
        return
    rows = disturbance["levels"]
    values = [100 * row["level"] for row in rows]
    axes.plot(values, [row["total_variation"] for row in rows], "o-", color="C0", label="this file")
    if "other" in rows[0]:
        axes.plot(values, [row["other"]["total_variation"] for row in rows], "s-", color="C1", label="the other")
    axes.set(xlabel="sensor noise, % of deviation", ylabel="total variation of commands\nhalf-ranges per step", ylim=0)
    axes.legend(fontsize=8)
