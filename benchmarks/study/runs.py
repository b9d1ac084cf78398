"""The study's trainings: python benchmarks/study/runs.py [--sb3=PYTHON] [--sbx=PYTHON] [--seeds=N] [TASK...]

Ours run through `tfsac.sweep`, the peers through benchmarks/peers/, two trainings at a time with one thread each. Every
evaluation has 100 episodes on Gymnasium's seeds 0 to 99, but for those of HalfCheetah on the way, which have 10. A seed
that is in results/ is not run again, and a sweep that was cut off goes on from its checkpoints in runs/study/. Adds
each seed, as it ends, to results/returns.csv.gz and, of ours, to results/losses.csv.gz (results.py). seconds is the
wall clock since the first step, compilation included and imports not; for ours, unlike the peers', earlier evaluations
included.
"""

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import results

RUNS, PEERS = Path("runs/study"), Path(__file__).parents[1] / "peers"
EPISODES = 100  # of the last evaluation
BEFORE_TUNING = {  # what gin/ said of Reacher before this study chose its settings; budget and ablation keep to it
    "SAC": ("discount = 0.99", "tau = 0.005", "observation_scale = None"),
    "SACv1": ("discount = 0.99", "tau = 0.005", "observation_scale = None", "v_learning_rate = 1e-3"),
}
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Task(NamedTuple):
    """One row of the benchmark."""

    gin_file: str
    steps: int
    every: int  # steps between two evaluations
    seeds: int
    episodes: int = 100  # of an evaluation on the way


TASKS = {
    "pendulum-sac": Task("gin/sac/pendulum.gin", 20_000, 1_000, 10),
    "pendulum-sac_v1": Task("gin/v1/pendulum.gin", 20_000, 1_000, 10),
    "reacher-sac": Task("gin/sac/reacher.gin", 100_000, 5_000, 10),
    "inverted_pendulum-sac": Task("gin/sac/inverted_pendulum.gin", 20_000, 5_000, 5),
    "inverted_double_pendulum-sac": Task("gin/sac/inverted_double_pendulum.gin", 50_000, 5_000, 5),
    "reacher-sac_v1": Task("gin/v1/reacher.gin", 100_000, 5_000, 10),
    "half_cheetah-sac": Task("gin/sac/half_cheetah.gin", 300_000, 5_000, 3, episodes=10),
}
ENV_IDS = {
    "pendulum": "Pendulum-v1",
    "reacher": "Reacher-v5",
    "inverted_pendulum": "InvertedPendulum-v5",
    "inverted_double_pendulum": "InvertedDoublePendulum-v5",
    "half_cheetah": "HalfCheetah-v5",
}
# What the peers train on: environment, its row above, seeds.
ENVS = {
    "pendulum": (ENV_IDS["pendulum"], TASKS["pendulum-sac"], 5),
    "reacher": (ENV_IDS["reacher"], TASKS["reacher-sac"], 3),
}
PEER_TASKS = {
    f"{env}-{peer}-{hyperparameters}": (env, peer, hyperparameters)
    for env in ENVS
    for peer in ("sb3", "sbx")
    for hyperparameters in ("ours", "defaults")
}


def is_kept(task, seed):
    """Whether the evaluations of that seed are in results/."""
    return f"{task}-seed{seed}" in results.RETURNS.runs()


def run_ours(name, seeds):
    """Sweeps over those of the first seeds that are missing, and keeps each as it ends."""
    task, out = TASKS[name], RUNS / name
    missing = [seed for seed in range(min(seeds, task.seeds)) if not is_kept(name, seed)]
    if not missing:
        return
    command = [sys.executable, "-m", "tfsac.sweep", f"--gin_file={task.gin_file}", f"--out={out}"]
    command += [f"--seeds={','.join(map(str, missing))}", f"--gin_param=train.total_steps = {task.steps}"]
    command += [f"--gin_param=train.eval_every = {task.every}", f"--gin_param=train.eval_episodes = {task.episodes}"]
    with subprocess.Popen(command, env=os.environ | ONE_THREAD) as sweep:
        while sweep.poll() is None or any(ended(name, seed) for seed in missing):
            time.sleep(5)
            for seed in [seed for seed in missing if ended(name, seed)]:
                keep(RUNS / name / f"seed{seed}", f"{name}-seed{seed}", EPISODES)
                missing.remove(seed)
    if sweep.returncode:
        sys.exit(f"the sweep of {name} ended with {sweep.returncode}; the same command goes on")


