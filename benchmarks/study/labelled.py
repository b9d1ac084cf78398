"""The study's runs as the diagnosis reads them, each with what is wrong with it.

Of most runs results/ keeps neither config.gin nor training episodes: what they would say stands here, and evaluations
take the place of training episodes. Those of results/diagnosis.zip are whole (diagnosis_runs.py).
"""

import csv
from typing import NamedTuple

import numpy as np
import results

from tfsac.diagnosis.record import Record, columns, means, read_run, read_table


class Labelled(NamedTuple):
    """One run. fault is a name of faults.py, or 'none'."""

    name: str
    fault: str
    task: str
    algorithm: str
    seed: int
    record: Record
    measured: dict = {}  # by name of a measure, what the record itself no longer shows


# actions, steps of an episode
TASKS = {
    "pendulum": (1, 200),
    "reacher": (2, 50),
    "inverted_pendulum": (1, None),
    "inverted_double_pendulum": (1, None),
    "half_cheetah": (6, 1000),
}
CROSSQ_ACTIONS = {
    "hopper": 3, "half_cheetah": 6, "walker2d": 6, "ant": 8, "swimmer": 2, "humanoid": 17, "humanoid_standup": 17,
    "reacher": 2, "cheetah_run": 6, "pendulum_swingup": 1, "reacher_hard": 2,
}  # fmt: skip
# Of each step survived, where an episode may end early: its length is its return over this. InvertedPendulum-v5 pays
# 1 a step; InvertedDoublePendulum-v5 pays 10 less what is lost by motion, 9,360 in a thousand.
REWARD_OF_A_STEP = {"inverted_pendulum": 1.0, "inverted_double_pendulum": 9.36}
START_STEPS = 1000


def labelled_runs():
    """Yields every run of results/losses.csv.gz, in the order of their names."""
    for name in sorted(results.LOSSES.runs()):
        *fault, task, seed = name.split("-")
        if fault[:1] == ["ablation"]:
            fault, algorithm = fault[1], "sac_v1"
        else:
            fault, task, algorithm = "none", *fault, task
        yield Labelled(name, fault, task, algorithm, int(seed.removeprefix("seed")), _record(name, task, algorithm))


def whole_runs():
    """Yields every run of results/diagnosis.zip, all of Pendulum-v1 or of what became of it there."""
    with results.unpacked() as folder:
        for path in sorted(folder.glob("sac*")):
            algorithm, label, seed = path.name.split("-")
            with open(path / "replay.csv", newline="") as file:
                measured = {row["measure"]: float(row["value"]) for row in csv.DictReader(file)}
            record = read_run(path, {"action_dim": 1}, replay=False)
            yield Labelled(path.name, label, "pendulum", algorithm, int(seed.removeprefix("seed")), record, measured)


def sb3_runs():
    """Yields the runs of Stable-Baselines3, in the folder sb3/ of results/diagnosis.zip (peers/sb3_progress.py)."""
    faults = {"1": "none", "1e-3": "rewards_small", "1e3": "rewards_large"}
    with results.unpacked() as folder:
        for path in sorted((folder / "sb3").glob("*.csv")):
            factor, _, seed = path.stem.removeprefix("reward-").rpartition("-")
            name, record = f"sb3-{path.stem}", read_table(path, facts={"action_dim": 1})
            yield Labelled(name, faults[factor], "pendulum", "sb3", int(seed.removeprefix("seed")), record)


def crossq_runs():
    """Yields every run of `crossq` in the folder crossq/ of results/diagnosis.zip (crossq_runs.py)."""
    with results.unpacked() as folder:
        for path in sorted((folder / "crossq").iterdir()):
            task, _, seed = path.name.split("-")
            record = read_run(path, {"action_dim": CROSSQ_ACTIONS[task]}, replay=False)
            yield Labelled(path.name, "none", task, "crossq", int(seed.removeprefix("seed")), record)


def observation_sizes():
    """Of each task: the largest root mean square of an observation, and the least standard deviation that is not 0."""
    sizes = {}
    with open(results.FOLDER / "observations.csv", newline="") as file:
        for row in csv.DictReader(file):
            sizes.setdefault(row["task"], []).append((float(row["rms"]), float(row["std"])))
    return {task: (max(x for x, _ in of), min(x for _, x in of if x > 0)) for task, of in sizes.items()}


def _record(name, task, algorithm):
    ablation = name.startswith("ablation")
    actions, length = TASKS[task]
    tuned = task == "reacher" and not ablation
    facts = {
        "discount": 0.97 if tuned else 0.99,
        "tau": 0.01 if tuned and algorithm == "sac" else 0.005,
        "action_dim": actions,
        "reward_scale": 10.0 if task == "reacher" else 1.0,
        "start_steps": START_STEPS,
        "updates_per_step": 1.0,
    }
    evaluations = columns(results.RETURNS.runs()[name], results.RETURNS.path)
    returns = evaluations["return"]
    lengths = np.full_like(returns, length) if length else np.rint(returns / REWARD_OF_A_STEP[task])
    evaluations = means(evaluations | {"length": lengths})
    *_, seed = name.rpartition("-seed")
    losses = results.losses(name.removesuffix(f"-seed{seed}"))[int(seed)]
    return Record(columns(losses, results.LOSSES.path), {}, evaluations, facts)
