"""Writes what runs.py trained into two pages: python benchmarks/any_task/report.py

What was aimed at beside what came of it, in docs/crossq.md, and the returns on the way, in docs/crossq-trials.md. The
return of the deployed policy at a step is the mean of its evaluation's episodes: ten on the way, in bold a hundred. Of
five seeds it says the interquartile mean and its 95 % interval, too, for which it needs rliable: see requirements.txt
of the study.
"""

import collections
from pathlib import Path

import numpy as np
import runs
from rliable import library
from scipy.stats import trim_mean

MARKS = (2_000, 3_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 80_000, 100_000, 200_000, 300_000)
# task, setting, steps, return of at least; of Pendulum and Reacher 8 and 0.15 below optimal control
AIMS = [
    ("pendulum", "units_128", 5_000, -142.2),
    ("reacher", "crossq", 50_000, -3.39),
    ("reacher", "mean_sac_fine", 50_000, -3.39),
    ("half_cheetah", "crossq", 100_000, 7_000),
    ("half_cheetah", "plain", 300_000, 10_000),
    ("half_cheetah", "delay_3", 100_000, 7_000),
    ("half_cheetah", "delay_3", 300_000, 10_000),
    ("half_cheetah", "plain_delay_3", 300_000, 10_000),
    ("half_cheetah", "delay_3_128", 100_000, 7_000),
    ("half_cheetah", "plain_delay_3_128", 300_000, 10_000),
    ("hopper", "units_128", 100_000, 2_700),
    ("hopper", "units_128", 300_000, 3_000),
    ("hopper", "plain_128", 300_000, 3_000),
    ("walker2d", "units_128", 100_000, 2_500),
    ("walker2d", "units_128", 300_000, 4_500),
    ("walker2d", "plain_128", 300_000, 4_500),
    ("walker2d", "plain_delay_3", 300_000, 4_500),
    ("walker2d", "plain_delay_3_128", 300_000, 4_500),
    ("ant", "crossq", 100_000, 1_500),
    ("ant", "delay_3_128", 100_000, 1_500),
    ("ant", "plain_no_contact", 100_000, 1_500),
    ("ant", "plain_no_contact", 300_000, 4_000),
    ("ant", "no_contact_delay_3", 100_000, 1_500),
    ("ant", "no_contact_delay_3", 300_000, 4_000),
    ("ant", "no_contact_delay_3_128", 100_000, 1_500),
    ("ant", "no_contact_delay_3_128", 300_000, 4_000),
    ("ant", "plain_no_contact_delay_3_128", 300_000, 4_000),
    ("humanoid", "crossq", 100_000, 1_500),
    ("humanoid", "plain_no_contact", 300_000, 6_000),
    ("humanoid", "no_contact_delay_3_128", 100_000, 1_500),
    ("humanoid", "no_contact_delay_3_128", 300_000, 6_000),
    ("humanoid", "plain_no_contact_delay_3_128", 300_000, 6_000),
    ("humanoid", "forward_2_delay_3_128", 100_000, 1_500),
    ("humanoid", "forward_4_delay_3_128", 300_000, 6_000),
    ("humanoid", "forward_4_delay_3", 100_000, 1_500),
    ("humanoid", "forward_4_delay_3", 300_000, 6_000),
    ("humanoid_standup", "plain_delay_3_128", 300_000, 150_000),
    ("swimmer", "crossq", 100_000, 100),
    ("swimmer", "units_128", 100_000, 100),
    ("swimmer", "plain_128", 300_000, 250),
    ("pusher", "crossq", 100_000, -30),
    ("inverted_pendulum", "crossq", 10_000, 1_000),
    ("inverted_double_pendulum", "crossq", 30_000, 9_350),
    ("cheetah_run", "crossq", 100_000, 400),
    ("cheetah_run", "delay_3_128", 100_000, 400),
    ("cheetah_run", "delay_3_128", 300_000, 650),
    ("cheetah_run", "plain_delay_3_128", 300_000, 650),
    ("walker_walk", "crossq", 100_000, 930),
    ("cartpole_swingup", "units_128", 100_000, 865),
    ("pendulum_swingup", "sac", 100_000, 820),
    ("pendulum_swingup", "sac_12_hz", 25_000, 820),
    ("pendulum_swingup", "sac_12_hz", 50_000, 820),
    ("pendulum_swingup", "sac_12_hz_four", 25_000, 820),
    ("reacher_easy", "crossq", 100_000, 935),
    ("reacher_hard", "crossq", 100_000, 850),
]
DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- any task: written by benchmarks/any_task/report.py -->", "<!-- end of any task -->"