def ended(name, seed):
    """Whether that trial has drawn its pictures, which it does last, after the last step."""
    logdir = RUNS / name / f"seed{seed}"
    evaluations = read(logdir / "evaluations.csv")
    return bool(evaluations) and int(evaluations[-1]["step"]) == TASKS[name].steps and (logdir / "returns.png").exists()


def keep(logdir, name, episodes=0):
    """Adds what is worth keeping of a run directory to results/, the last evaluation with so many or its own."""
    metrics, evaluations = (read(logdir / f"{table}.csv") for table in ("metrics", "evaluations"))
    evaluations += more_episodes(logdir, evaluations, episodes)
    seconds = {row["step"]: f"{float(row['seconds']):.1f}" for row in metrics}
    names = results.LOSSES.columns[1:]
    losses = [[row["step"], *(f"{float(row[x]):.5g}" if x in row else "" for x in names)] for row in metrics]
    rows = [(x["step"], seconds.get(x["step"], ""), x["episode"], f"{float(x['return']):.6g}") for x in evaluations]
    results.LOSSES.add(name, losses)
    results.RETURNS.add(name, rows)  # last, since a run that is here is not run again
    print(f"{name} is in {results.FOLDER}", flush=True)


def more_episodes(logdir, evaluations, episodes):
    """What the last evaluation lacks of so many episodes, from the last checkpoint."""
    step = evaluations[-1]["step"]
    first = sum(x["step"] == step for x in evaluations)
    if first >= episodes:
        return []
    command = [sys.executable, "-m", "tfsac.evaluate", f"--logdir={logdir}", "--json"]
    command += [f"--seed={first}", f"--episodes={episodes - first}"]  # each episode has the seed of its number
    returns = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["returns"]
    return [{"step": step, "episode": str(i), "return": x} for i, x in enumerate(returns, first)]


def run_peer(name, seed, pythons):
    """Trains and evaluates one seed of a peer."""
    env, peer, hyperparameters = PEER_TASKS[name]
    env_id, task, _ = ENVS[env]
    if is_kept(name, seed) or not pythons[peer]:
        return
    out = RUNS / f"{name}-seed{seed}.csv"
    command = [pythons[peer], PEERS / f"{peer}_peer.py", "learn", f"--env_id={env_id}", f"--seed={seed}", "--threads=1"]
    command += [f"--hyperparameters={hyperparameters}", f"--total_steps={task.steps}", f"--eval_every={task.every}"]
    command += [f"--eval_episodes={EPISODES}", f"--out={out}"]
    log = RUNS / f"{name}-seed{seed}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        if subprocess.run(command, stdout=file, stderr=file).returncode:
            raise RuntimeError(f"{name} seed {seed} failed; see {log}")
    results.RETURNS.add(f"{name}-seed{seed}", [list(row.values()) for row in read(out)])
    print(f"{name} seed {seed} is in {results.FOLDER}", flush=True)


def read(path):
    """The rows of a CSV file as dicts of strings; none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path, columns, rows):
    """Writes a CSV file whole or not at all."""
    part = path.with_suffix(".part")
    with open(part, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    part.rename(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sb3", help="Python of the environment of Stable-Baselines3; without it, it is left out")
    parser.add_argument("--sbx", help="the same of SBX")
    parser.add_argument("--seeds", type=int, default=10, help="no more of each task, to have some of every task first")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join([*TASKS, *PEER_TASKS])}; default all")
    args = parser.parse_args()
    for name in args.tasks or TASKS:
        if name in TASKS:
            run_ours(name, args.seeds)
    chosen = [name for name in PEER_TASKS if name in (args.tasks or PEER_TASKS)]
    jobs = [(name, seed) for seed in range(args.seeds) for name in chosen if seed < ENVS[PEER_TASKS[name][0]][2]]
    # A peer keeps to the first of the cores it is given: each thread here, and what it starts, has one of its own.
    cores = itertools.cycle(os.sched_getaffinity(0))
    with ThreadPoolExecutor(2, initializer=lambda: os.sched_setaffinity(0, {next(cores)})) as pool:
        list(pool.map(lambda job: run_peer(*job, {"sb3": args.sb3, "sbx": args.sbx}), jobs))


if __name__ == "__main__":
    main()
