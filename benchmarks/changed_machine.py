"""How soon a policy is at home in a changed machine: python benchmarks/changed_machine.py OUT.csv.gz WORKDIR

Pendulum with 2.5 times the mass, seeds 0 to 2. The policy of 20,000 steps on the machine as it was goes on for 4,000 on
the new one (`train.init_from`), beside a specialist that had 20,000 there, and one that had 4,000. Writes a row for
each policy and start: policy, seed of training, start, return on the new machine; those of random actions, too. Runs
that exist in WORKDIR are gone on with.
"""

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np

from tfsac.data.envs import EnvSettings
from tfsac.deploy.stress import policies
from tfsac.deploy.stress.measure import Bench

CHANGED = EnvSettings("Pendulum-v1", randomize={"m": 2.5})
SEEDS, STARTS = range(3), range(100)
STEPS = 20_000


def train(logdir, seed, steps, changed, init_from=None):
    """Trains a run, or goes on with it; -> its directory."""
    params = [f"train.seed = {seed}", f"train.total_steps = {steps}", "train.eval_every = None"]
    params += [f"env.randomize = {CHANGED.randomize}"] * changed
    params += [f"train.init_from = '{init_from}'"] * bool(init_from)
    begin = ["--gin_file=gin/sac/pendulum.gin", *(f"--gin_param={param}" for param in params)]
    go_on = ["--resume", f"--gin_param=train.total_steps = {steps}"]
    settings = go_on if (logdir / "checkpoints").exists() else begin
    subprocess.run([sys.executable, "-m", "tfsac.train", "--no-video", f"--logdir={logdir}", *settings], check=True)
    return logdir


def main(out, folder):
    rows = []
    bench = Bench(CHANGED, STARTS)

    def measure(policy, seed, act):
        returns = bench.run(act, CHANGED).returns
        rows.extend([policy, seed, start, f"{x:.6f}"] for start, x in zip(STARTS, returns, strict=True))
        return np.mean(returns)

    aimless = measure("random", "", bench.aimless())
    for seed in SEEDS:
        before = train(folder / f"before-seed{seed}", seed, STEPS, changed=False)
        logdirs = {
            "specialist": train(folder / f"specialist-seed{seed}", seed, STEPS, changed=True),
            "from before": before,
            "4,000 steps": train(folder / f"short-seed{seed}", seed, STEPS // 5, changed=True),
            "from before, 4,000 steps": train(folder / f"moved-seed{seed}", seed, STEPS // 5, True, init_from=before),
        }
        means = {name: measure(name, seed, policies.load(logdir).act) for name, logdir in logdirs.items()}
        for name, mean in means.items():
            kept = (mean - aimless) / (means["specialist"] - aimless)
            print(f"seed {seed}, {name}: {mean:.1f}, {kept:.1%} of the specialist's gain on random actions", flush=True)
    with gzip.open(out, "wt", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["policy", "training_seed", "start", "return"])
        writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
