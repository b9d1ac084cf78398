"""One fault at a time, as student code has them: python benchmarks/study/ablation.py [FAULT...]

Each file of patches/ breaks one line or two of tfsac. The study applies it to a copy and trains `sac_v1`, the report's
algorithm, on Pendulum-v1 and on Reacher-v5, three seeds, two trainings at a time with one thread each; `none` is the
copy without a fault. Pendulum's reward scale is 1, so that it cannot lack one. Writes
results/ablation-FAULT-TASK-seedN.csv and -losses.csv as runs.py does; what is there is not run again.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import runs

ROOT, PATCHES = Path(__file__).parents[2], Path(__file__).parent / "patches"
FAULTS = ("none", *sorted(path.stem for path in PATCHES.glob("*.patch")))
SEEDS = (0, 1, 2)
NO_FAULT = ("no_reward_scale", "pendulum")
# name: gin file, steps, steps between two evaluations
TASKS = {"pendulum": ("gin/v1/pendulum.gin", 10_000, 1_000), "reacher": ("gin/v1/reacher.gin", 10_000, 1_000)}


def broken_copy(fault, folder):
    """A copy of the package with that fault in it; -> the folder to train in."""
    shutil.copytree(ROOT / "tfsac", folder / "tfsac", ignore=shutil.ignore_patterns("__pycache__"))
    if fault != "none":
        # Outside of any repository, where git would look for the paths from its root on.
        environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
        subprocess.run(["git", "apply", PATCHES / f"{fault}.patch"], cwd=folder, check=True, env=environment)
    return folder


def run(fault, task, seed):
    """Trains one seed with that fault and keeps what it wrote."""
    gin_file, steps, every = TASKS[task]
    name = f"ablation-{fault}-{task}-seed{seed}"
    if (runs.RESULTS / f"{name}.csv").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        logdir = Path(folder) / "run"
        command = [sys.executable, "-m", "tfsac.train", f"--gin_file={ROOT / gin_file}", f"--logdir={logdir}"]
        settings = {"seed": seed, "total_steps": steps, "eval_every": every, "eval_episodes": 20}
        command += [f"--gin_param=train.{key} = {value}" for key, value in settings.items()]
        command += [f"--gin_param=SACv1.{setting}" for setting in runs.BEFORE_TUNING["SACv1"]]
        done = subprocess.run(
            command, cwd=broken_copy(fault, Path(folder)), env=os.environ | runs.ONE_THREAD, capture_output=True
        )
        # A fault may end in NaN: the run stops there, and what it wrote until then is the result.
        if done.returncode and b"left the range of numbers" not in done.stderr:
            raise RuntimeError(f"{name}: {done.stderr.decode()[-2000:]}")
        runs.keep(logdir, name)


def main():
    jobs = [(fault, task, seed) for seed in SEEDS for task in TASKS for fault in sys.argv[1:] or FAULTS]
    jobs = [job for job in jobs if job[:2] != NO_FAULT]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: run(*job), jobs))


if __name__ == "__main__":
    main()
