"""The export's report: report.json for programs, report.md and report.png for people."""

import json
from pathlib import Path

import matplotlib

from tfsac.tflite_micro import micro_registrations

matplotlib.use("Agg")  # pictures are files: no screen is needed
from matplotlib import pyplot as plt  # noqa: E402

WHICH_FILE = """\
| device | take |
|---|---|
| 64-bit Raspberry Pi or any Linux machine | `policy.tflite`; `policy_dynamic.tflite` where memory matters |
| microcontroller | `policy.h`, or `policy_int8.tflite` on TFLite Micro |
| 32-bit ARM Linux (LiteRT has no wheel) | `policy.h` |
| TensorFlow program or server | `saved_model/` |
| exploration on the device | `policy_sample.tflite` |
"""


def write(folder, result):
    """Writes report.json, report.md and report.png into the folder, from what `export.export` found."""
    Path(folder, "report.json").write_text(json.dumps(result, indent=1))
    Path(folder, "report.md").write_text(_markdown(result))
    _draw(result["artefacts"], Path(folder, "report.png"))


def summary(result):
    """The table of artefacts, one line each, in Markdown."""
    lines = [
        "| file | bytes | action error, % of span: max (mean) | return | difference, 95 % interval "
        "| latency us: p50, p99, max | checks |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in result["artefacts"].items():
        failed = [check for check, passed in entry["checks"].items() if not passed]
        verdict = f"**FAILED: {', '.join(failed)}**" if failed else entry.get("not_checked", "passed")
        if "return" in entry:
            difference, latency = entry["return_difference"], entry["latency_us"]
            cells = [
                f"{entry['error']['max']:.2g} ({entry['error']['mean']:.2g})",
                f"{entry['return']['mean']:.3f}",
                f"{difference['mean']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})",
                f"{latency['p50']:.1f}, {latency['p99']:.1f}, {latency['max']:.0f}",
            ]
        else:
            cells = ["", "", "", ""]
        lines.append(f"| {name} | {entry['bytes']:,} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines)


def _markdown(result):
    facts = result["facts"]
    environment = facts["environment"]
    rate = environment["control_rate_hz"]
    lines = [
        f"# Policy for {environment['id']}",
        "",
        "## Which file do I take?",
        "",
        WHICH_FILE,
        f"Run it: `python run_policy.py policy.tflite`; check it on the device: `python run_policy.py policy.tflite "
        f"--selftest`. Control rate in training: {f'{rate:g} Hz' if rate else 'unknown'}.",
        "",
        f"## What was measured: all {'passed' if result['passed'] else 'did NOT pass'}",
        "",
        f"The Keras policy, behind the same guard, has a mean return of {result['keras_return']['mean']:.3f} over "
        f"{result['keras_return']['episodes']} episodes. Every file ran on the same start states; the difference is "
        f"paired. Errors are over {result['states']:,} observations from the run's replay. policy_int8's error and "
        "return are reported and never fail. policy_sample explores, so its return is lower by intent. Latency: one "
        "observation, one thread, this machine; policy.h is called through ctypes.",
        "",
        summary(result),
        "",
        "![action error and difference of return](report.png)",
        "",
        f"Deployed parameters: {result['parameters']:,}; multiply-adds an action: {result['multiply_adds']:,}.",
        "",
        "## Each file",
    ]
    for name, entry in result["artefacts"].items():
        lines += ["", f"### {name}", ""]
        if "operators" in entry:
            operators = ", ".join(f"{operator} (v{v})" for operator, v in entry["operators"].items())
            lines.append(f"- operators: {operators}")
        if entry.get("micro_arena_bytes"):
            calls = ", ".join(micro_registrations(entry["operators"]))
            lines.append(f"- TFLite Micro: arena up to {entry['micro_arena_bytes']:,} bytes; register {calls}")
        if entry.get("cortex_m4_bytes"):
            sizes = ", ".join(f"{key} {value:,} bytes" for key, value in entry["cortex_m4_bytes"].items())
            lines.append(f"- compiled for Cortex-M4F at -O2: {sizes}")
        if "sha256" in entry:
            lines.append(f"- SHA-256: `{entry['sha256']}`")
        if "extreme_error" in entry:
            extreme = entry["extreme_error"]
            place = ", ".join(extreme["worst"])
            lines.append(f"- extreme observations: error up to {extreme['max']:.2g} % of the span, at ({place})")
            lines.append(f"- largest error from replay at ({', '.join(entry['error']['worst'])})")
        lines += [f"- {'passed' if passed else '**FAILED**'}: {check}" for check, passed in entry["checks"].items()]
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


def _rows(space):
    columns = (space[key] for key in ("names", "units", "low", "high"))
    return [f"| {name} | {unit} | {low:.4g} to {high:.4g} |" for name, unit, low, high in zip(*columns, strict=True)]


def _draw(artefacts, path):
    names = [name for name, entry in artefacts.items() if "return" in entry and name != "policy_sample.tflite"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    for y, name in enumerate(names):
        entry = artefacts[name]
        left.plot(max(entry["error"]["max"], 1e-6), y, "o", color="C0")
        left.plot(max(entry["error"]["mean"], 1e-6), y, "|", color="C0", ms=12)
        difference = entry["return_difference"]
        right.plot([difference["low"], difference["high"]], [y, y], color="C1")
        right.plot(difference["mean"], y, "o", color="C1")
    left.set(xscale="log", xlabel="action error, % of span: mean |, max o", yticks=range(len(names)), yticklabels=names)
    right.axvline(0, color="0.7", lw=1)
    right.set(xlabel="return minus the Keras policy's, 95 % interval")
    figure.savefig(path, dpi=120)
    plt.close(figure)
