"""Tables and figures of the study, from results/ alone: python benchmarks/study/report.py

Writes tables.md and the pictures beside this file, and each table anew where docs/results.md or docs/reproduction.md
has it. What has not been run yet is left out, not guessed. Needs rliable: see requirements.txt in this folder.
"""

import re
from pathlib import Path

import figures
import numpy as np
import results
import runs
import scores
from ablation import FAULTS
from scipy.stats import trim_mean

HERE = Path(__file__).parent
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
ROUGHLY = {"pendulum": 0, "reacher": 1}  # places after the point of returns that are far from the optimum
PEERS = {"sb3": "Stable-Baselines3", "sbx": "SBX", "ours": "our hyperparameters", "defaults": "its defaults"}


def benchmark_table():
    """Ours at the marked steps, as docs/results.md has it; minutes are the median of the seeds."""
    head = ("task", "steps", "minutes", "seeds", "return", "worst seed", "gap, if known", "asked for", "gin file")
    lines = [row(head), row(["---"] * len(head))]
    for name, bars in BARS.items():
        task, best = runs.TASKS[name], scores.optimum(name)
        for mark, bar in bars.items():
            found = scores.at(name, mark)
            if found:
                seconds, returns = zip(*found, strict=True)
                minutes = f"{np.median(seconds) / 60:.1f}"
                # HalfCheetah's bar is for every seed.
                judged = min(returns) if name.startswith("half_cheetah") else trim_mean(returns, 0.25)
                met = judged >= bar if best is None else best - judged <= bar
                asked = f"{'return' if best is None else 'gap'} {bar:,}: {'met' if met else 'MISSED'}"
                lines.append(
                    row([label(name), f"{mark:,}", minutes, *summary(returns, name), asked, f"`{task.gin_file}`"])
                )
    return "\n".join(lines)


def label(name):
    """Environment and algorithm of a run of ours."""
    env, algorithm = name.split("-")
    return f"{runs.ENV_IDS[env]}, `{algorithm}`"


def peers_table():
    """The peers beside ours, at the same steps; tfsac's lead is equal to none where its interval holds 0.

    Without their minutes: these runs lie hours apart, in which the machine's speed changed by a factor of two.
    """
    head = ("task", "who", "steps", "seeds", "return", "worst seed", "gap", "tfsac's lead")
    lines = [row(head), row(["---"] * len(head))]
    for task in scores.SOLVED:
        ours = f"{task}-sac"
        for mark in BARS[ours]:
            for name in scores.beside_peers(task):
                returns = [value for _, value in scores.at(name, mark)]
                if returns:
                    ahead = "" if name == ours else lead([value for _, value in scores.at(ours, mark)], returns, name)
                    lines.append(row([runs.ENV_IDS[task], who(name), f"{mark:,}", *summary(returns, name), ahead]))
    return "\n".join(lines)


def who(name):
    """The tables' word for a run of ours or of a peer."""
    _, *parts = name.split("-")
    return ", ".join(PEERS[part] for part in parts) if name in runs.PEER_TASKS else "tfsac"


def solve_table():
    """Steps of training until the mean of 100 episodes reaches scores.SOLVED."""
    lines = ["| task | who | seeds | solved | steps, median | steps, slowest seed |", "|---|---|---|---|---|---|"]
    for task, bar in scores.SOLVED.items():
        for name in scores.beside_peers(task):
            seeds = scores.load(name).values()
            firsts = [next((step for step, x in sorted(seed.items()) if x[1] >= bar), None) for seed in seeds]
            solved = [first for first in firsts if first]
            if solved:
                cells = len(firsts), len(solved), f"{np.median(solved):,.0f}", f"{max(solved):,}"
                lines.append(row([f"{runs.ENV_IDS[task]} to {bar}", who(name), *cells]))
    return "\n".join(lines)


def budget_table():
    """The report's budget: the deterministic policy's return on the way, IQM over the seeds."""
    marks = (1, 10, 20, 30, 40, 50)
    lines = [row(["task", "reading", "who", *(f"iteration {i}" for i in marks)]), row(["---"] * (3 + len(marks)))]
    for task in scores.SOLVED:
        for reading in ("one", "steps"):
            for algorithm in ("sac_v1", "sac"):
                returns = scores.budget(reading, task, algorithm, "return")
                if returns is not None:
                    middles = trim_mean(returns, 0.25)
                    cells = [f"{middles[i - 1]:.{ROUGHLY[task]}f}" for i in marks[:-1]]
                    cells.append(shown(returns[:, -1], ROUGHLY[task]))
                    lines.append(row([task, reading, algorithm, *cells]))
    return "\n".join(lines)


def ablation_table():
    """What each fault does to the return and to the losses, from the first row to the last."""
    lines = ["| fault | task | return at the end | q1 loss | policy loss | entropy |", "|---|---|---|---|---|---|"]
    for task in scores.SOLVED:
        for fault in FAULTS:
            seeds = scores.load(f"ablation-{fault}-{task}")
            if not seeds:
                continue
            ends = shown([seed[max(seed)][1] for seed in seeds.values()], ROUGHLY[task])
            losses = results.losses(f"ablation-{fault}-{task}").values()
            columns = [
                f"{np.mean([float(x[0][c]) for x in losses]):.3g} to {np.mean([float(x[-1][c]) for x in losses]):.3g}"
                for c in ("q1_loss", "policy_loss", "entropy")
            ]
            lines.append(row([fault, task, ends, *columns]))
    return "\n".join(lines)


def summary(returns, name):
    """Cells seeds, return, worst seed and gap of the seeds of that run."""
    places, best = digits(name), scores.optimum(name)
    gap = "" if best is None else f"{best - trim_mean(returns, 0.25):.{places}f}"
    return [len(returns), shown(returns, places), f"{min(returns):.{places}f}", gap]


def shown(values, digits):
    """'IQM (low to high)' of the seeds, or the seeds where they are few."""
    if len(values) < scores.FEW:
        return ", ".join(f"{x:.{digits}f}" for x in values)
    point, low, high = scores.iqm(np.array(values)[:, None])[:, 0]
    return f"{point:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def lead(ours, theirs, name):
    """'difference (low to high)' of the two IQMs; the difference alone where seeds are few."""
    both = [np.array(values)[:, None, None] for values in (ours, theirs)]
    values = scores.bootstrapped(both, lambda x, y: trim_mean(x[:, 0], 0.25) - trim_mean(y[:, 0], 0.25))[:, 0]
    point, low, high = (f"{x:+z.{digits(name)}f}" for x in values)
    return point if min(len(ours), len(theirs)) < scores.FEW else f"{point} ({low} to {high})"


def digits(name):
    """After the point, of that task's returns."""
    return 2 if "reacher" in name else 1


def row(cells):
    """A row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def write_tables(path, tables):
    """Puts these tables in the place of those with the same head line in a Markdown file."""
    text = path.read_text()
    for table in tables:
        head = re.escape(table.partition("\n")[0])
        text = re.sub(rf"{head}\n(\|.*\n)*", lambda _, table=table: f"{table}\n", text)
    path.write_text(text)


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
    for document in ("docs/results.md", "docs/reproduction.md"):
        write_tables(HERE.parents[1] / document, parts.values())
    figures.draw()
    print(text)


if __name__ == "__main__":
    main()
