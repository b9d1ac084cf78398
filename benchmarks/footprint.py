"""What it takes to run a policy: python benchmarks/footprint.py PATH

PATH is a .tflite file (loaded by the device kit) or a SavedModel directory (loaded by TensorFlow). Prints the disk
space of this interpreter's environment, the seconds to import and to the first action, and peak memory. Run it once in
an environment made from export/requirements.txt and once in tfsac's own.
"""

import resource
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np


def main(path):
    begin = time.perf_counter()
    if Path(path).is_dir():
        import tensorflow as tf

        imported = time.perf_counter()
        act = tf.saved_model.load(path).signatures["deterministic"]
        size = act.structured_input_signature[1]["observation"].shape[1]
        act(observation=tf.zeros([1, size]))
    else:
        sys.path.insert(0, str(Path(__file__).parent.parent / "export"))
        from run_policy import Policy

        imported = time.perf_counter()
        policy = Policy(path)
        policy(np.zeros(len(policy.facts["observation"]["low"])))
    done = time.perf_counter()
    packages = Path(sysconfig.get_paths()["purelib"])
    disk = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file() and not file.is_symlink())
    print(
        f"disk {disk / 1e6:.0f} MB, import {imported - begin:.2f} s, load and first action {done - imported:.3f} s, "
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB"
    )


if __name__ == "__main__":
    main(sys.argv[1])
