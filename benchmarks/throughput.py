"""Where the time of training goes: python benchmarks/throughput.py [GIN_FILE]

Runs the parts of the training loop by turns, in windows: acting, environment, replay, update, and a loop of matrix
products on as many cores as training uses, whose speed is the floor that the update is held to. Prints medians.
Threads as in training: TF_NUM_INTEROP_THREADS=1 for one core. Use it on a quiet machine.
"""

import tfsac.quiet_tensorflow  # noqa: F401, isort: skip

import sys
import time

import numpy as np
import tensorflow as tf

from tfsac import train
from tfsac.collector import Collector
from tfsac.envs import make_env
from tfsac.numpy_policy import NumpyPolicy
from tfsac.replay import Replay

WINDOWS, BLOCKS = 15, 10  # a window is BLOCKS blocks of steps_per_call environment steps


def update_flop(agent, batch_size):
    """Floating-point operations of one gradient step of `SAC`: products of matrices, two for a multiply-add.

    A forward pass costs 2 B times the weights, a backward pass as much for each of the gradients it makes: with respect
    to the weights, and to the inputs of every layer that has something to train or to differentiate before it.
    """
    policy = [v.shape for v in agent.policy.variables if len(v.shape) == 2]
    critic = [v.shape for v in agent.q1.variables if len(v.shape) == 2]
    actions = agent.action_dim
    policy, hidden = sum(a * b for a, b in policy), sum(a * b for a, b in policy[1:])
    q, q_hidden, q_action = sum(a * b for a, b in critic), sum(a * b for a, b in critic[1:]), actions * critic[0][1]
    products = 2 * policy + 2 * q  # targets and the policy's own forward passes: pi(s'), pi(s), two target Q
    products += 2 * (2 * q + q_hidden)  # two Q: forward, gradient of the weights, gradient through the layers
    products += 2 * (q + q_hidden + q_action)  # two Q for the policy: forward, gradient to the action
    products += policy + hidden  # the policy's gradients
    return 2 * batch_size * products


def gemm_rate(threads, size=256, repeats=200):
    """Floating-point operations a second of products as the update has them, one chain a core; a function to call."""
    a = tf.random.stateless_normal([size, size], [0, 0]) / size**0.5

    @tf.function
    def products(chains):
        for _ in tf.range(repeats):
            chains = [tf.matmul(x, a) for x in chains]
        return chains

    products([a] * threads)

    def rate():
        begin = time.perf_counter()
        products([a] * threads)[0].numpy()
        return threads * 2 * size**3 * repeats / (time.perf_counter() - begin)

    return rate


def main(gin_file):
    threads = train.set_threads()
    settings = train.read_settings([gin_file], [])
    options = settings["train"]
    env = make_env(options["env_id"])
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    agent = train.AGENTS[options["algorithm"]](*sizes, 0, **list(settings.values())[1])
    replay, rng = Replay(100_000, *sizes, seed=0), np.random.default_rng(0)
    policy = NumpyPolicy(agent.policy_weights())
    acting = [0.0]

    def act(observation, step):
        begin = time.perf_counter()
        action = policy.sample(observation, rng.standard_normal(sizes[1], np.float32))
        acting[0] += time.perf_counter() - begin
        return action

    collector = Collector([env], 0)
    replay.insert(collector.collect(2_000, act)[0])
    block, updates = options["steps_per_call"], options["steps_per_call"] * options["updates_per_step"]
    agent.update(replay.sample(updates, options["batch_size"]))
    rate, rows = gemm_rate(max(threads)), []
    for _ in range(WINDOWS):
        seconds = dict.fromkeys(["acting", "environment", "replay", "update"], 0.0)
        for _ in range(BLOCKS):
            acting[0], marks = 0.0, [time.perf_counter()]
            transitions, _ = collector.collect(block, act)
            marks.append(time.perf_counter())
            replay.insert(transitions)
            batches = replay.sample(updates, options["batch_size"])
            marks.append(time.perf_counter())
            agent.update(batches)
            marks.append(time.perf_counter())
            policy = NumpyPolicy(agent.policy_weights())
            marks.append(time.perf_counter())
            collect, gather, update, copy = np.diff(marks)
            seconds["acting"] += acting[0] + copy
            seconds["environment"] += collect - acting[0]
            seconds["replay"] += gather
            seconds["update"] += update
        rows.append([1e3 * seconds[part] / (BLOCKS * block) for part in seconds] + [rate()])
    *parts, gemm = np.median(rows, axis=0)
    total, per_update = sum(parts), parts[3] / options["updates_per_step"]
    print(f"threads {threads}: {1e3 / total:.0f} steps/s, {1e3 / per_update:.0f} updates/s")
    for name, ms in zip(("acting", "environment", "replay", "update"), parts, strict=True):
        print(f"  {name:12} {ms:6.3f} ms a step, {100 * ms / total:4.1f} %")
    if options["algorithm"] == "sac":
        floor = update_flop(agent, options["batch_size"]) / gemm * 1e3
        shown = f"{gemm / 1e9:.0f} GFLOP/s on {max(threads)} core{'s' * (max(threads) > 1)}"
        print(f"  floor {floor:.2f} ms ({shown}): the update reaches {floor / per_update:.2f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gin/reacher.gin")
