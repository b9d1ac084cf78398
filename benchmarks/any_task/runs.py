"""Trains what report.py compares: python benchmarks/any_task/runs.py [PATTERN...]

A run is called task-setting-seedN. Without patterns (as of fnmatch) all of RUNS are made, in their order, as many at a
time as there are cores, one thread each. A call that was cut off goes on where it stopped; every finished run is kept
in results/evaluations.csv.gz: run, step, episode, return, length.
"""

import csv
import fnmatch
import gzip
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
RUNS_IN_PROGRESS = Path("runs/any_task")
EVALUATIONS = RESULTS / "evaluations.csv.gz"

TASKS = {
    "hopper": "Hopper-v5",
    "half_cheetah": "HalfCheetah-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
    "cheetah_run": "shimmy:dm_control/cheetah-run-v0",
    "pendulum_swingup": "shimmy:dm_control/pendulum-swingup-v0",
}
# One line a setting: what it has that train.algorithm = 'crossq' has not.
SETTINGS = {
    "crossq": [],
    "half_gradient": ["train.algorithm = 'variants:half_gradient'"],
    "no_affine": ["train.algorithm = 'variants:no_affine'"],
    "no_gamma": ["train.algorithm = 'variants:no_gamma'"],
    "plain_output": ["train.algorithm = 'variants:plain_output'"],
    "batch_128": ["train.batch_size = 128"],
    "rate_5e-4": [f"CrossQ.{x}_learning_rate = 5e-4" for x in ("policy", "q", "alpha")],
    "rate_3e-4": [f"CrossQ.{x}_learning_rate = 3e-4" for x in ("policy", "q", "alpha")],
    "start_5000": ["train.start_steps = 5_000"],
    "1_step_per_call": ["train.steps_per_call = 1"],
    "sac": ["train.algorithm = 'sac'", *(f"SAC.{x}_learning_rate = 1e-3" for x in ("policy", "q", "alpha"))],
}
# task, setting, seeds, steps
RUNS = [
    ("half_cheetah", "crossq", 1, 40_000),
    ("half_cheetah", "batch_128", 1, 40_000),
    ("hopper", "crossq", 1, 60_000),
    ("hopper", "batch_128", 1, 60_000),
    ("half_cheetah", "half_gradient", 1, 40_000),
    ("hopper", "half_gradient", 1, 60_000),
    ("half_cheetah", "plain_output", 1, 40_000),
]

_lock = threading.Lock()


def train(name, task, setting, seed, steps):
    """Trains one run, or goes on with it, and keeps what came of it."""
    logdir = RUNS_IN_PROGRESS / name
    command = [sys.executable, "-m", "tfsac.train", f"--logdir={logdir}", "--trust=variants"]
    if (logdir / "checkpoints").exists():
        command += ["--resume", f"--gin_param=train.total_steps = {steps}"]
    else:
        bindings = ["train.algorithm = 'crossq'", *SETTINGS[setting], f"env.id = '{TASKS[task]}'"]
        bindings += [f"train.seed = {seed}", f"train.total_steps = {steps}", "train.eval_every = 10_000"]
        command += [f"--gin_param={binding}" for binding in [*bindings, "train.checkpoint_every = 20_000"]]
    one_thread = {f"TF_NUM_{kind}_THREADS": "1" for kind in ("INTRAOP", "INTEROP")} | {"OPENBLAS_NUM_THREADS": "1"}
    paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)])}
    logdir.mkdir(parents=True, exist_ok=True)
    with open(logdir / "output.txt", "a") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=os.environ | one_thread | paths)
    if done.returncode:
        raise RuntimeError(f"{name} failed; see {log.name}")
    with _lock, open(logdir / "evaluations.csv", newline="") as file:
        new = [{"run": name} | row for row in csv.DictReader(file)]
        rows = [row for row in read() if row["run"] != name] + new
        draft = EVALUATIONS.with_suffix(".draft")
        with gzip.open(draft, "wt", newline="") as table:
            writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        draft.replace(EVALUATIONS)


def read():
    """The rows of the table, dicts of text; none where it does not exist yet."""
    if not EVALUATIONS.exists():
        return []
    with gzip.open(EVALUATIONS, "rt", newline="") as file:
        return list(csv.DictReader(file))


def main(patterns):
    jobs = []
    finished = {row["run"]: int(row["step"]) for row in read()}  # of each run its last row
    for task, setting, seeds, steps in RUNS:
        for seed in range(seeds):
            name = f"{task}-{setting}-seed{seed}"
            if finished.get(name, 0) < steps and any(fnmatch.fnmatch(name, pattern) for pattern in patterns or "*"):
                jobs.append((name, task, setting, seed, steps))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for result in [pool.submit(train, *job) for job in jobs]:
            result.result()


if __name__ == "__main__":
    RESULTS.mkdir(exist_ok=True)
    main(sys.argv[1:])
