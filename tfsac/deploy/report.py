"""The export's report: report.json for programs, report.md and report.png for people."""

import json
from pathlib import Path

from matplotlib.figure import Figure

# One for each value of the report's "passed".
VERDICTS = {True: "passed", False: "FAILED", None: "passed where checked, but not all files were"}


def write(folder, result, formats):
    """Writes report.json, report.md and report.png into the folder.

    Args:
        folder: the export's directory.
        result: the report, see `pipeline.export`.
        formats: a `Format` for each file.
    """
    Path(folder, "report.json").write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    Path(folder, "report.md").write_text(_markdown(result, formats), encoding="utf-8")
    _draw(result["artefacts"], Path(folder, "report.png"))


def summary(result):
    """The table of artefacts, one line each, in Markdown."""
    lines = [
        "| file | bytes | action error, % of span: max (mean) | return | difference, 95 % interval "
        "| latency us: p50, p99, max | checks |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in result["artefacts"].items():
        cells = ["", "", "", ""]
        if "error" in entry:
            latency, cells[0] = entry["latency_us"], "not finite"
            cells[3] = f"{latency['p50']:.1f}, {latency['p99']:.1f}, {latency['max']:.0f}"
        if entry.get("return"):
            difference = entry["return_difference"]
            cells[0] = f"{entry['error']['max']:.2g} ({entry['error']['mean']:.2g})"
            cells[1] = f"{entry['return']['mean']:.3f}"
            cells[2] = f"{difference['mean']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"
        lines.append(f"| {name} | {entry['bytes']:,} | {' | '.join(cells)} | {_verdict(entry)} |")
    return "\n".join(lines)


def _verdict(entry):
    failed = [check for check, passed in entry["checks"].items() if not passed]
    if failed:
        return f"**FAILED: {', '.join(failed)}**"
    return f"{entry['verdict']}: {entry['not_checked']}" if "not_checked" in entry else entry["verdict"]


def _markdown(result, formats):
    facts = result["facts"]
    environment = facts["environment"]
    rate, why = environment["control_rate_hz"], environment.get("control_rate_unknown")
    rate = f"{rate:g} Hz" if rate else f"unknown, since {why}" if why else "unknown"
    unequal = (
        "**This environment ignores its seed**: equal seeds gave unequal starts, so the returns below are of different "
        "episodes, and their differences vary as much as the returns do. "
    )
    lines = [
        f"# Policy for {environment['id'] or 'an environment made in Python'}",
        "",
        *([f"Tolerates **{facts['tolerates']}**.", ""] if "tolerates" in facts else []),
        "## Which file do I take?",
        "",
        "| file | for | oldest version tested |",
        "|---|---|---|",
        *(f"| `{form.file}` | {form.purpose} | {form.oldest_runtime} |" for form in formats),
        "",
        f"Run it: `python run_policy.py policy.tflite`; check it on the device: `python run_policy.py policy.tflite "
        f"--selftest`. Control rate in training: {rate}.",
        "",
        f"## What was measured: {VERDICTS[result['passed']]}",
        "",
        f"The policy that was trained has a mean return of {result['policy_return']['mean']:.3f} over "
        f"{result['policy_return']['episodes']} episodes. {'' if result['repeats_starts'] else unequal}"
        "Every file ran on the same seeds, and differences are start by start; policy_sample is compared with the "
        "trained policy that samples with the same noise. A file fails if the whole interval of its difference lies "
        "below a loss of "
        f"{' or '.join(f'{loss:.0%}' for loss in sorted({form.allowed_loss for form in formats}))} (int8) of "
        f"{result['return_worth']:.4g}: the gain of training on random actions, or the return's standard deviation if "
        f"that is larger. Errors are over {result['states']:,} observations from the run's replay. Files clip "
        f"observations to +/-{result['guard_limit']:g} and take NaN as 0. "
        "Latency: one observation, one thread, this machine; policy.h is called through ctypes.",
        "",
        summary(result),
        "",
        "![action error and difference of return](report.png)",
        "",
        *(_under_stress(result, formats) if result["stress"] else []),
        f"Deployed parameters: {result['parameters']:,}; multiply-adds an action: {result['multiply_adds']:,}.",
        "",
        "## Each file",
    ]
    for form in formats:
        entry = result["artefacts"][form.file]
        notes = [] if "not_checked" in entry else form.describe(entry)
        if "sha256" in entry:
            notes.append(f"SHA-256: `{entry['sha256']}`")
        if entry.get("return"):
            extreme = entry["extreme_error"]
            place = ", ".join(extreme["worst"])
            far = "not finite" if extreme["max"] is None else f"error up to {extreme['max']:.2g} % of the span"
            notes.append(f"extreme observations: {far}, at ({place})")
            notes.append(f"largest error from replay at ({', '.join(entry['error']['worst'])})")
        notes += [f"{'passed' if passed else '**FAILED**'}: {check}" for check, passed in entry["checks"].items()]
        lines += ["", f"### {form.file}", "", *(f"- {note}" for note in notes)]
    lines += [
        "",
        "## The policy",
        "",
        f"tfsac {facts['tfsac']}, git revision {facts['git_revision']}, trained for {facts['training']['steps']:,} "
        "steps.",
        "",
        "| input | unit | range in replay |",
        "|---|---|---|",
        *_rows(facts["observation"]),
        "",
        "| output | unit | bounds |",
        "|---|---|---|",
        *_rows(facts["action"]),
        "",
        "```",
        facts["training"]["gin"].strip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _under_stress(result, formats):
    """The section on the short stress test."""
    stress = result["stress"]
    compared = [form for form in formats if result["artefacts"][form.file].get("stress")]

    def cell(form, world):
        change = result["artefacts"][form.file]["stress"][world]
        text, far = f"{change['low']:+.3g} to {change['high']:+.3g}", change["far_end"]
        if far is None:
            return text
        text += f" ({100 * far:.2g} %)"
        return text if far <= form.allowed_under_stress else f"**{text}**"

    rows = [
        [world["label"], f"{world['return']:.4g}", *(cell(form, name) for form in compared)]
        for name, world in stress["worlds"].items()
    ]
    header = ["world", "the trained policy's return", *(f"`{form.file}`" for form in compared)]
    return [
        "## Under stress",
        "",
        f"Over {stress['episodes']} starts the trained policy returns {stress['return']:.4g}, random actions "
        f"{stress['random_return']:.4g}. It tolerates a disturbance if it keeps 90 % of that gain under it alone, and "
        "under all milder ones that were tried. The noise is in parts of each observation's standard deviation. In "
        "three disturbed worlds every file ran on the same starts as the trained policy. The table has the 95 % "
        "interval of the difference in return, and its far end in parts of the gain; it is bold above "
        f"{' or '.join(f'{x:.0%}' for x in sorted({form.allowed_under_stress for form in formats}))} (int8). With so "
        "few starts, one that ends otherwise makes an interval wide; take more --episodes then. To pass is necessary "
        "before the policy moves a machine, but not sufficient; `python -m tfsac.stress` measures more.",
        "",
        *(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]),
        "",
    ]


def _rows(space):
    columns = (space[key] for key in ("names", "units", "low", "high"))
    return [f"| {name} | {unit} | {low:.4g} to {high:.4g} |" for name, unit, low, high in zip(*columns, strict=True)]


def _draw(artefacts, path):
    names = [name for name, entry in artefacts.items() if entry.get("return")]
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for y, name in enumerate(names):
        entry = artefacts[name]
        left.plot(max(entry["error"]["max"], 1e-6), y, "o", color="C0")
        left.plot(max(entry["error"]["mean"], 1e-6), y, "|", color="C0", ms=12)
        difference = entry["return_difference"]
        right.plot([difference["low"], difference["high"]], [y, y], color="C1")
        right.plot(difference["mean"], y, "o", color="C1")
    left.set(xscale="log", xlabel="action error, % of span: mean |, max o", yticks=range(len(names)), yticklabels=names)
    right.axvline(0, color="0.7", lw=1)
    right.set(xlabel="return minus the trained policy's, 95 % interval")
    figure.savefig(path, dpi=120)
