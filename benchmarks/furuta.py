"""How many of 100 starts end upright: python benchmarks/furuta.py POLICY=NAME... --out=benchmarks/furuta.csv

POLICY is a run directory or a .tflite file; OUT keeps the rows of other names. Every start hangs near rest; held means
within 12 degrees of upright from 5 s to the end, at 8 s. All imperfections of gin/furuta.gin are on; in each further
world one parameter is set.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from tfsac.data.envs import EnvSettings
from tfsac.deploy.stress import policies
from tfsac.run import settings

GIN = Path(__file__).parents[1] / "gin" / "furuta.gin"
STARTS, STEPS, SETTLED = 100, 400, 250
UPRIGHT = np.deg2rad(12)
WORLDS = {
    "as trained": {},
    "mass x 0.8": {"pendulum_mass": 0.8},
    "mass x 1.2": {"pendulum_mass": 1.2},
    "length x 0.8": {"pendulum_length": 0.8},
    "length x 1.2": {"pendulum_length": 1.2},
}


def measure(act, env):
    """Tilts [rad] and arm angles [rad] of all starts, each [STARTS, STEPS]."""
    envs = [env.make(unit_actions=False) for _ in range(STARTS)]
    rows = np.array([env.reset(seed=seed)[0] for seed, env in enumerate(envs)])
    tilts, arms = [], []
    for _ in range(STEPS):
        rows = np.array([env.step(action)[0] for env, action in zip(envs, act(rows), strict=True)])
        states = np.array([env.unwrapped.state for env in envs])
        tilts.append(np.abs(states[:, 1] % (2 * np.pi) - np.pi))
        arms.append(np.abs(states[:, 0]))
    return np.array(tilts).T, np.array(arms).T


def main():
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policies", nargs="+")
    parser.add_argument("--out")
    args = parser.parse_args()
    env = EnvSettings(**settings.read([GIN], [])["env"])._replace(kwargs={}, max_episode_steps=None)
    rows = []
    for policy in args.policies:
        path, name = policy.split("=")
        act = policies.load(path).act
        for world, factors in WORLDS.items():
            tilts, arms = measure(act, env._replace(randomize=env.randomize | factors))
            held = np.all(tilts[:, SETTLED:] <= UPRIGHT, axis=1)
            up = [np.argmax(tilt <= UPRIGHT) / 50 for tilt in tilts[held]]  # s to the first time
            rows.append(
                {
                    "policy": name,
                    "world": world,
                    "held": int(held.sum()),
                    "median_seconds_up": float(np.median(up)) if len(up) else "",
                    "largest_arm_degrees": round(float(np.rad2deg(arms.max())), 1),
                }
            )
            print(rows[-1], flush=True)
    if args.out:
        measured = {row["policy"] for row in rows}
        if Path(args.out).exists():
            with open(args.out, newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if row["policy"] not in measured] + rows
        with open(args.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
