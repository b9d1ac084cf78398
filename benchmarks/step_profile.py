"""What one gradient step spends its time on: python benchmarks/step_profile.py [GIN_FILE]

TensorFlow's own profiler watches calls of eight gradient steps. For each operation of the graph the median over all
steps is taken, and the medians are added up by kind. With more than one thread operations run side by side: use
TF_NUM_INTEROP_THREADS=1 and a quiet machine.
"""

import collections
import glob
import re
import sys
import tempfile

import numpy as np
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tfsac import train
from tfsac.quiet_tensorflow import tf
from tfsac.run import settings as run_settings
from tfsac.run.loop import make_loop

CALLS, STEPS = 20, 8
# The first pattern that an operation's name or its type matches says its kind.
KINDS = {
    "products of 256x256x256, forward, with bias and ReLU": r"^(?!.*gradient_tape).*hidden_1.*MatMul$",
    "products of 256x256x256, backward": r"gradient_tape.*hidden_1.*MatMul$",
    "products with a narrow side: first and last layers": r"MatMul$",
    "Adam": r"Adam$",
    "polyak step": r"GradientDescent$",
    "gradients of ReLU and bias": r"(ReluGrad|BiasAddGrad)$",
    "small operations": r"",
}


def operations(path):
    """Seconds of each execution by the operation's name and type, of a trace of the profiler."""
    with open(path, "rb") as file:
        space = xplane_pb2.XSpace.FromString(file.read())
    seconds = collections.defaultdict(list)
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if re.search(r"/while/.*:\w+$", name):  # what is inside the loop over gradient steps
                    seconds[name].append(event.duration_ps / 1e12)
    return {name: x for name, x in seconds.items() if len(x) >= CALLS * STEPS}


def main(gin_file="gin/reacher.gin"):
    threads = train.set_threads()
    loop = make_loop(run_settings.read([gin_file], []))
    width = 2 * loop.agent.observation_dim + loop.agent.action_dim + 2
    rows = np.random.default_rng(0).standard_normal([STEPS, loop.options.batch_size, width], np.float32)
    for _ in range(CALLS):
        loop.agent.update_policies(rows)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(CALLS):
                loop.agent.update_policies(rows)
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        seconds = operations(path)
    total, count = collections.Counter(), collections.Counter()
    for name, durations in seconds.items():
        kind = next(kind for kind, pattern in KINDS.items() if re.search(pattern, name))
        total[kind] += 1e3 * np.median(durations)
        count[kind] += 1
    print(f"threads {threads}: {sum(total.values()):.2f} ms a gradient step in {len(seconds)} operations")
    for kind in KINDS:
        print(f"  {total[kind]:6.3f} ms  {count[kind]:3}  {kind}")


if __name__ == "__main__":
    main(*sys.argv[1:])
