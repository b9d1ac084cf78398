"""Tables and figures of the study, from results/ alone: python benchmarks/study/report.py

Writes tables.md and the pictures beside this file, and its first table into the README. What has not been run yet is
left out, not guessed. Needs rliable: see requirements.txt in this folder.
"""

import functools
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import runs
from ablation import FAULTS
from rliable import library
from scipy.stats import trim_mean

HERE = Path(__file__).parent
OPTIMA = {"pendulum": "pendulum_optimum.csv", "reacher": "reacher_optimum.csv"}
# task: {step: least IQM of returns, or largest gap to the optimum where the task has one}
BARS = {
    "pendulum-sac": {5_000: 60, 10_000: 15, 20_000: 10},
    "reacher-sac": {20_000: 0.7, 50_000: 0.3, 100_000: 0.15},
    "pendulum-sac_v1": {20_000: 15},
    "reacher-sac_v1": {100_000: 0.4},
    "inverted_pendulum-sac": {20_000: 990},
    "inverted_double_pendulum-sac": {50_000: 9_200},
    "half_cheetah-sac": {300_000: 7_500},
}
LABELS = {
    "pendulum-sac": "Pendulum-v1, `sac`",
    "reacher-sac": "Reacher-v5, `sac`",
    "pendulum-sac_v1": "Pendulum-v1, `sac_v1`",
    "reacher-sac_v1": "Reacher-v5, `sac_v1`",
    "inverted_pendulum-sac": "InvertedPendulum-v5, `sac`",
    "inverted_double_pendulum-sac": "InvertedDoublePendulum-v5, `sac`",
    "half_cheetah-sac": "HalfCheetah-v5, `sac`",
}
SOLVED = {"pendulum": -200, "reacher": -4.5}  # mean return of 100 episodes that ends the clock
FEW = 5  # seeds below which an interval would say nothing: the seeds themselves are shown


@functools.cache
def load(name):
    """Every seed of a run: {seed: {step: (seconds, mean return of its episodes)}}."""
    found = {}
    for path in sorted(runs.RESULTS.glob(f"{name}-seed*.csv")):
        if path.stem.endswith("-losses"):
            continue
        steps = {}
        for row in runs.read(path):
            steps.setdefault(int(row["step"]), []).append((float(row["seconds"] or "nan"), float(row["return"])))
        found[int(re.search(r"seed(\d+)", path.stem)[1])] = {
            step: tuple(np.mean(values, axis=0)) for step, values in steps.items()
        }
    return found


def iqm(values):
    """IQM over the seeds of [seeds, points], and its 95 % stratified bootstrap interval: [3, points]."""
    # rliable's own aggregate_iqm is this trimmed mean of one point; a curve's points are taken at once, being many.
    return bootstrapped(np.array(values)[:, None], lambda x: trim_mean(x[:, 0], 0.25))


def bootstrapped(scores, statistic):
    """A statistic of the [seeds, 1, points] of one or of each of two runs, and its interval: [3, points]."""
    np.random.seed(0)  # what rliable draws from, whatever random_state it is given
    point, interval = library.get_interval_estimates({"": scores}, statistic, reps=2_000)
    return np.array([point[""], *interval[""]])


def shown(values, digits):
    """'IQM (low to high)' of the seeds, or the seeds where they are few."""
    if len(values) < FEW:
        return ", ".join(f"{x:.{digits}f}" for x in values)
    point, low, high = iqm(np.array(values)[:, None])[:, 0]
    return f"{point:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def lead(ours, theirs, digits):
    """'difference (low to high)' of the two IQMs; the difference alone where seeds are few."""
    scores = [np.array(values)[:, None, None] for values in (ours, theirs)]
    values = bootstrapped(scores, lambda x, y: trim_mean(x[:, 0], 0.25) - trim_mean(y[:, 0], 0.25))[:, 0]
    point, low, high = (f"{x:+.{digits}f}" for x in values)
    return point if min(len(ours), len(theirs)) < FEW else f"{point} ({low} to {high})"


def optimum(task):
    """Mean return of optimal control from the 100 starts, or None where it is not known."""
    path = HERE.parent / OPTIMA.get(task.split("-")[0], "none")
    return np.mean([float(row["return"]) for row in runs.read(path)]) if path.is_file() else None


def benchmark_table():
    """Ours at the marked steps, as the README has it; minutes are the median of the seeds."""
    head = ("task", "steps", "minutes", "seeds", "return", "worst seed", "gap, if known", "asked for", "gin file")
    lines = [row(head), row(["---"] * len(head))]
    for name, bars in BARS.items():
        task, best = runs.TASKS[name], optimum(name)
        for mark, bar in bars.items():
            found = at(name, mark)
            if found:
                cells, iqm_ = summary(found, name)
                # HalfCheetah's bar is for every seed.
                judged = min(x for _, x in found) if name.startswith("half_cheetah") else iqm_
                met = judged >= bar if best is None else best - judged <= bar
                asked = f"{'return' if best is None else 'gap'} {bar:,}: {'met' if met else 'MISSED'}"
                lines.append(row([LABELS[name], f"{mark:,}", *cells, asked, f"`{task.gin_file}`"]))
    return "\n".join(lines)


