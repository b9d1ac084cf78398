"""Trains what report.py compares: python benchmarks/any_task/runs.py [PATTERN...]

A run is called task-setting-seedN. Without patterns (as of fnmatch) all of RUNS are made, in their order, as many at a
time as there are cores, one thread each. A call that was cut off goes on where it stopped; every finished run is kept
in results/evaluations.csv.gz: run, step, episode, return. Evaluations have ten episodes, a run's last one a hundred.
"""

import csv
import fcntl
import fnmatch
import gzip
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
RUNS_IN_PROGRESS = Path("runs/any_task")
EVALUATIONS = RESULTS / "evaluations.csv.gz"
ONE_THREAD = {f"TF_NUM_{kind}_THREADS": "1" for kind in ("INTRAOP", "INTEROP")} | {"OPENBLAS_NUM_THREADS": "1"}

TASKS = {
    "hopper": "Hopper-v5",
    "half_cheetah": "HalfCheetah-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
    "reacher": "Reacher-v5",
    "pendulum": "Pendulum-v1",
    "inverted_pendulum": "InvertedPendulum-v5",
    "inverted_double_pendulum": "InvertedDoublePendulum-v5",
    "pusher": "Pusher-v5",
    "swimmer": "Swimmer-v5",
    "humanoid": "Humanoid-v5",
    "humanoid_standup": "HumanoidStandup-v5",
    "cheetah_run": "shimmy:dm_control/cheetah-run-v0",
    "pendulum_swingup": "shimmy:dm_control/pendulum-swingup-v0",
    "reacher_hard": "shimmy:dm_control/reacher-hard-v0",
    "reacher_easy": "shimmy:dm_control/reacher-easy-v0",
    "cartpole_swingup": "shimmy:dm_control/cartpole-swingup-v0",
    "walker_walk": "shimmy:dm_control/walker-walk-v0",
    "bipedal_walker": "BipedalWalker-v3",
    "mountain_car": "MountainCarContinuous-v0",
}
# What a task needs of its own, in every setting.
OWN = {
    "pendulum": ["train.eval_every = 1_000"],
    "inverted_pendulum": ["train.eval_every = 2_000"],
    "inverted_double_pendulum": ["train.eval_every = 5_000"],
    "reacher": ["train.eval_every = 5_000"],
    "mountain_car": [
        "train.eval_every = 5_000",
        "env.wrappers = [('StickyAction', {'repeat_action_probability': 0.9})]",
    ],
    "swimmer": ["CrossQ.discount = 0.999"],
}
BEYOND_JOINTS = [f"include_{x}_in_observation" for x in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")]
SAC_FAST = ["train.algorithm = 'sac'", *(f"SAC.{x}_learning_rate = 1e-3" for x in ("policy", "q", "alpha"))]
# One line a setting: what it has that train.algorithm = 'crossq' has not.
SETTINGS = {
    "crossq": [],
    "sac": ["train.algorithm = 'sac'"],
    "sac_fast": SAC_FAST,
    "sac_entropy": ["train.algorithm = 'sac'", "SAC.target_entropy = 0.0"],
    "sac_short": ["train.algorithm = 'sac'", "env.max_episode_steps = 200"],
    "sac_far": [*SAC_FAST, "SAC.discount = 0.995"],
    "no_contact": ["env.kwargs = {'include_cfrc_ext_in_observation': False}"],
    "fixed_alpha": ["CrossQ.alpha_learning_rate = 0.0", "CrossQ.initial_alpha = 0.05"],
    "normalised_policy": ["train.algorithm = 'variants:NormalisedPolicy'"],
    "joints_only": [f"env.kwargs = {dict.fromkeys(BEYOND_JOINTS, False)}"],
    "large_epsilon": ["train.algorithm = 'variants:large_epsilon'"],
    "half_gradient": ["train.algorithm = 'variants:half_gradient'"],
    "plain_output": ["train.algorithm = 'variants:plain_output'"],
    "batch_128": ["train.batch_size = 128"],
}
# task, setting, seeds, steps
RUNS = [
    ("half_cheetah", "crossq", 1, 300_000),
    ("half_cheetah", "batch_128", 1, 40_000),
    ("half_cheetah", "normalised_policy", 1, 30_000),
    ("half_cheetah", "half_gradient", 1, 40_000),
    ("half_cheetah", "plain_output", 1, 40_000),
    ("hopper", "crossq", 2, 100_000),
    ("hopper", "half_gradient", 1, 60_000),
    ("walker2d", "crossq", 1, 100_000),
    ("ant", "crossq", 1, 100_000),
    ("ant", "no_contact", 1, 100_000),
    ("ant", "normalised_policy", 1, 60_000),
    ("ant", "large_epsilon", 1, 30_000),
    ("reacher", "crossq", 1, 50_000),
    ("pendulum", "crossq", 1, 10_000),
    ("inverted_pendulum", "crossq", 1, 10_000),
    ("inverted_double_pendulum", "crossq", 1, 30_000),
    ("pusher", "crossq", 1, 100_000),
    ("swimmer", "crossq", 1, 100_000),
    ("humanoid", "crossq", 1, 70_000),
    ("humanoid", "normalised_policy", 1, 40_000),
    ("humanoid", "joints_only", 1, 30_000),
    ("humanoid_standup", "crossq", 1, 60_000),
    ("mountain_car", "crossq", 1, 30_000),
    ("bipedal_walker", "crossq", 1, 100_000),
    ("cheetah_run", "crossq", 1, 100_000),
    ("walker_walk", "crossq", 1, 100_000),
    ("cartpole_swingup", "crossq", 1, 100_000),
    ("reacher_easy", "crossq", 1, 100_000),
    ("reacher_hard", "crossq", 1, 100_000),
    ("pendulum_swingup", "crossq", 1, 40_000),
    ("pendulum_swingup", "fixed_alpha", 1, 50_000),
    ("pendulum_swingup", "sac", 1, 100_000),
    ("pendulum_swingup", "sac_fast", 1, 100_000),
    ("pendulum_swingup", "sac_entropy", 1, 100_000),
    ("pendulum_swingup", "sac_far", 1, 60_000),
    ("pendulum_swingup", "sac_short", 1, 50_000),
]


def train(name, task, setting, seed, steps):
    """Trains one run, or goes on with it, and keeps what came of it."""
    logdir = RUNS_IN_PROGRESS / name
    command = ["tfsac.train", "--no-video", f"--logdir={logdir}"]
    if (logdir / "checkpoints").exists():
        command += ["--resume", *trusted(task), f"--gin_param=train.total_steps = {steps}"]
    else:
        bindings = ["train.algorithm = 'crossq'", *SETTINGS[setting], f"env.id = '{TASKS[task]}'"]
        bindings += [f"train.seed = {seed}", f"train.total_steps = {steps}"]
        bindings += [*OWN.get(task, ["train.eval_every = 10_000"])]
        command += [f"--gin_param={binding}" for binding in [*bindings, "train.checkpoint_every = 20_000"]]
    logdir.mkdir(parents=True, exist_ok=True)
    run(logdir, *command)
    keep(name, steps)


def keep(name, steps):
    """Writes the run's evaluations into the table, the last of them with a hundred episodes, as are earlier ends."""
    logdir = RUNS_IN_PROGRESS / name
    flags = f"--logdir={logdir}", "--json", "--episodes=100", *trusted(name.split("-")[0])
    text = run(logdir, "tfsac.evaluate", *flags)
    last = [
        {"run": name, "step": steps, "episode": i, "return": x} for i, x in enumerate(json.loads(text)["returns"])
    ]  # fmt: skip
    with open(__file__) as lock, open(logdir / "evaluations.csv", newline="") as file:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = [row for row in read() if row["run"] == name]
        hundred = {row["step"] for row in before if row["episode"] == "99" and int(row["step"]) < steps}
        ends = [row for row in before if row["step"] in hundred]
        way = [{"run": name} | row for row in csv.DictReader(file) if row["step"] not in {*hundred, str(steps)}]
        rows = [row for row in read() if row["run"] != name] + way + ends + last
        draft = EVALUATIONS.with_suffix(".draft")
        with gzip.open(draft, "wt", newline="") as table:
            writer = csv.DictWriter(table, ["run", "step", "episode", "return"], "", "ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        draft.replace(EVALUATIONS)


def trusted(task):
    """The flags that let a command import what the run names."""
    return [f"--trust={name}" for name in ("variants", *TASKS[task].split(":")[:-1])]


def run(logdir, *command):
    """Runs one of tfsac's commands in one thread; -> what it printed to stdout, unless that is the training's."""
    paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)])}
    with open(logdir / "output.txt", "a") as log:
        out = subprocess.PIPE if "--json" in command else log
        environment = os.environ | ONE_THREAD | paths
        done = subprocess.run([sys.executable, "-m", *command], stdout=out, stderr=log, env=environment, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed; see {log.name}")
    return done.stdout


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
