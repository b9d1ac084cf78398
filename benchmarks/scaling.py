"""How the cost of training grows: python benchmarks/scaling.py

Iterates tfsac's training loop on Reacher-v5 with one setting at a time away from its default, SECONDS for each, and
runs a chain of matrix products after each, whose speed says how fast the machine was at that moment. Then the memory of
replays that have been filled. Writes scaling.csv (setting, value, steps_per_second, gflops, replay_mb) and scaling.png.
For a quiet machine: ten minutes.
"""

import csv
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from throughput import gemm_rate

from tfsac import train
from tfsac.data.replay import Replay
from tfsac.run import settings
from tfsac.run.loop import make_loop

HERE, SECONDS, START = Path(__file__).parent, 5, 1_000
SIZES = 10, 2  # of Reacher-v5
SERIES = {
    "width": (64, 128, 256, 512, 1024),
    "batch_size": (64, 256, 1024, 4096),
    "num_envs": (1, 4, 16, 64),
    "replay_capacity": (10_000, 100_000, 1_000_000, 10_000_000),
    "updates_per_step": (1, 2, 5, 10, 20),
}
NAMES = {
    "width": "width of both hidden layers",
    "batch_size": "batch size",
    "num_envs": "environments",
    "replay_capacity": "replay capacity",
    "updates_per_step": "gradient steps per environment step",
}


def fill(replay):
    """Fills it with noise: batches come from all over its memory, as they do late in training."""
    rows = np.random.default_rng(0).standard_normal([1_000, 2 * SIZES[0] + SIZES[1] + 2], np.float32)
    for _ in range(replay.capacity // 1_000):
        replay.insert_rows(rows)


def steps_per_second(setting, value):
    """Median over blocks of training."""
    params = ["train.algorithm = 'sac'", "env.id = 'Reacher-v5'", f"train.start_steps = {START}"]
    if setting == "width":
        params += [f"SAC.{network}_hidden_units = ({value}, {value})" for network in ("policy", "critic")]
    else:
        params.append(f"train.{setting} = {value}")
    loop, marks = make_loop(settings.read([], params)), []
    fill(loop.replay)
    for block in loop.blocks(10**9):
        if block.step > START:  # the first block with gradient steps is the one that is traced
            marks.append((time.perf_counter(), block.step))
            if marks[-1][0] - marks[0][0] > SECONDS and len(marks) > 5:
                break
    seconds, steps = np.diff(np.array(marks), axis=0).T
    return np.median(steps / seconds)


def replay_megabytes(capacity):
    """What a full replay adds to the memory of the process."""
    before, replay = resident(), Replay(capacity, *SIZES, seed=0)
    fill(replay)
    assert len(replay) == capacity  # and so it is held until here
    return resident() - before


def resident():
    """Memory of this process in MB."""
    kilobytes = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line]
    return int(kilobytes[0]) / 1e3


def draw(rows):
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for axis, (setting, values) in zip(axes.flat, SERIES.items(), strict=False):
        found = [row["steps_per_second"] for row in rows if row["setting"] == setting]
        axis.loglog(values, found, marker="o")
        axis.set(xlabel=NAMES[setting], ylabel="steps/s", ylim=(5, 1_000))  # one scale: what matters is seen
    capacities = SERIES["replay_capacity"]
    axes.flat[-1].loglog(capacities, [row["replay_mb"] for row in rows if row["replay_mb"]], marker="o")
    axes.flat[-1].set(xlabel="replay capacity", ylabel="MB, once full")
    for axis in axes.flat:
        axis.grid(alpha=0.3, which="both")
    figure.suptitle("Reacher-v5 on two cores, one setting at a time away from 256 x 256, batch 256, 1 environment")
    figure.savefig(HERE / "scaling.png", dpi=100)


def main():
    threads = train.set_threads()
    rate, rows = gemm_rate(max(threads)), []
    megabytes = {capacity: replay_megabytes(capacity) for capacity in SERIES["replay_capacity"]}
    for setting, values in SERIES.items():
        for value in values:
            found, gflops = steps_per_second(setting, value), np.median([rate() for _ in range(5)]) / 1e9
            row = {"setting": setting, "value": value, "steps_per_second": round(found, 2), "gflops": round(gflops, 1)}
            rows.append(row | {"replay_mb": round(megabytes[value], 1) if setting == "replay_capacity" else ""})
            print(rows[-1], flush=True)
    with open(HERE / "scaling.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows)


if __name__ == "__main__":
    main()
