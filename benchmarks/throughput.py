"""Where the time of training goes: python benchmarks/throughput.py [GIN_FILE] [--steps_per_call=N]

Runs the parts of the training loop by turns, in windows: acting, environment, replay, update, and a loop of matrix
products on as many cores as training uses, whose speed is the floor that the update is held to. Prints medians.
Threads as in training: TF_NUM_INTEROP_THREADS=1 for one core. Use it on a quiet machine.

    python benchmarks/throughput.py [GIN_FILE] [--steps_per_call=N] --against=CHECKOUT

compares whole steps of training instead, of this tree and of another revision's: `git worktree add CHECKOUT REVISION`.
Each side has a process of its own (one_side.py, in the Python that runs this), and they take turns: one trains a window
of steps while the other waits. Prints the steps/s of both, medians of the windows, and their ratio.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tfsac import train
from tfsac.data.collector import BehaviourPolicy
from tfsac.quiet_tensorflow import tf
from tfsac.run import settings as run_settings
from tfsac.run.loop import TrainSettings, make_loop

HERE = Path(__file__).parent
WINDOWS, BLOCKS = 15, 10  # a window is BLOCKS blocks of steps_per_call environment steps
WINDOW_STEPS = 240  # of a window of one side


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


def parts(gin_file, params):
    """Prints what each part of the loop takes."""
    threads = train.set_threads()
    settings = run_settings.read([gin_file], params)
    loop, options = make_loop(settings), TrainSettings(**settings["train"])
    agent, replay, collector = loop.agent, loop.replay, loop.collector
    policy, acting = BehaviourPolicy(loop.policy, agent.action_dim, 0, np.random.default_rng(0)), [0.0]

    def act(observation, step):
        begin = time.perf_counter()
        action = policy(observation, step)
        acting[0] += time.perf_counter() - begin
        return action

    replay.insert(collector.collect(2_000, act)[0])
    block, updates = options.steps_per_call, options.steps_per_call * options.updates_per_step
    agent.update_policies(replay.sample(updates, options.batch_size))
    rate, rows = gemm_rate(max(threads)), []
    for _ in range(WINDOWS):
        seconds = dict.fromkeys(["acting", "environment", "replay", "update"], 0.0)
        for _ in range(BLOCKS):
            acting[0], marks = 0.0, [time.perf_counter()]
            transitions, _ = collector.collect(block, act)
            marks.append(time.perf_counter())
            replay.insert(transitions)
            batches = replay.sample(updates, options.batch_size)
            marks.append(time.perf_counter())
            policy.policy = agent.update_policies(batches)[1]
            marks.append(time.perf_counter())
            collect, gather, update = np.diff(marks)
            seconds["acting"] += acting[0]
            seconds["environment"] += collect - acting[0]
            seconds["replay"] += gather
            seconds["update"] += update
        rows.append([1e3 * seconds[part] / (BLOCKS * block) for part in seconds] + [rate()])
    *milliseconds, gemm = np.median(rows, axis=0)
    total, per_update = sum(milliseconds), milliseconds[3] / options.updates_per_step
    print(f"threads {threads}: {1e3 / total:.0f} steps/s, {1e3 / per_update:.0f} updates/s")
    for name, ms in zip(seconds, milliseconds, strict=True):
        print(f"  {name:12} {ms:6.3f} ms a step, {100 * ms / total:4.1f} %")
    if options.algorithm == "sac":
        floor = update_flop(agent, options.batch_size) / gemm * 1e3
        shown = f"{gemm / 1e9:.0f} GFLOP/s on {max(threads)} core{'s' * (max(threads) > 1)}"
        print(f"  floor {floor:.2f} ms ({shown}): the update reaches {floor / per_update:.2f}")


def compare(gin_file, params, checkout):
    """Prints steps/s of this tree and of the one in another checkout, measured by turns."""
    sides = {"this tree": HERE.parent, str(checkout): checkout}
    processes = {name: start(tree, gin_file, params) for name, tree in sides.items()}
    rates = {name: [] for name in sides}
    for process in processes.values():
        seconds(process)  # up, compiled and warm
    for _ in range(WINDOWS):
        for name, process in processes.items():
            print(WINDOW_STEPS, file=process.stdin, flush=True)
            rates[name].append(WINDOW_STEPS / seconds(process))
    for process in processes.values():
        process.stdin.close()
        process.wait(60)
    ours, others = (np.array(x) for x in rates.values())
    low, high = np.quantile(ours / others, [0.25, 0.75])
    print(f"{processor()}, {gin_file} {' '.join(params)}: {WINDOWS} windows of {WINDOW_STEPS} steps each")
    for name, found in rates.items():
        print(f"  {name}: {np.median(found):.1f} steps/s")
    print(f"  ratio {np.median(ours) / np.median(others):.3f}; half of the windows have {low:.3f} to {high:.3f}")


def start(tree, gin_file, params):
    """A process that trains in windows with the tfsac of that tree."""
    command = [sys.executable, HERE / "one_side.py", Path(tree).absolute(), gin_file, *params]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def seconds(process):
    """What a side answers: how long it took."""
    line = process.stdout.readline()
    if not line:
        sys.exit(f"{' '.join(map(str, process.args))} ended")
    return float(line)


def processor():
    """The name of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gin_file", nargs="?", default="gin/sac/reacher.gin")
    parser.add_argument("--steps_per_call", type=int, help="in place of what the gin file says")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="a checkout of another revision")
    args = parser.parse_args()
    params = [f"train.steps_per_call = {args.steps_per_call}"] if args.steps_per_call else []
    if args.against:
        compare(args.gin_file, params, args.against)
    else:
        parts(args.gin_file, params)


if __name__ == "__main__":
    main()
