"""What Ray costs and gives: python benchmarks/ray_speed.py slow|narrow|fast|learn|sweep|kills|bytes

slow   four collectors against none on Pendulum slowed to 20 ms a step, by turns
narrow the same with networks of 128x128, where the learner is not what limits
fast   one collector against none on plain Pendulum, by turns
learn  20,000 steps of slowed Pendulum with four collectors and networks of 128x128, evaluated on 100 episodes
sweep  ten seeds of Pendulum, 10,000 steps each, through tfsac.sweep against two hand-started processes at a time
kills  a random one of two collectors killed every 20 s for five minutes
bytes  what a transition and a copy of the policy weigh on the network

Nothing else may run beside it. Prints; run directories go to runs/ray/.
"""

import csv
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tfsac.data.envs import make_env
from tfsac.data.replay import Transition
from tfsac.data.rollout import rollout, summary
from tfsac.run import checkpoint

GIN_FILE = "gin/sac/pendulum.gin"
RUNS = Path("runs/ray")
SLOW = "slow_pendulum:SlowPendulum-v0"
NARROW = (128, 128)
ROUNDS = 2


def start(name, env_id="Pendulum-v1", threads=None, hidden_units=(256, 256), **options):
    """Starts a run of gin/sac/pendulum.gin with `train.*` options."""
    shutil.rmtree(RUNS / name, ignore_errors=True)
    options = {"env_id": env_id, "eval_every": 10**9, "eval_episodes": 1, "checkpoint_every": 10**9} | options
    params = [f"--gin_param=train.{key} = {value!r}" for key, value in options.items()]
    params += [f"--gin_param=SAC.{network}_hidden_units = {hidden_units}" for network in ("policy", "critic")]
    command = [sys.executable, "-m", "tfsac.train", f"--gin_file={GIN_FILE}", f"--logdir={RUNS / name}", *params]
    env = os.environ | {"PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    if threads:
        env |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": str(threads)}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)


def rate(name, **options):
    """Steps per second between the first and the last row of metrics: start-up and evaluation do not count."""
    assert start(name, **options).wait() == 0
    with open(RUNS / name / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    steps, seconds = (np.array([float(row[key]) for row in rows]) for key in ("step", "seconds"))
    ages = [float(row["policy_age"]) for row in rows if "policy_age" in row]
    age = f", policy {np.mean(ages):.0f} steps old in the mean, {max(ages):.0f} at most" if ages else ""
    found = (steps[-1] - steps[0]) / (seconds[-1] - seconds[0])
    print(f"{name}: {found:.1f} steps/s{age}", flush=True)
    return found


def ratio(name, collectors, **options):
    """Median of steps/s with collectors over without, the two by turns."""
    found = {0: [], collectors: []}
    for _ in range(ROUNDS):
        for number, rates in found.items():
            rates.append(rate(f"{name}-{number}", collectors=number, **options))
    print(f"{name}: {collectors} collectors against none: {np.median(found[collectors]) / np.median(found[0]):.2f} x")


def evaluated(name):
    """100 episodes of plain Pendulum with the last checkpoint."""
    found = checkpoint.restore(RUNS / name / "checkpoints")
    returns, _ = rollout(found.policy.deterministic, make_env("Pendulum-v1"), 100)
    return f"step {found.step}: {summary(returns)}"


def learn():
    began = time.monotonic()
    assert start("learn", SLOW, hidden_units=NARROW, collectors=4, total_steps=20_000).wait() == 0
    print(f"{evaluated('learn')} after {time.monotonic() - began:.0f} s")


def kills():
    run, rng, killed = start("kills", SLOW, collectors=2, total_steps=30_000), random.Random(0), 0
    until = time.monotonic() + 300
    while run.poll() is None:
        time.sleep(20)
        found = [pid for pid in _pids() if b"ray::_RemoteCollector" in _command_line(pid)]
        if found and time.monotonic() < until:
            os.kill(rng.choice(found), signal.SIGKILL)
            killed += 1
    print(f"{killed} killed, status {run.returncode}, {evaluated('kills')}")


def _pids():
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it has ended meanwhile


def sweep():
    """Both as the study trains, half as long: gin/sac/pendulum.gin with 100 episodes an evaluation."""
    options, times = {"total_steps": 10_000, "eval_every": 1_000, "eval_episodes": 100}, {}
    shutil.rmtree(RUNS / "sweep", ignore_errors=True)
    flags = [f"--gin_file={GIN_FILE}", *(f"--gin_param=train.{key} = {value}" for key, value in options.items())]
    began = time.monotonic()
    command = [sys.executable, "-m", "tfsac.sweep", *flags, "--seeds=0-9", f"--out={RUNS / 'sweep'}"]
    subprocess.run(command, check=True)
    times["sweep"] = time.monotonic() - began
    began = time.monotonic()
    options |= {"checkpoint_every": 10_000, "threads": 1}
    with ThreadPoolExecutor(2) as pool:
        ended = pool.map(lambda seed: start(f"by-hand-{seed}", seed=seed, **options).wait(), range(10))
        assert set(ended) == {0}
    times["by hand"] = time.monotonic() - began
    print(f"{times}: {times['sweep'] / times['by hand']:.3f}")


def weigh():
    """Pickled as Ray sends them."""
    found = checkpoint.restore(RUNS / "fast-1" / "checkpoints")
    policy = len(pickle.dumps(found.policy, protocol=5))
    block = Transition.split(next(iter(checkpoint.replay_segments(found)))[:8], 3, 1)  # of Pendulum's sizes
    print(f"policy {policy:,} bytes, a block of 8 steps {len(pickle.dumps((block, []), protocol=5)):,} bytes")


if __name__ == "__main__":
    tasks = {
        "slow": lambda: ratio("slow", 4, env_id=SLOW, total_steps=3_000),
        "narrow": lambda: ratio("narrow", 4, env_id=SLOW, hidden_units=NARROW, total_steps=3_000),
        "fast": lambda: ratio("fast", 1, total_steps=5_000),
        "learn": learn, "sweep": sweep, "kills": kills, "bytes": weigh,
    }  # fmt: skip
    if len(sys.argv) < 2 or not set(sys.argv[1:]) <= set(tasks):
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        tasks[name]()
