"""Seconds of training until a level is reached: python benchmarks/any_task/race.py Hopper-v5 --sbx=sbx/bin/python

tfsac's crossq as the task's gin file has it and its sac as gin/sac has it, or else with its defaults; then SBX's CrossQ
and SAC as they come, but for the critics of SBX's CrossQ: 256 units instead of 1,024. One after the other on one core,
evaluated every 5,000 steps on ten starts; adds each training to results/race.csv.gz (run, step, seconds, episode,
return) and skips what is there. seconds is the wall clock since the first step, compilation included, imports and
evaluations not. A run is called task-contender-seedN, on another machine than the first task-contender_machine-seedN
(--machine). HalfCheetah's crossq had a delay of 3 in its gin file, its crossq_128 128 units as well; crossq_256 is as
the file is now, but the last policy was deployed.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
PEERS = HERE.parent / "peers"
sys.path.insert(0, str(HERE.parent))

from study.results import Table  # noqa: E402

RACE = Table(HERE / "results" / "race.csv.gz", ("step", "seconds", "episode", "return"))
CONTENDERS = ("crossq", "sac", "sbx_crossq", "sbx_sac")
LEVELS = {"Ant-v5": 2_000, "HalfCheetah-v5": 6_000, "Hopper-v5": 2_500}
STEPS = {  # one a contender
    "Ant-v5": (100_000, 60_000, 60_000, 60_000),
    "HalfCheetah-v5": (60_000, 70_000, 70_000, 70_000),
    "Hopper-v5": (60_000, 60_000, 40_000, 60_000),
}
KWARGS = {"Ant-v5": {"include_cfrc_ext_in_observation": False}}  # what the task's gin file has


def train(name, task, contender, seed, sbx):
    """Trains one and keeps what came of it under that name."""
    command = {
        "crossq": [sys.executable, PEERS / "tfsac_learner.py"],
        "sac": [sys.executable, PEERS / "tfsac_sac_learner.py"],
        "sbx_crossq": [sbx, PEERS / "sbx_crossq_peer.py"],
        "sbx_sac": [sbx, PEERS / "sbx_peer.py"],
    }[contender]
    steps = STEPS[task][CONTENDERS.index(contender)]
    command += [
        "learn",
        "--hyperparameters=defaults",
        f"--env_id={task}",
        f"--env_kwargs={KWARGS.get(task, {})}",
        f"--seed={seed}",
        f"--total_steps={steps}",
        "--eval_every=5000",
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.csv"
        environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
        subprocess.run([*command, f"--out={out}"], check=True, env=environment)
        with open(out, newline="") as file:
            RACE.add(name, [tuple(row.values()) for row in csv.DictReader(file)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=LEVELS)
    parser.add_argument("--sbx", required=True)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--machine", help="part of the names of the runs, as zen5")
    options = parser.parse_args()
    for seed in range(options.seeds):
        for contender in options.contenders:
            machine = f"_{options.machine}" if options.machine else ""
            name = f"{options.task}-{contender}{machine}-seed{seed}"
            if name not in RACE.runs():
                train(name, options.task, contender, seed, options.sbx)
    for name, rows in RACE.runs().items():
        seconds = {int(row["step"]): float(row["seconds"]) for row in rows}
        means = {x: np.mean([float(row["return"]) for row in rows if int(row["step"]) == x]) for x in seconds}
        solved = [step for step, mean in means.items() if mean >= LEVELS[name.rsplit("-", 2)[0]]]
        print(name, f"{solved[0]} steps, {seconds[solved[0]]:.0f} s" if solved else f"not in {max(seconds.values())} s")


if __name__ == "__main__":
    main()
