"""tfsac behind the peers' protocol: python benchmarks/peers/tfsac_peer.py serve --threads=2 --block=8

Runs in tfsac's own environment. What is timed is `tfsac.train` itself: `train N` lets its loop go on for N steps.
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

    import paced
    import tensorflow as tf
    from inference import load

    from tfsac import train

    train.set_threads()
    env = train.make_env(args.env_id)
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    params = [f"train.env_id = {args.env_id!r}", f"train.steps_per_call = {args.block}"]
    params += [f"train.{name} = 1_000_000_000" for name in ("total_steps", "eval_every", "checkpoint_every")]
    state = {"until": 1_200, "began": None}  # steps before anything is timed, the first 1,000 of them at random

    def answer(**values):
        print(json.dumps(values), file=answers)

    def between(agent, step):
        if "first" not in state and agent.gradient_steps.numpy() > 0:
            state["first"] = time.time() - BEGAN
        if step < state["until"]:
            return
        if state["began"] is None:
            answer(ready=True, versions={"tensorflow": tf.__version__}, first_update_seconds=state["first"])
        else:
            answer(seconds=time.perf_counter() - state["began"])
        for line in sys.stdin:
            command, *numbers = line.split()
            if command == "train":
                state["until"] = step + int(numbers[0])
                break
            if command == "quit":
                raise paced.Stop
            if command == "update":
                answer(seconds=update(agent, int(numbers[0])))
            if command == "predict":
                batch, calls, *path = numbers
                act = load(path[0] if path else agent.policy_weights(), *sizes, int(batch))
                act()
                begin = time.perf_counter()
                for _ in range(int(calls)):
                    act()
                answer(seconds=time.perf_counter() - begin)
        else:
            raise paced.Stop
        state["began"] = time.perf_counter()

    def update(agent, count):
        replay = train.Replay(10_000, *sizes, seed=0)
        replay.insert_rows(tf.random.stateless_normal([10_000, 2 * sizes[0] + sizes[1] + 2], [0, 0]).numpy())
        begin = time.perf_counter()
        for _ in range(count // args.block):
            agent.update(replay.sample(args.block, 256))
        return time.perf_counter() - begin

    paced.run([], params, between)


if __name__ == "__main__":
    main()
