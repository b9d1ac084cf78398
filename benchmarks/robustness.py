"""Evaluates policies trained for imperfect worlds: python benchmarks/robustness.py OUT.csv.gz RUN=NAME ...

Writes a table, a row for each start: name, seed of training, world, delay in steps, noise in parts of the observations'
deviation, return, total variation of the commands. Each run is measured on the same 100 starts in each world of WORLDS.
"""

import csv
import gzip
import sys

import numpy as np

from tfsac.data.envs import EnvSettings
from tfsac.deploy.stress import policies
from tfsac.deploy.stress.measure import Bench, action_metrics
from tfsac.run import checkpoint

STARTS = 100
DELAYS = (0, 1, 2, 3)
# 5 % of what each observation of Pendulum varies by under the released policy, over 50 starts.
NOISE = {"Pendulum-v1": (0.0218, 0.0132, 0.0710)}


def worlds(env):
    """EnvSettings by (delay, noise), with a row as wide as the policy's."""
    plain = EnvSettings(env.id, history=env.remembered_actions, observation_history=env.observation_history)
    made = {(delay, 0.0): plain._replace(action_delay=delay) for delay in DELAYS}
    if env.id in NOISE:
        made[0, 0.05] = plain._replace(observation_noise=NOISE[env.id])
    return made


def main():
    out, *runs = sys.argv[1:]
    with gzip.open(out, "wt", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "training_seed", "delay", "noise", "start", "return", "total_variation"])
        for run in runs:
            path, name = run.split("=")
            subject = policies.load(path)
            seed = ""
            if not path.endswith(".tflite"):
                seed = checkpoint.restore(f"{path}/checkpoints").settings["train"]["seed"]
            bench = Bench(subject.env, range(STARTS))
            for (delay, noise), env in worlds(subject.env).items():
                episodes = bench.run(subject.act, env)
                for start, total in enumerate(episodes.returns):
                    variation = action_metrics(episodes.actions[:, start : start + 1])["total_variation"]
                    writer.writerow([name, seed, delay, noise, start, f"{total:.6f}", f"{variation:.6f}"])
                mean, variation = np.mean(episodes.returns), action_metrics(episodes.actions)["total_variation"]
                print(f"{name} {seed}: delay {delay}, noise {noise}: {mean:.2f}, variation {variation:.3f}", flush=True)
            bench.close()


if __name__ == "__main__":
    main()
