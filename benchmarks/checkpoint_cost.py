"""What a checkpoint costs with a full replay: python benchmarks/checkpoint_cost.py

One million transitions of Reacher's sizes: the first checkpoint writes them all, each later one those that are new
(10,000 here); then the run is restored. Prints seconds, megabytes on disk and the growth of peak memory.
"""

import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from tfsac.data.replay import Replay
from tfsac.run import checkpoint

CAPACITY, NEW, SIZES = 1_000_000, 10_000, (10, 2)
FACTS = {"settings": {"train": {}, "env": {"id": "Reacher-v5"}}}


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def timed(what, function):
    before, begin = peak_mb(), time.perf_counter()
    result = function()
    print(f"{what}: {time.perf_counter() - begin:.2f} s, peak memory +{peak_mb() - before:.0f} MB", flush=True)
    return result


def main(folder):
    rng = np.random.default_rng(0)
    replay = Replay(CAPACITY, *SIZES, seed=0)
    width = 2 * SIZES[0] + SIZES[1] + 2

    def insert(count):
        replay.insert_rows(rng.standard_normal([count, width], np.float32))

    def save(step):
        checkpoint.save(folder, step, FACTS | {"replay": replay.get_state()}, {"weights": np.zeros(900_000)}, replay)

    for _ in range(CAPACITY // NEW):
        insert(NEW)
    print(f"replay in memory: {replay.nbytes / 1e6:.0f} MB")
    timed("first checkpoint, 1,000,000 transitions", lambda: save(CAPACITY))
    insert(NEW)
    timed("next checkpoint, 10,000 new transitions", lambda: save(CAPACITY + NEW))
    print(f"on disk: {sum(x.stat().st_size for x in Path(folder).rglob('*') if x.is_file()) / 1e6:.0f} MB")
    fresh = Replay(CAPACITY, *SIZES, seed=0)

    def restore():
        restored = checkpoint.restore(folder)
        fresh.set_state(restored.facts["replay"], checkpoint.replay_segments(restored))

    timed("restore, with every SHA-256 checked", restore)
    assert np.array_equal(fresh.rows(NEW, CAPACITY + NEW), replay.rows(NEW, CAPACITY + NEW))


if __name__ == "__main__":
    folder = tempfile.mkdtemp()
    try:
        main(Path(folder))
    finally:
        shutil.rmtree(folder)
