"""Seconds from the command until a task is solved: python benchmarks/any_task/time_to_solve.py [SEEDS]

Pendulum-v1 with gin/pendulum.gin, evaluated every 500 steps on ten starts, one core, one training at a time: the clock
starts with the process and stops at the first evaluation of at least LEVEL. For a quiet machine; it takes a minute.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from runs import ONE_THREAD

GIN = Path(__file__).parents[2] / "gin" / "pendulum.gin"
LEVEL = -200


def solve(seed, folder):
    """Trains until it is solved; -> (seconds, steps), infinite where it never is."""
    command = [sys.executable, "-u", "-m", "tfsac.train", f"--gin_file={GIN}", f"--logdir={folder}/{seed}"]
    command += ["--no-video", f"--gin_param=train.seed = {seed}", "--gin_param=train.eval_every = 500"]
    begin = time.perf_counter()
    training = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD)
    for line in training.stdout:
        row = re.search(r"step (\d+)/.*evaluation (-?[\d.]+)", line)
        if row and float(row[2]) >= LEVEL:
            seconds = time.perf_counter() - begin
            training.kill()
            training.wait()
            return seconds, int(row[1])
    return np.inf, np.inf


def main(seeds=5):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        results = [solve(seed, folder) for seed in range(int(seeds))]
    for seed, (seconds, steps) in enumerate(results):
        print(f"seed {seed}: {seconds:.1f} s, {steps} steps")
    print(f"median {np.median([seconds for seconds, _ in results]):.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
