"""Runs of which the diagnosis keeps every table: python benchmarks/study/diagnosis_runs.py [NAME...]

The faults' third seed on Pendulum once more, now with all that a run directory holds but its checkpoint and
TensorBoard's files, and `sac` with rewards that are too small and too large. Trains one after the other on one thread;
what is there is not run again. Adds to results/diagnosis.zip

    NAME/               config.gin, metrics.csv, episodes.csv, evaluations.csv
    NAME/replay.csv     what the diagnosis measures on the replay: measure, value
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import ablation
import faults
import results
import runs

from tfsac.diagnosis.measures import MEASURES, View
from tfsac.diagnosis.record import read_run

TABLES = ("config.gin", "metrics.csv", "episodes.csv", "evaluations.csv")
ON_REPLAY = (
    "saturation", "constant_observations", "largest_observation", "smallest_observation", "terminal_ends",
)  # fmt: skip
ODD_STEPS = 6_000
ODD = {"rewards_small": "odd:PendulumSmallRewards-v0", "rewards_large": "odd:PendulumLargeRewards-v0"}
NAMES = tuple(f"sac-{name}-seed0" for name in ODD) + tuple(
    f"sac_v1-{fault}-seed2" for fault in ablation.FAULTS if (fault, "pendulum") != ablation.NO_FAULT
)


def run(name):
    """Trains that run and keeps what it wrote."""
    algorithm, label, seed = name.split("-")
    settings = {"seed": int(seed.removeprefix("seed")), "eval_every": 1_000, "eval_episodes": 20}
    if algorithm == "sac":
        gin_file, settings["total_steps"] = "gin/sac/pendulum.gin", ODD_STEPS
        params = [f"env.id = {ODD[label]!r}"]
    else:
        gin_file, settings["total_steps"], _ = ablation.TASKS["pendulum"]
        params = [faults.setting(label)]
    params += [f"train.{key} = {value}" for key, value in settings.items()]
    with tempfile.TemporaryDirectory() as logdir:
        command = [sys.executable, "-m", "tfsac.train", f"--gin_file={ablation.ROOT / gin_file}", f"--logdir={logdir}"]
        command += [f"--gin_param={param}" for param in params]
        environment = os.environ | runs.ONE_THREAD | {"PYTHONPATH": str(ablation.HERE)}
        done = subprocess.run(command, cwd=ablation.ROOT, env=environment, capture_output=True)
        if done.returncode and b"left the range of numbers" not in done.stderr:
            raise RuntimeError(f"{name}: {done.stderr.decode()[-2000:]}")
        keep(Path(logdir), name)


def keep(logdir, name):
    """Copies the tables, and measures the replay."""
    view = View(read_run(logdir))
    measured = {name: MEASURES[name](view) for name in ON_REPLAY}
    rows = [(name, f"{x.value:.5g}") for name, x in measured.items() if x is not None]
    runs.write(logdir / "replay.csv", ("measure", "value"), rows)
    with zipfile.ZipFile(results.DIAGNOSIS, "a", zipfile.ZIP_DEFLATED) as archive:
        for table in (*TABLES, "replay.csv"):
            archive.write(logdir / table, f"{name}/{table}")
    print(f"{name} is in {results.DIAGNOSIS}", flush=True)


def main():
    with zipfile.ZipFile(results.DIAGNOSIS) as archive:
        kept = {Path(file).parent.name for file in archive.namelist()}
    for name in sys.argv[1:] or NAMES:
        if name not in kept:
            run(name)


if __name__ == "__main__":
    main()
