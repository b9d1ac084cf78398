"""Trains what report.py compares: python benchmarks/any_task/runs.py [PATTERN...]

A run is called task-setting-seedN. Without patterns (as of fnmatch) all of RUNS are made, in their order, as many at a
time as there are cores, one thread each. A call that was cut off goes on where it stopped; every finished run is kept
in results/evaluations.csv.gz: run, step, episode, return. Evaluations have ten episodes, those of HUNDRED and a run's
last one a hundred.
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
WITHOUT_FORCES = {"include_cfrc_ext_in_observation": False}
NO_CONTACT = f"env.kwargs = {WITHOUT_FORCES}"
REACHER_SCALE = "observation_scale = (1, 1, 1, 1, 10, 10, 0.3, 0.3, 10, 10)"
REACHER_FINE = "observation_scale = (1, 1, 1, 1, 10, 10, 0.3, 0.3, 30, 30)"
CLIPPED = "env.wrappers = [('ClipReward', {'min_reward': -1.0})]"
SAC_FAST = ["train.algorithm = 'sac'", *(f"SAC.{x}_learning_rate = 1e-3" for x in ("policy", "q", "alpha"))]


def humanoid(**rewards):
    """The setting by which Humanoid has these rewards; it comes with healthy_reward 5, forward_reward_weight 1.25."""
    return f"env.kwargs = {WITHOUT_FORCES | rewards}"


def units(scope, number):
    """Settings of networks of two layers of so many units."""
    return [f"{scope}.{x}_hidden_units = ({number}, {number})" for x in ("policy", "critic")]


def control_period(seconds):
    """The setting by which dm_control asks for an action every so often."""
    return f"env.kwargs = {{'environment_kwargs': {{'control_timestep': {seconds}}}}}"


def on_reacher(discount=0.97, scale=REACHER_SCALE):
    """Settings of `sac` as gin/sac/reacher.gin has them."""
    return [*SAC_FAST, f"SAC.discount = {discount}", "SAC.tau = 0.01", f"SAC.{scale}"]


MEAN = "SAC.mean_is_deployed = True"
PLAIN = ["train.algorithm = 'variants:Plain'"]
DELAY_3_128 = ["CrossQ.policy_delay = 3", *units("CrossQ", 128)]
# One line a setting: what it has that train.algorithm = 'crossq' has not.
SETTINGS = {
    "crossq": [],
    "sac": ["train.algorithm = 'sac'"],
    "sac_fast": SAC_FAST,
    "sac_entropy": ["train.algorithm = 'sac'", "SAC.target_entropy = 0.0"],
    "sac_short": ["train.algorithm = 'sac'", "env.max_episode_steps = 200"],
    "sac_far": [*SAC_FAST, "SAC.discount = 0.995"],
    "sac_25_hz": ["train.algorithm = 'sac'", control_period(0.04)],
    "sac_12_hz": ["train.algorithm = 'sac'", control_period(0.08)],
    "sac_12_hz_four": ["train.algorithm = 'sac'", control_period(0.08), "train.updates_per_step = 4"],
    "crossq_12_hz_four": [control_period(0.08), "train.updates_per_step = 4", *DELAY_3_128],
    "crossq_12_hz": [control_period(0.08)],
    "scaled": ["CrossQ.discount = 0.97", f"CrossQ.{REACHER_SCALE}"],
    "scaled_delay_3": ["CrossQ.discount = 0.97", f"CrossQ.{REACHER_SCALE}", "CrossQ.policy_delay = 3"],
    "sac_fine": on_reacher(scale=REACHER_FINE),
    "sac_two": [*on_reacher(), "train.updates_per_step = 2"],
    "sac_entropy_4": [*on_reacher(), "SAC.target_entropy = -4.0"],
    "sac_batch_512": [*on_reacher(), "train.batch_size = 512"],
    "linear_sac": [*on_reacher(), "train.algorithm = 'variants:LinearSAC'"],
    "mean_sac": [*on_reacher(), MEAN],
    "mean_sac_near": [*on_reacher(discount=0.95), MEAN],
    "mean_sac_fine": [*on_reacher(scale=REACHER_FINE), MEAN],
    "scaled_64": ["CrossQ.discount = 0.97", f"CrossQ.{REACHER_SCALE}", *units("CrossQ", 64)],
    "sac_64": [*on_reacher(), *units("SAC", 64)],
    "near_128": ["CrossQ.discount = 0.9", f"CrossQ.{REACHER_SCALE}", *units("CrossQ", 128)],
    "units_64": units("CrossQ", 64),
    "units_64_slow_policy": [*units("CrossQ", 64), "CrossQ.policy_learning_rate = 3e-4"],
    "units_128": units("CrossQ", 128),
    "delay_3": ["CrossQ.policy_delay = 3"],
    "delay_3_128": DELAY_3_128,
    "delay_2_128": ["CrossQ.policy_delay = 2", *units("CrossQ", 128)],
    "beta_09_delay_3_128": ["train.algorithm = 'variants:Beta09'", *DELAY_3_128],
    "two_updates_delay_3_128": ["train.updates_per_step = 2", *DELAY_3_128],
    "three_steps_delay_3_128": ["train.algorithm = 'variants:ThreeSteps'", *DELAY_3_128],
    "unit_norm_128": ["train.algorithm = 'variants:UnitNorm'", *units("CrossQ", 128)],
    "unit_norm_slow_128": [
        *("train.algorithm = 'variants:UnitNorm'", "CrossQ.q_learning_rate = 3e-4", *units("CrossQ", 128)),
    ],
    "unit_norm_targets_128": ["train.algorithm = 'variants:UnitNormTargets'", *units("CrossQ", 128)],
    "clipped_128": [CLIPPED, *units("CrossQ", 128)],
    "clipped_falling": ["train.algorithm = 'variants:FallingRate'", CLIPPED, *units("CrossQ", 128)],
    "no_contact_delay_3": [NO_CONTACT, "CrossQ.policy_delay = 3"],
    "plain": PLAIN,
    "plain_128": [*PLAIN, *units("CrossQ", 128)],
    "plain_delay_3": [*PLAIN, "CrossQ.policy_delay = 3"],
    "plain_delay_3_128": [*PLAIN, *DELAY_3_128],
    "plain_no_contact": [*PLAIN, NO_CONTACT],
    "plain_no_contact_delay_3_128": [*PLAIN, NO_CONTACT, *DELAY_3_128],
    "no_contact_128": [NO_CONTACT, *units("CrossQ", 128)],
    "no_contact_delay_3_128": [NO_CONTACT, *DELAY_3_128],
    "healthy_1_delay_3_128": [humanoid(healthy_reward=1.0), *DELAY_3_128],
    "forward_2_delay_3_128": [humanoid(forward_reward_weight=2.5), *DELAY_3_128],
    "forward_4_delay_3_128": [humanoid(forward_reward_weight=5.0), *DELAY_3_128],
    "forward_4_delay_3": [humanoid(forward_reward_weight=5.0), "CrossQ.policy_delay = 3"],
    "fixed_alpha": ["CrossQ.alpha_learning_rate = 0.0", "CrossQ.initial_alpha = 0.05"],
    "normalised_policy": ["train.algorithm = 'variants:NormalisedPolicy'"],
    "joints_only": [f"env.kwargs = {dict.fromkeys(BEYOND_JOINTS, False)}"],
    "large_epsilon": ["train.algorithm = 'variants:large_epsilon'"],
    "half_gradient": ["train.algorithm = 'variants:half_gradient'"],
    "batch_128": ["train.batch_size = 128"],
}
# Trained with a slower control or other rewards; their hundred episodes are in the task as it comes.
OTHER_TASK = ("control_timestep", "healthy_reward", "forward_reward_weight", CLIPPED)
AS_IT_COMES = {x for x, lines in SETTINGS.items() if any(y in line for y in OTHER_TASK for line in lines)}
HUNDRED = {"pendulum": (5_000,), "pendulum_swingup": (25_000, 50_000, 100_000)}
HUNDRED_OF_OTHERS = (50_000, 100_000)
# task, setting, steps of seed 0, of seed 1, ...
RUNS = [
    ("half_cheetah", "crossq", 100_000, 100_000, 100_000, 100_000, 100_000),
    ("half_cheetah", "plain", 300_000),
    ("half_cheetah", "batch_128", 40_000),
    ("half_cheetah", "normalised_policy", 30_000),
    ("half_cheetah", "half_gradient", 40_000),
    ("half_cheetah", "units_128", 50_000, 50_000),
    ("half_cheetah", "delay_3", 100_000, 300_000, 100_000, 100_000, 100_000),
    ("half_cheetah", "plain_delay_3", 0, 300_000),
    ("half_cheetah", "delay_3_128", 100_000),
    ("half_cheetah", "plain_delay_3_128", 300_000),
    ("half_cheetah", "delay_2_128", 50_000),
    ("half_cheetah", "beta_09_delay_3_128", 50_000),
    ("half_cheetah", "two_updates_delay_3_128", 50_000),
    ("half_cheetah", "three_steps_delay_3_128", 50_000),
    ("half_cheetah", "unit_norm_128", 50_000),
    ("half_cheetah", "unit_norm_slow_128", 50_000),
    ("half_cheetah", "unit_norm_targets_128", 50_000),
    ("hopper", "crossq", 100_000, 100_000),
    ("hopper", "half_gradient", 60_000),
    ("hopper", "units_128", 300_000, 100_000, 100_000, 100_000, 100_000),
    ("hopper", "plain_128", 300_000, 300_000, 300_000, 300_000, 300_000),
    ("hopper", "unit_norm_128", 60_000),
    ("hopper", "units_64", 100_000, 100_000, 100_000, 100_000),
    ("hopper", "units_64_slow_policy", 100_000),
    ("walker2d", "crossq", 100_000),
    ("walker2d", "units_128", 300_000, 300_000, 300_000, 100_000, 100_000),
    ("walker2d", "plain_128", 300_000, 300_000, 300_000),
    ("walker2d", "plain_delay_3", 300_000),
    ("walker2d", "plain_delay_3_128", 300_000),
    ("walker2d", "units_64", 100_000),
    ("ant", "crossq", 100_000),
    ("ant", "delay_3_128", 100_000, 100_000),
    ("ant", "plain_no_contact", 300_000),
    ("ant", "no_contact_128", 50_000),
    ("ant", "no_contact_delay_3", 300_000),
    ("ant", "no_contact_delay_3_128", 300_000, 100_000, 100_000, 100_000, 100_000),
    ("ant", "plain_no_contact_delay_3_128", 300_000),
    ("ant", "normalised_policy", 60_000),
    ("ant", "large_epsilon", 30_000),
    ("reacher", "crossq", 50_000),
    ("reacher", "scaled", 50_000),
    ("reacher", "scaled_64", 50_000),
    ("reacher", "near_128", 50_000),
    ("reacher", "sac_entropy_4", 50_000),
    ("reacher", "sac_batch_512", 50_000),
    ("reacher", "linear_sac", 50_000),
    ("reacher", "mean_sac", 50_000),
    ("reacher", "sac_fine", 50_000, 50_000),
    ("reacher", "sac_two", 50_000),
    ("reacher", "mean_sac_near", 50_000),
    ("reacher", "mean_sac_fine", 100_000, 100_000, 100_000, 100_000, 100_000),
    ("reacher", "scaled_delay_3", 50_000),
    ("reacher", "sac_64", 100_000),
    ("pendulum", "crossq", 10_000),
    ("pendulum", "units_64", 10_000, 10_000, 10_000, 10_000, 10_000),
    ("pendulum", "units_128", 10_000, 10_000, 10_000, 10_000, 10_000),
    ("inverted_pendulum", "crossq", 10_000),
    ("inverted_double_pendulum", "crossq", 30_000),
    ("pusher", "crossq", 100_000),
    ("swimmer", "crossq", 100_000),
    ("swimmer", "units_128", 100_000),
    ("swimmer", "plain_128", 300_000),
    ("swimmer", "delay_3", 100_000),
    ("swimmer", "delay_3_128", 100_000),
    ("humanoid", "crossq", 100_000),
    ("humanoid", "plain_no_contact", 300_000),
    ("humanoid", "no_contact_delay_3_128", 300_000),
    ("humanoid", "plain_no_contact_delay_3_128", 300_000),
    ("humanoid", "healthy_1_delay_3_128", 100_000),
    ("humanoid", "forward_2_delay_3_128", 100_000, 100_000),
    ("humanoid", "forward_4_delay_3_128", 300_000),
    ("humanoid", "forward_4_delay_3", 300_000, 100_000),
    ("humanoid", "normalised_policy", 40_000),
    ("humanoid", "joints_only", 30_000),
    ("humanoid_standup", "crossq", 60_000),
    ("humanoid_standup", "plain_delay_3_128", 300_000),
    ("mountain_car", "crossq", 30_000),
    ("bipedal_walker", "crossq", 100_000),
    ("bipedal_walker", "units_128", 100_000),
    ("bipedal_walker", "clipped_128", 100_000, 100_000, 100_000),
    ("bipedal_walker", "clipped_falling", 100_000),
    ("cheetah_run", "crossq", 100_000),
    ("cheetah_run", "delay_3_128", 300_000, 100_000, 100_000, 100_000, 100_000),
    ("cheetah_run", "plain_delay_3_128", 300_000),
    ("walker_walk", "crossq", 100_000),
    ("cartpole_swingup", "crossq", 100_000),
    ("cartpole_swingup", "units_128", 100_000, 100_000),
    ("reacher_easy", "crossq", 100_000),
    ("reacher_hard", "crossq", 100_000),
    ("reacher_hard", "units_128", 100_000),
    ("reacher_hard", "delay_3", 100_000),
    ("reacher_hard", "delay_3_128", 100_000),
    ("pendulum_swingup", "crossq", 40_000),
    ("pendulum_swingup", "fixed_alpha", 50_000),
    ("pendulum_swingup", "sac", 100_000),
    ("pendulum_swingup", "sac_25_hz", 50_000),
    ("pendulum_swingup", "sac_12_hz", 50_000, 50_000, 50_000, 25_000, 25_000),
    ("pendulum_swingup", "crossq_12_hz", 30_000),
    ("pendulum_swingup", "sac_fast", 100_000),
    ("pendulum_swingup", "sac_entropy", 100_000),
    ("pendulum_swingup", "sac_far", 60_000),
    ("pendulum_swingup", "sac_short", 50_000),
    ("pendulum_swingup", "sac_12_hz_four", 25_000, 25_000, 25_000, 25_000, 25_000),
    ("pendulum_swingup", "crossq_12_hz_four", 25_000),
]
# From which step on the evaluations of a setting's runs, or of one seed, are of the mean of the policies; those before,
# and those of other runs of `crossq`, were made when the last policy was still the deployed one.
MEAN_FROM = {
    ("pendulum", "units_128"): 0,
    ("hopper", "units_128"): 0,
    ("hopper", "plain_128"): 0,
    ("walker2d", "units_128"): 0,
    ("walker2d", "plain_128"): 80_000,
    ("half_cheetah", "plain"): 280_000,
    ("ant", "plain_no_contact"): 280_000,
    ("reacher", "scaled"): 40_000,
    ("reacher", "near_128"): 0,
    ("reacher", "mean_sac"): 0,
    ("reacher", "mean_sac_near"): 0,
    ("reacher", "mean_sac_fine"): 0,
    ("swimmer", "crossq"): 80_000,
    ("swimmer", "units_128"): 0,
    ("swimmer", "plain_128"): 0,
    ("reacher_hard", "units_128"): 0,
    ("humanoid", "crossq"): 60_000,
    ("humanoid", "plain_no_contact"): 0,
    ("half_cheetah", "units_128"): 0,
    ("bipedal_walker", "units_128"): 0,
    ("bipedal_walker", "clipped_128"): 0,
    ("bipedal_walker", "clipped_falling"): 0,
    ("cheetah_run", "crossq"): 80_000,
    ("walker_walk", "crossq"): 80_000,
    ("cartpole_swingup", "crossq"): 80_000,
    ("cartpole_swingup", "units_128"): 0,
    ("reacher_easy", "crossq"): 80_000,
    ("reacher_hard", "crossq"): 80_000,
    ("pendulum_swingup", "crossq_12_hz_four"): 0,
}
MEAN_FROM |= {("half_cheetah", "crossq", seed): 0 for seed in range(1, 5)}  # seeds that were added after that
NEWER = ("delay", "unit_norm")  # settings that were tried after that
MEAN_FROM |= {(task, setting): 0 for task, setting, *_ in RUNS if any(x in setting for x in NEWER)}


def train(name, task, setting, seed, steps, done):
    """Trains one run, or goes on with it after so many steps, and keeps what came of it at each of HUNDRED."""
    stages = [x for x in HUNDRED.get(task, HUNDRED_OF_OTHERS) if done < x < steps]
    for stage in (*stages, steps):
        train_until(stage, name, task, setting, seed)
        keep(name, stage)


def train_until(steps, name, task, setting, seed):
    """Calls the command that begins the run or goes on with it."""
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


def keep(name, steps):
    """Writes the run's evaluations into the table, the last of them with a hundred episodes, as are earlier ends."""
    logdir = RUNS_IN_PROGRESS / name
    task, setting, _ = name.split("-")
    if setting in AS_IT_COMES:
        observed = [str(WITHOUT_FORCES)] if task == "humanoid" else []
        text = run(logdir, "as_it_comes", str(logdir), TASKS[task], *observed)
    else:
        text = run(logdir, "tfsac.evaluate", f"--logdir={logdir}", "--json", "--episodes=100", *trusted(task))
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
        out = log if command[0] == "tfsac.train" else subprocess.PIPE
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
    for task, setting, *lengths in RUNS:
        for seed, steps in enumerate(lengths):
            name = f"{task}-{setting}-seed{seed}"
            done = finished.get(name, 0)
            if done < steps and any(fnmatch.fnmatch(name, pattern) for pattern in patterns or "*"):
                jobs.append((name, task, setting, seed, steps, done))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for result in [pool.submit(train, *job) for job in jobs]:
            result.result()


if __name__ == "__main__":
    RESULTS.mkdir(exist_ok=True)
    main(sys.argv[1:])