def peers_table():
    """The peers beside ours, at the same steps; tfsac's lead is equal to none where its interval holds 0."""
    head = ("task", "who", "steps", "minutes", "seeds", "return", "worst seed", "gap", "tfsac's lead")
    lines = [row(head), row(["---"] * len(head))]
    for task in SOLVED:
        ours = f"{task}-sac"
        for mark in BARS[ours]:
            for name in (ours, *(x for x in runs.PEER_TASKS if x.startswith(task))):
                found = at(name, mark)
                if found:
                    who = "tfsac" if name == ours else name.partition("-")[2]
                    returns = [[value for _, value in seeds] for seeds in (at(ours, mark), found)]
                    ahead = "" if name == ours else lead(*returns, digits(name))
                    lines.append(row([task, who, f"{mark:,}", *summary(found, name)[0], ahead]))
    return "\n".join(lines)


def at(name, mark):
    """(seconds, return) of each seed at a step; a step a call later where the evaluation came with it."""
    return [seed[step] for seed in load(name).values() for step in seed if 0 <= step - mark < 8]


def summary(found, name):
    """Cells minutes, seeds, return, worst seed and gap of what `at` found, and the IQM."""
    seconds, values = zip(*found, strict=True)
    places, best, middle = digits(name), optimum(name), trim_mean(values, 0.25)
    gap = "" if best is None else f"{best - middle:.{places}f}"
    minutes = f"{np.median(seconds) / 60:.1f}"
    return [minutes, len(values), shown(values, places), f"{min(values):.{places}f}", gap], middle


def digits(name):
    """After the point, of that task's returns."""
    return 2 if "reacher" in name else 1


