"""Runs of Stable-Baselines3 whose progress.csv tests/test_diagnose.py reads, in the environment of sb3_peer.py:

    sb3/bin/python benchmarks/peers/sb3_progress.py --reward_factor=1e-3 --seed=0 --out=FILE.csv

SAC with its defaults on Pendulum-v1, 10,000 steps, every reward times a factor; a row for each episode.
"""

import argparse
import csv
import shutil
import tempfile
from pathlib import Path

import gymnasium
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure


def train(factor, seed, steps, folder):
    """Trains, and leaves progress.csv in the folder."""
    env = gymnasium.make("Pendulum-v1")
    env = gymnasium.wrappers.TransformReward(env, lambda reward: reward * factor)
    model = SAC("MlpPolicy", env, seed=seed, device="cpu")
    model.set_logger(configure(str(folder), ["csv"]))
    model.learn(steps, log_interval=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward_factor", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        train(args.reward_factor, args.seed, args.steps, folder)
        with open(Path(folder) / "progress.csv") as file:
            rows = sum(1 for _ in csv.DictReader(file))
        shutil.copy(Path(folder) / "progress.csv", args.out)
    print(f"{rows} rows are in {args.out}")


if __name__ == "__main__":
    main()
