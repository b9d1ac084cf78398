"""tfsac behind the peers' protocol: python benchmarks/peers/tfsac_peer.py serve --threads=2 --block=8

Runs in tfsac's own environment. What is timed is the loop that `tfsac.train` iterates: `train N` goes on for N steps.
`predict B N PATH` asks an exported artefact instead of the policy in this process.
"""

import time

BEGAN = time.time()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["serve"])
    parser.add_argument("--env_id", default="Reacher-v5")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--block", type=int, default=8)
    args = parser.parse_args()
    os.sched_setaffinity(0, range(args.threads))  # tfsac chooses its threads by the cores it may use
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what training prints is not an answer
    sys.path.insert(0, str(Path(__file__).parent.parent))

    import tensorflow as tf
    from inference import load

    from tfsac import train
    from tfsac.data.replay import Replay
    from tfsac.run import settings
    from tfsac.run.loop import make_loop

    train.set_threads()
    params = ["train.algorithm = 'sac'", f"env.id = {args.env_id!r}", f"train.steps_per_call = {args.block}"]
    loop = make_loop(settings.read([], params))
    agent, blocks = loop.agent, loop.blocks(10**9)
    sizes = agent.observation_dim, agent.action_dim

    def answer(**values):
        print(json.dumps(values), file=answers)

    def advance(steps):
        until = loop.step + steps
        while loop.step < until:
            next(blocks)

    def update(steps):
        for _ in range(steps // args.block):
            agent.update(replay.sample(args.block, 256))

    replay = Replay(10_000, *sizes, seed=0)  # of the updates alone
    replay.insert_rows(tf.random.stateless_normal([10_000, 2 * sizes[0] + sizes[1] + 2], [0, 0]).numpy())
    while next(blocks).metrics is None:
        pass
    first_update_seconds = time.time() - BEGAN
    advance(1_200 - loop.step)  # before anything is timed
    answer(ready=True, versions={"tensorflow": tf.__version__}, first_update_seconds=first_update_seconds)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "quit":
            break
        if command == "predict":
            batch, repeat, *path = arguments
            function = load(path[0] if path else loop.policy, *sizes, int(batch))
            function()
            repeat, arguments = int(repeat), []
        else:
            function, repeat, arguments = {"train": advance, "update": update}[command], 1, [int(arguments[0])]
        began = time.perf_counter()
        for _ in range(repeat):
            function(*arguments)
        answer(seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
