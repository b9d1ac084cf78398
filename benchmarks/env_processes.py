"""Environments in turn and in processes of their own: python benchmarks/env_processes.py [SECONDS]

Steps/s of tfsac's training loop against the number of environments, for Reacher, Humanoid and a Pendulum that sleeps
5 ms a step, with train.env_processes and without: once collecting alone, with actions of the policy, and once with one
update a step (256x256, batch 256). Beside each the learner's rate alone. Each number is the median over ROUNDS windows
of SECONDS (default 3), and the modes take turns. Writes env_processes.csv. For a quiet machine: eight minutes.
"""

import csv
import os
import sys
import time
from pathlib import Path

import numpy as np

from tfsac import train
from tfsac.run import settings as run_settings
from tfsac.run.loop import make_loop

HERE, ROUNDS, START = Path(__file__).parent, 3, 512
SIMULATORS = {
    "Reacher-v5": ["env.id = 'Reacher-v5'"],
    "Humanoid-v5": ["env.id = 'Humanoid-v5'"],
    "Pendulum, 5 ms a step": ["env.id = 'slow_pendulum:SlowPendulum-v0'", "env.kwargs = {'step_seconds': 0.005}"],
}
ENVIRONMENTS = 1, 2, 4, 8, 16
SLEEPS = "Pendulum, 5 ms a step"


def begin(simulator, num_envs, processes):
    """The loop of these settings, with enough in its replay to learn from."""
    block = max(8, num_envs)
    params = ["train.algorithm = 'sac'", *SIMULATORS[simulator]]
    params += [f"train.num_envs = {num_envs}", f"train.env_processes = {processes}"]
    params += [f"train.steps_per_call = {block}", "train.total_steps = 100_000", f"train.start_steps = {START}"]
    loop = make_loop(run_settings.read([], params))
    blocks = loop.blocks(100_000)
    while next(blocks).metrics is None:  # the last of these traces the update
        pass
    return loop, blocks


def rate(steps, seconds):
    """Steps a second of `steps()`, which takes some and returns how many."""
    taken, start = 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        taken += steps()
    return taken / (now - start)


def measure(loop, blocks, seconds):
    """-> steps/s without updates, with one a step, and updates/s of the learner alone."""
    block, behaviour = loop.options.steps_per_call, loop._behaviour

    def collect():
        loop.collector.collect(block, behaviour)
        loop.collector.begin(block, behaviour)
        return block

    def both():
        result = next(blocks)
        return result.step - result.before

    def learn():
        loop._learn(block)
        return block

    return rate(collect, seconds), rate(both, seconds), rate(learn, seconds)


def main(seconds):
    train.set_threads()
    print(f"{os.cpu_count()} cores, {cpu()}")
    rows = []
    for simulator in SIMULATORS:
        for num_envs in ENVIRONMENTS:
            loops = {processes: begin(simulator, num_envs, processes) for processes in (False, True)}
            windows = {processes: [] for processes in loops}
            for _ in range(ROUNDS):
                for processes, loop in loops.items():
                    windows[processes].append(measure(*loop, seconds))
            for processes, (loop, _) in loops.items():
                loop.collector.close()
                collecting, learning, updates = np.median(windows[processes], axis=0)
                rates = {"collecting": collecting, "learning": learning, "updates": updates}
                shown = {name: round(float(value), 1) for name, value in rates.items()}
                rows.append({"simulator": simulator, "environments": num_envs, "processes": processes, **shown})
                print(rows[-1], flush=True)
    with open(HERE / "env_processes.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    one, *_ = (row for row in rows if row["simulator"] == SLEEPS)
    (eight,) = (x for x in rows if x["simulator"] == SLEEPS and x["environments"] == 8 and x["processes"])
    least = min(eight["collecting"], eight["updates"])
    print(f"8 in processes over 1 in turn, without updates: {eight['collecting'] / one['collecting']:.2f} (bar 5)")
    print(f"with updates over the smaller of both rates: {eight['learning'] / least:.2f} (bar 0.9)")


def cpu():
    text = Path("/proc/cpuinfo").read_text()
    return next(line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name"))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
