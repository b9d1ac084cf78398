"""Small policy, large critic: return, bytes and latency by the policy's width: python benchmarks/policy_width.py

Takes the runs of `learning.py` in runs/learning (critics 256x256 throughout) and its table of returns. Times the files
by turns in one process, through the device runner's own call. Writes policy_width.csv and policy_width.png.
"""

import csv
import tempfile
import time
from pathlib import Path

import numpy as np
from learning import WIDTHS, read_returns
from matplotlib import pyplot as plt

from tfsac.deploy import device_kit, pipeline
from tfsac.deploy.formats import tflite
from tfsac.run import checkpoint

HERE = Path(__file__).parent
TASKS = {"pendulum": 10_000, "reacher": 30_000}  # steps
KINDS = ("float32", "dynamic")
WINDOWS, SECONDS = 15, 0.2


def name_of(task, width):
    return f"{task}-sac-policy_{width}"


def files(task, width, folder):
    """Writes both kinds of the file -> their paths by kind, and their bytes without metadata."""
    restored = checkpoint.restore(f"runs/learning/{name_of(task, width)}-seed0/checkpoints")
    env = restored.env.make(unit_actions=False)
    size = env.observation_space.shape[0]
    states = np.concatenate(list(checkpoint.replay_segments(restored)))[::10, :size]
    made = pipeline.prepare(restored.policy, states, env, restored.env, {"steps": restored.step})
    paths, sizes = {}, {}
    for kind in KINDS:
        paths[kind] = Path(folder) / f"{task}_{width}_{kind}.tflite"
        tflite.TFLite(kind).write(paths[kind], made)
        sizes[kind] = len(tflite.with_facts(paths[kind].read_bytes(), None))
    return paths, sizes


def microseconds(policy, observation):
    calls, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        for _ in range(20):
            policy(observation)
        calls += 20
    return (time.perf_counter() - begin) / calls * 1e6


def rows():
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for task, step in TASKS.items():
            policies, sizes = {}, {}
            for width in WIDTHS:
                paths, size = files(task, width, folder)
                for kind in KINDS:
                    policies[width, kind] = device_kit.run_policy.Policy(paths[kind])
                    sizes[width, kind] = size[kind]
            observation = np.zeros(len(policies[256, "float32"].facts["observation"]["low"]), np.float32)
            times = {key: [] for key in policies}
            for _ in range(WINDOWS):
                for key, policy in policies.items():
                    times[key].append(microseconds(policy, observation))
            for width in WIDTHS:
                returns = read_returns(f"{name_of(task, width)}-seed0")[step]
                row = {"task": task, "step": step, "width": width, "return": round(float(np.mean(returns)), 3)}
                row["standard_error"] = round(float(np.std(returns, ddof=1) / len(returns) ** 0.5), 3)
                for kind in KINDS:
                    row[f"{kind}_bytes"] = sizes[width, kind]
                    row[f"{kind}_us"] = round(float(np.median(times[width, kind])), 2)
                found.append(row)
    return found


def draw(found):
    figure, axes = plt.subplots(1, len(TASKS), figsize=(9, 3.5), layout="constrained")
    for axis, task in zip(axes, TASKS, strict=True):
        mine = [row for row in found if row["task"] == task]
        widths, returns, errors = ([row[key] for row in mine] for key in ("width", "return", "standard_error"))
        axis.errorbar(widths, returns, errors, fmt="o-", color="C0", capsize=3)
        axis.set(
            title=f"{task}, {mine[0]['step']:,} steps",
            xlabel="policy's width (critics 256)",
            ylabel="return, standard error",
        )
        axis.set_xscale("log", base=2)
        beside = axis.twinx()
        for kind, color in zip(KINDS, ("C1", "C2"), strict=True):
            beside.plot(widths, [row[f"{kind}_us"] for row in mine], "--", color=color, label=f"{kind}: us")
        beside.set(ylabel="us an action", ylim=(0, None))
        beside.legend(loc="lower right")
    figure.savefig(HERE / "policy_width.png", dpi=120)


def main():
    found = rows()
    with open(HERE / "policy_width.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    draw(found)
    print("| " + " | ".join(found[0]) + " |\n" + "|---" * len(found[0]) + "|")
    for row in found:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
