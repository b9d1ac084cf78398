"""One fault at a time, as student code has them: python benchmarks/study/ablation.py [FAULT...]

Trains `sac_v1`, the report's algorithm, with each fault of faults.py on Pendulum-v1 and on Reacher-v5, three seeds, two
trainings at a time with one thread each; `none` is without a fault. Pendulum's reward scale is 1, so that it cannot
lack one. Adds runs called ablation-FAULT-TASK-seedN to results/ as runs.py does; what is there is not run again.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faults
import runs

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
FAULTS = ("none", *faults.FAULTS)
SEEDS = (0, 1, 2)
NO_FAULT = ("no_reward_scale", "pendulum")
# name: gin file, steps, steps between two evaluations
TASKS = {"pendulum": ("gin/v1/pendulum.gin", 10_000, 1_000), "reacher": ("gin/v1/reacher.gin", 10_000, 1_000)}


def run(fault, task, seed):
    """Trains one seed with that fault and keeps what it wrote."""
    gin_file, steps, every = TASKS[task]
    if runs.is_kept(f"ablation-{fault}-{task}", seed):
        return
    name = f"ablation-{fault}-{task}-seed{seed}"
    with tempfile.TemporaryDirectory() as logdir:
        command = [sys.executable, "-m", "tfsac.train", f"--gin_file={ROOT / gin_file}", f"--logdir={logdir}"]
        settings = {"seed": seed, "total_steps": steps, "eval_every": every, "eval_episodes": 20}
        params = [f"train.{key} = {value}" for key, value in settings.items()]
        params += [f"SACv1.{setting}" for setting in runs.BEFORE_TUNING["SACv1"]] + [faults.setting(fault)]
        environment = os.environ | runs.ONE_THREAD | {"PYTHONPATH": str(HERE)}
        command += [f"--gin_param={param}" for param in params]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
        # A fault may end in NaN: the run stops there, and what it wrote until then is the result.
        if done.returncode and b"left the range of numbers" not in done.stderr:
            raise RuntimeError(f"{name}: {done.stderr.decode()[-2000:]}")
        runs.keep(Path(logdir), name)


def main():
    jobs = [(fault, task, seed) for seed in SEEDS for task in TASKS for fault in sys.argv[1:] or FAULTS]
    jobs = [job for job in jobs if job[:2] != NO_FAULT]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: run(*job), jobs))


if __name__ == "__main__":
    main()