def read_returns():
    """{(task, setting, seed): {step: returns of the episodes}}, in the order of runs.RUNS."""
    episodes = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in runs.read():
        task, setting, seed = row["run"].rsplit("-", 2)
        episodes[task, setting, int(seed.removeprefix("seed"))][int(row["step"])].append(float(row["return"]))
    order = list(dict.fromkeys((task, setting) for task, setting, *_ in runs.RUNS))
    return dict(sorted(episodes.items(), key=lambda item: (order.index(item[0][:2]), item[0][2])))


def aims(returns):
    """Markdown: a line an aim, with the means of the seeds that have a hundred episodes there."""
    lines = ["| task | setting | steps | at least | seeds | together | |", "|---" * 7 + "|"]
    for task, setting, steps, level in AIMS:
        there = [x.get(steps, []) for (*which, _), x in returns.items() if which == [task, setting]]
        means = [np.mean(episodes) for episodes in there if len(episodes) == 100]
        seeds = ", ".join(map(_shown, means))
        together, verdict = _together(means, level) if means else ("", "not run")
        lines.append(f"| {_task_id(task)} | {setting} | {steps:,} | {level:,} | {seeds} | {together} | {verdict} |")
    return "\n".join(lines)


def _together(means, level):
    """What is said of the seeds' means, [N], and whether it is enough."""
    if len(means) < 5:
        return (_shown(np.mean(means)) if len(means) > 1 else ""), ("met" if np.mean(means) >= level else "missed")
    np.random.seed(0)  # what rliable draws from
    scores = {"": np.array(means)[:, None]}  # [seeds, tasks]
    points, intervals = library.get_interval_estimates(scores, lambda x: np.array([trim_mean(x[:, 0], 0.25)]))
    middle, low, high = points[""][0], *intervals[""][:, 0]
    words = f"{_shown(middle)} ({_shown(low)} to {_shown(high)})"
    return words, "met" if middle >= level else "missed"


def curves(returns):
    """Markdown: a line a run, a column a mark."""
    lines = ["| task | setting | seed | mean from | " + " | ".join(f"{mark // 1000}k" for mark in MARKS) + " |"]
    lines.append("|---" * (4 + len(MARKS)) + "|")
    for (task, setting, seed), steps in returns.items():
        cells = [_cell(steps.get(mark, [])) for mark in MARKS]
        mean_from = runs.MEAN_FROM.get((task, setting, seed), runs.MEAN_FROM.get((task, setting)))
        where = "" if mean_from is None else f"{mean_from // 1000}k" if mean_from else "start"
        lines.append(f"| {_task_id(task)} | {setting} | {seed} | {where} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(episodes):
    if not episodes:
        return ""
    shown = _shown(np.mean(episodes))
    return f"**{shown}**" if len(episodes) == 100 else shown


def _shown(mean):
    return f"{mean:.2f}" if abs(mean) < 10 else f"{mean:.1f}" if abs(mean) < 200 else f"{mean:.0f}"


def _task_id(task):
    return runs.TASKS[task].rpartition(":")[2]


def write(page, title, table):
    """Puts the table where the page has the last one."""
    before, _, rest = (DOCS / page).read_text().partition(BEGIN)
    (DOCS / page).write_text(f"{before}{BEGIN}\n\n## {title}\n\n{table}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    returns = read_returns()
    write("crossq.md", "Aimed at and reached", aims(returns))
    write("crossq-trials.md", "On the way", curves(returns))
