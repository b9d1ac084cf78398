"""What a checkpoint costs with a full replay: python benchmarks/checkpoint_cost.py [CAPACITY]

A million transitions, or CAPACITY, of Reacher's sizes: the first checkpoint writes them all, each later one those that
are new (10,000 here); then the run is restored. Prints seconds, megabytes on disk and the growth of peak memory.
"""

import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tfsac.data.replay import Replay
from tfsac.run import checkpoint

NEW, SIZES = 10_000, (10, 2)
FACTS = {"settings": {"train": {}, "env": {"id": "Reacher-v5"}}}


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def timed(what, function):
    before, begin = peak_mb(), time.perf_counter()
    result = function()
    print(f"{what}: {time.perf_counter() - begin:.2f} s, peak memory +{peak_mb() - before:.0f} MB", flush=True)
    return result


def main(folder, capacity):
    rng = np.random.default_rng(0)
    replay = Replay(capacity, *SIZES, seed=0)
    width = 2 * SIZES[0] + SIZES[1] + 2

    def insert(count):
        replay.insert_rows(rng.standard_normal([count, width], np.float32))

    def save(step):
        checkpoint.save(folder, step, FACTS | {"replay": replay.get_state()}, {"weights": np.zeros(900_000)}, replay)

    for _ in range(capacity // NEW):
        insert(NEW)
    print(f"replay in memory: {replay.nbytes / 1e6:.0f} MB")
    timed(f"first checkpoint, {capacity:,} transitions", lambda: save(capacity))
    insert(NEW)
    timed("next checkpoint, 10,000 new transitions", lambda: save(capacity + NEW))
    print(f"on disk: {sum(x.stat().st_size for x in Path(folder).rglob('*') if x.is_file()) / 1e6:.0f} MB")
    fresh = Replay(capacity, *SIZES, seed=0)

    def restore():
        restored = checkpoint.restore(folder)
        fresh.set_state(restored.facts["replay"], checkpoint.replay_segments(restored))

    timed("restore, with every SHA-256 checked", restore)
    assert np.array_equal(fresh.rows(NEW, capacity + NEW), replay.rows(NEW, capacity + NEW))


if __name__ == "__main__":
    folder = tempfile.mkdtemp()
    try:
        main(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    finally:
        shutil.rmtree(folder)
