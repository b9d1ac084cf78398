"""500,000 steps of a small network on Pendulum: what grows? python benchmarks/long_run.py

Every 50,000 steps: steps/s since the last row, resident memory, open files, traces of the compiled update. The replay
is full after 50,000 steps, so that nothing has a reason to grow. Writes long_run.csv; the run goes to runs/long_run.
"""

import csv
import os
import sys
import time
from pathlib import Path

from tfsac import train
from tfsac.algorithms import sac
from tfsac.run import settings

STEPS, EVERY = 500_000, 50_000
TABLE = Path(__file__).with_suffix(".csv")
PARAMS = [
    "train.algorithm = 'long_run:Watched'",
    f"train.total_steps = {STEPS}", f"train.replay_capacity = {EVERY}", "train.batch_size = 16",
    "train.steps_per_call = 100",
    f"train.eval_every = {EVERY}", "train.eval_episodes = 2",
    "SAC.policy_hidden_units = (16, 16)", "SAC.critic_hidden_units = (16, 16)",
]  # fmt: skip


class Watched(sac.SAC):
    """`SAC` that looks at its own process now and then, and writes down what it sees."""

    seconds = None  # when it last looked

    def update_policies(self, rows):
        before = int(self.gradient_steps.numpy())
        updated = super().update_policies(rows)
        steps = int(self.gradient_steps.numpy())
        if steps // EVERY > before // EVERY:
            now, pages = time.perf_counter(), int(Path("/proc/self/statm").read_text().split()[1])
            row = {
                "gradient_steps": steps,
                "seconds": now,
                "steps_per_second": EVERY / (now - self.seconds) if self.seconds else "",
                "resident_mb": pages * os.sysconf("SC_PAGESIZE") / 1e6,
                "open_files": len(os.listdir("/proc/self/fd")),
                "traces": len(self._compiled),
            }
            with open(TABLE, "a" if self.seconds else "w", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if not self.seconds:
                    writer.writeheader()
                writer.writerow(row)
            self.seconds = now
            print(row, flush=True)
        return updated


def main():
    train.set_threads()
    return train.run("runs/long_run", settings.read([], PARAMS), overwrite=True)


if __name__ == "__main__":
    sys.exit(main())
