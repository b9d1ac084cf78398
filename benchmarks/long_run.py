"""500,000 steps of a small network on Pendulum: what grows? python benchmarks/long_run.py

Every 50,000 steps: steps/s since the last row, resident memory, open files, traces of the compiled update. The replay
is full after 50,000 steps, so that nothing has a reason to grow. Writes long_run.csv; the run goes to runs/long_run.
"""

import csv
import os
import sys
import time
from pathlib import Path

import tfsac.sac
from tfsac import train

STEPS, EVERY = 500_000, 50_000
PARAMS = [
    f"train.total_steps = {STEPS}", f"train.replay_capacity = {EVERY}", "train.batch_size = 16",
    "train.steps_per_call = 100",
    f"train.eval_every = {EVERY}", "train.eval_episodes = 2",
    "SAC.policy_hidden_units = (16, 16)", "SAC.critic_hidden_units = (16, 16)",
]  # fmt: skip
rows = []


class SAC(tfsac.sac.SAC):
    """Looks at its own process now and then."""

    def update(self, batches):
        before = int(self.gradient_steps.numpy())
        metrics = super().update(batches)
        steps = int(self.gradient_steps.numpy())
        if steps // EVERY > before // EVERY:
            now, pages = time.perf_counter(), int(Path("/proc/self/statm").read_text().split()[1])
            rate = EVERY / (now - rows[-1]["seconds"]) if rows else ""
            row = {"gradient_steps": steps, "seconds": now, "steps_per_second": rate}
            row |= {
                "resident_mb": pages * os.sysconf("SC_PAGESIZE") / 1e6,
                "open_files": len(os.listdir("/proc/self/fd")),
            }
            traces = sum(compiled.experimental_get_tracing_count() for compiled in self._compiled.values())
            rows.append(row | {"traces": traces})
            print(row | rows[-1], flush=True)
        return metrics


def main():
    train.AGENTS["sac"] = SAC
    train.set_threads()
    settings = train.read_settings([], PARAMS)
    status = train.run("runs/long_run", True, None, settings)
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return status


if __name__ == "__main__":
    sys.exit(main())
