"""Evaluates policies trained for imperfect worlds: python benchmarks/robustness.py OUT.csv.gz RUN=NAME ...

RUN is a run directory or a .tflite file. Writes a table, a row for each start: name, seed of training, environment,
world, start, return, total variation of the commands; rows of other policies that the table already has are kept. Each
policy is measured on the same 100 starts in each world of `worlds`, and compared, start by start, with the first one
named of its environment.
"""

import csv
import gzip
import sys
from pathlib import Path

import numpy as np

from tfsac.data.envs import EnvSettings
from tfsac.deploy.stress import policies
from tfsac.deploy.stress.measure import Bench, action_metrics, difference
from tfsac.deploy.stress.worlds import PRESETS, World, menu
from tfsac.run import checkpoint

STARTS = 100
DELAYS = {"Pendulum-v1": (0, 1, 2, 3), "Reacher-v5": (0, 1, 2, 3, 5)}
# What each observation of Pendulum varies by under the released policy, over 50 starts, and half of its bounds.
SEEN = {"Pendulum-v1": ((0.436, 0.264, 1.42), (1.0, 1.0, 8.0))}


def worlds(env, plain):
    """(EnvSettings, wrappers) by name, the same for every policy but for how wide its row is."""
    bare = EnvSettings(env.id, history=env.remembered_actions, observation_history=env.observation_history)
    made = {f"delay {delay}": (bare._replace(action_delay=delay), ()) for delay in DELAYS[env.id]}
    if env.id == "Reacher-v5":
        made["gear x 0.5"] = (bare._replace(randomize={"actuator_gear": 0.5}), ())
    size = plain.observation_space.shape[0]
    deviation, half_range = map(np.float32, SEEN.get(env.id, ([0] * size, [1] * size)))
    disturbances = {x.name: x.levels for x in menu(World(bare, plain, deviation, half_range, None))}
    if env.id in SEEN:
        made["noise 5 %"] = (next(x.env for x in disturbances["observation_noise"] if x.value == 0.05), ())
    unforeseen, moderate = disturbances["unforeseen"][1], disturbances["all_at_once"][1]
    for level in disturbances["unforeseen"][1:]:
        made[f"lag and backlash, {PRESETS[level.value]}"] = (level.env, level.wrappers)
    if env.id in SEEN:
        both = unforeseen.wrappers + moderate.wrappers
        made["all at once, moderate, with lag and backlash"] = (moderate.env, both)
    return made


def main():
    out, *runs = sys.argv[1:]
    first, rows = {}, []
    for run in runs:
        path, name = run.split("=")
        subject = policies.load(path)
        seed = ""
        if not path.endswith(".tflite"):
            seed = checkpoint.restore(f"{path}/checkpoints").settings["train"]["seed"]
        bench = Bench(subject.env, range(STARTS))
        for world, (env, wrappers) in worlds(subject.env, bench.plain[0]).items():
            episodes = bench.run(subject.act, env, wrappers)
            for start, total in enumerate(episodes.returns):
                variation = action_metrics(episodes.actions[:, start : start + 1])["total_variation"]
                rows.append([name, seed, subject.env.id, world, start, f"{total:.6f}", f"{variation:.6f}"])
            mean, variation = np.mean(episodes.returns), action_metrics(episodes.actions)["total_variation"]
            ahead = difference(episodes.returns, first.setdefault((subject.env.id, world), episodes.returns))
            print(
                f"{name} {seed}: {world}: {mean:.2f}, variation {variation:.3f}, ahead by {ahead['mean']:.2f} "
                f"({ahead['low']:.2f} to {ahead['high']:.2f})",
                flush=True,
            )
        bench.close()
    measured = {(row[0], str(row[1]), row[2]) for row in rows}
    if Path(out).exists():
        with gzip.open(out, "rt", newline="") as file:
            rows = [row for row in list(csv.reader(file))[1:] if tuple(row[:3]) not in measured] + rows
    with gzip.open(out, "wt", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "training_seed", "environment", "world", "start", "return", "total_variation"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
