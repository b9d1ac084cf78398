"""Writes what runs.py trained into docs/crossq.md: python benchmarks/any_task/report.py

The return of the deterministic policy at a step is the mean of its evaluation's episodes: ten on the way, a hundred at
a run's end, which stand in bold. Seeds are shown one by one.
"""

import collections
from pathlib import Path

import numpy as np
import runs

MARKS = (2_000, 3_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 80_000, 100_000, 200_000, 300_000)
PAGE = Path(__file__).parents[2] / "docs/crossq.md"
BEGIN, END = "<!-- any task: written by benchmarks/any_task/report.py -->", "<!-- end of any task -->"


def returns():
    """{(task, setting, seed): {step: returns of the episodes}}, in the order of runs.RUNS."""
    episodes = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in runs.read():
        task, setting, seed = row["run"].rsplit("-", 2)
        episodes[task, setting, int(seed.removeprefix("seed"))][int(row["step"])].append(float(row["return"]))
    order = list(dict.fromkeys((task, setting) for task, setting, *_ in runs.RUNS))
    return dict(sorted(episodes.items(), key=lambda item: (order.index(item[0][:2]), item[0][2])))


def table():
    """Markdown: a line a run, a column a mark."""
    lines = ["| task | setting | seed | " + " | ".join(f"{mark // 1000}k" for mark in MARKS) + " |"]
    lines.append("|---" * (3 + len(MARKS)) + "|")
    for (task, setting, seed), steps in returns().items():
        cells = [_cell(steps.get(mark, [])) for mark in MARKS]
        lines.append(f"| {runs.TASKS[task].rpartition(':')[2]} | {setting} | {seed} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(episodes):
    if not episodes:
        return ""
    mean = np.mean(episodes)
    shown = f"{mean:.2f}" if abs(mean) < 10 else f"{mean:.1f}" if abs(mean) < 200 else f"{mean:.0f}"
    return f"**{shown}**" if len(episodes) == 100 else shown


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}")
