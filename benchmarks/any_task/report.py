"""The tables of what runs.py trained: python benchmarks/any_task/report.py > benchmarks/any_task/tables.md

The return of the deterministic policy at a step is the mean of its evaluation's episodes. Seeds are shown one by one.
"""

import collections

import numpy as np
import runs

MARKS = (20_000, 40_000, 60_000, 80_000, 100_000)


def returns():
    """Mean returns: {task: {setting: {seed: {step: mean}}}}."""
    episodes = collections.defaultdict(list)
    for row in runs.read():
        episodes[row["run"], int(row["step"])].append(float(row["return"]))
    nested = {}
    for (run, step), values in episodes.items():
        task, setting, seed = run.rsplit("-", 2)
        nested.setdefault(task, {}).setdefault(setting, {}).setdefault(int(seed[4:]), {})[step] = np.mean(values)
    return nested


def table(settings):
    """Markdown: a line a setting, a column a mark, in it the seeds in order."""
    lines = ["| setting | seeds | " + " | ".join(f"{mark // 1000}k" for mark in MARKS) + " |"]
    lines.append("|---" * (2 + len(MARKS)) + "|")
    for setting in [name for name in runs.SETTINGS if name in settings]:
        seeds = [steps for _, steps in sorted(settings[setting].items())]
        cells = [", ".join(f"{steps[mark]:.0f}" for steps in seeds if mark in steps) for mark in MARKS]
        lines.append(f"| {setting} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    for task, settings in returns().items():
        print(f"## {runs.TASKS[task]}\n\n{table(settings)}\n")