def row(cells):
    """A row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def solve_table():
    """Seconds of training until the mean of 100 episodes reaches SOLVED, one thread, another training beside."""
    lines = ["| task | who | seeds | solved | steps, median | seconds, median |", "|---|---|---|---|---|---|"]
    for task, bar in SOLVED.items():
        for name in (f"{task}-sac", *(x for x in runs.PEER_TASKS if x.startswith(task))):
            seeds = load(name).values()
            firsts = [next(((step, x[0]) for step, x in sorted(seed.items()) if x[1] >= bar), None) for seed in seeds]
            solved = [first for first in firsts if first]
            if solved:
                steps, seconds = np.median(solved, axis=0)
                counts = len(firsts), len(solved), f"{steps:,.0f}", f"{seconds:.0f}"
                lines.append(row([f"{task} to {bar}", name.partition("-")[2], *counts]))
    return "\n".join(lines)


def budget_table():
    """The report's budget: the deterministic policy's return on the way, IQM over the seeds."""
    marks = (1, 10, 20, 30, 40, 50)
    lines = [row(["task", "reading", "who", *(f"iteration {i}" for i in marks)]), row(["---"] * (3 + len(marks)))]
    for task in SOLVED:
        for reading in ("one", "steps"):
            for algorithm in ("sac_v1", "sac"):
                returns = budget(reading, task, algorithm, "return")
                if returns is not None:
                    digits, middles = 0 if task == "pendulum" else 1, trim_mean(returns, 0.25)
                    cells = [f"{middles[i - 1]:.{digits}f}" for i in marks[:-1]]
                    cells.append(shown(returns[:, -1], digits))
                    lines.append(row([task, reading, algorithm, *cells]))
    return "\n".join(lines)


def budget(reading, task, algorithm, column):
    """[seeds, 50] of that column, or None where it was not run or has no such loss."""
    table = runs.read(runs.RESULTS / f"budget-{reading}-{task}-{algorithm}.csv")
    if not table or table[0][column] == "nan":
        return None
    return np.array([float(x[column]) for x in table]).reshape(-1, 50)


def ablation_table():
    """What each fault does to the return and to the losses, from the second evaluation to the last."""
    lines = ["| fault | task | return at the end | q1 loss | policy loss | entropy |", "|---|---|---|---|---|---|"]
    for task in ("pendulum", "reacher"):
        for fault in FAULTS:
            seeds = load(f"ablation-{fault}-{task}")
            if not seeds:
                continue
            ends = shown([seed[max(seed)][1] for seed in seeds.values()], 0 if task == "pendulum" else 1)
            losses = [
                runs.read(path) for path in sorted(runs.RESULTS.glob(f"ablation-{fault}-{task}-seed*-losses.csv"))
            ]
            columns = [
                f"{np.mean([float(x[0][c]) for x in losses]):.3g} to {np.mean([float(x[-1][c]) for x in losses]):.3g}"
                for c in ("q1_loss", "policy_loss", "entropy")
            ]
            lines.append(row([fault, task, ends, *columns]))
    return "\n".join(lines)


def curves(seeds):
    """The steps that all seeds were evaluated at, and the returns there: [points], [seeds, points]."""
    steps = sorted(set.intersection(*(set(seed) for seed in seeds.values())))
    return steps, np.array([[seed[step][1] for step in steps] for seed in seeds.values()])


def curve(axis, seeds, label):
    """IQM over the seeds at every evaluation, with its interval."""
    steps, returns = curves(seeds)
    middle, low, high = iqm(returns)
    (line,) = axis.plot(steps, middle, label=f"{label} ({len(seeds)})")
    if len(seeds) >= FEW:
        axis.fill_between(steps, low, high, alpha=0.2, color=line.get_color())


def draw_returns():
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, (task, env_id) in zip(axes, (("pendulum", "Pendulum-v1"), ("reacher", "Reacher-v5")), strict=True):
        for name in (x for x in (*runs.TASKS, *runs.PEER_TASKS) if x.startswith(f"{task}-")):
            if load(name):
                curve(axis, load(name), name.partition("-")[2])
        if optimum(task) is not None:
            axis.axhline(optimum(task), color="0.5", ls=":", label="optimal control")
        axis.set(title=env_id, xlabel="environment steps", ylabel="return, IQM of seeds")
        axis.set_ylim((-250, -125) if task == "pendulum" else (-10, -3))
        legend(axis, title="(seeds)")
    save(figure, "returns")


def draw_losses():
    names = ("v_loss", "q1_loss", "policy_loss", "entropy")
    figure, axes = plt.subplots(2, len(names), figsize=(14, 6), layout="constrained")
    for line, task in zip(axes, ("pendulum", "reacher"), strict=True):
        for algorithm in ("sac", "sac_v1"):
            seeds = [runs.read(path) for path in sorted(runs.RESULTS.glob(f"{task}-{algorithm}-seed*-losses.csv"))]
            for axis, name in zip(line, names, strict=True):
                if seeds and name in seeds[0][0]:
                    values = np.array([[float(x[name]) for x in seed] for seed in seeds])
                    draw_mean(axis, [int(x["step"]) for x in seeds[0]], values, algorithm)
                axis.set(title=f"{task}: {name.replace('_', ' ')}", xlabel="environment steps")
        legend(line[-1])
    save(figure, "losses")


def draw_budget():
    names = ("return", "v_loss", "q1_loss", "policy_loss")
    figure, axes = plt.subplots(4, len(names), figsize=(14, 11), layout="constrained")
    for line, (task, reading) in zip(axes, ((t, r) for t in SOLVED for r in ("one", "steps")), strict=True):
        for algorithm in ("sac_v1", "sac"):
            for axis, name in zip(line, names, strict=True):
                values = budget(reading, task, algorithm, name)
                if values is not None:
                    draw_mean(axis, np.arange(1, 51), values, algorithm)
                axis.set(title=f"{task}, {reading}: {name.replace('_', ' ')}", xlabel="iteration")
        legend(line[0])
    save(figure, "budget")


def draw_ablation():
    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    for axis, task in zip(axes, SOLVED, strict=True):
        for i, fault in enumerate(FAULTS):
            seeds = load(f"ablation-{fault}-{task}")
            if seeds:
                steps, returns = curves(seeds)
                style = {"color": f"C{i}", "ls": "-" if i < 6 else "--", "lw": 3 if fault == "none" else 1.2}
                axis.plot(steps, returns.mean(0), label=fault, **style)
        axis.set(title=f"sac_v1 on {task}, mean of seeds", xlabel="environment steps", ylabel="return")
    axes[1].set(ylim=(-16, -4), title="sac_v1 on reacher (wrong_sign_of_entropy lies far below)")
    legend(axes[1], loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "ablation")


def legend(axis, **where):
    if axis.lines:  # else what belongs here has not been run yet
        axis.legend(fontsize="small", **where)


def draw_mean(axis, x, values, label):
    """Mean over the seeds with the 95 % interval of the mean."""
    mean, half = values.mean(0), 1.96 * values.std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0
    (line,) = axis.plot(x, mean, label=label)
    axis.fill_between(x, mean - half, mean + half, alpha=0.2, color=line.get_color())


def save(figure, name):
    for axis in figure.axes:
        if not axis.lines:
            axis.set_axis_off()
            axis.set_title(f"{axis.get_title()}\n(not run yet)")
    figure.savefig(HERE / f"{name}.png", dpi=90)
    plt.close(figure)


def main():
    parts = {
        "Benchmark": benchmark_table(),
        "Beside the peers": peers_table(),
        "Time to solve": solve_table(),
        "The report's budget": budget_table(),
        "One fault at a time": ablation_table(),
    }
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in parts.items())
    (HERE / "tables.md").write_text(f"# The study's tables, written by report.py\n\n{text}\n")
    readme = HERE.parents[1] / "README.md"
    head = re.escape(parts["Benchmark"].partition("\n")[0])
    found = re.compile(rf"{head}\n(\|.*\n)*")
    readme.write_text(found.sub(lambda _: parts["Benchmark"] + "\n", readme.read_text()))
    draw_returns(), draw_losses(), draw_budget(), draw_ablation()
    print(text)


if __name__ == "__main__":
    main()
