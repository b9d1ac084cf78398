"""What the peers share: the environment, the command line, evaluation, and the protocol of `serve`.

A peer is a script beside this one, in a virtual environment of its own without tfsac, that hands `main` a function
`build(env, options)`. What that returns has

    steps                     environment steps so far
    train(n)                  n environment steps with their gradient steps
    update(n)                 n gradient steps alone, of batches from the replay
    predict(observations)     deterministic actions [B, A] of observations [B, O], numpy in and out, the library's way

and has finished what it began when it returns. `options` is the command line, and

    settings                  {'SAC.tau': ...} of tfsac for --hyperparameters=ours, None for the library's defaults
    block                     environment steps, then as many gradient steps; None for the library's default
    start_steps               random environment steps before the first update; None for the library's default

`serve` prints one line of JSON once everything is compiled, and another for each line of stdin, in seconds:

    train N                   n environment steps with their gradient steps
    update N                  n gradient steps; `block` of them a call, as in training
    predict B N               n predictions for a batch of B, after one that does not count (it may compile)
    quit

N of `train` and `update` is a multiple of the block. first_update_seconds counts from the start of the script, imports
included, to the end of the first block with gradient steps.

`learn` trains from scratch and writes a row for each evaluation episode: step, seconds, episode, return.
seconds is the wall clock since the first step, compilation included, imports and evaluations not. A step is that of the
first whole block at or after the one asked for.
"""

import time

START = time.time()  # before the imports, which count

import argparse  # noqa: E402
import ast  # noqa: E402
import csv  # noqa: E402
import importlib.metadata  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

GIN = Path(__file__).parents[2] / "gin" / "sac"
WARM_UP, COMPILE = 1_000, 100  # steps of `serve` before it is ready: random ones, then ones with gradient steps

# The defaults of tfsac.run.loop.TrainSettings and tfsac.algorithms.sac.SAC, which a peer cannot import.
TFSAC = {
    "train.start_steps": 1_000,
    "train.batch_size": 256,
    "train.replay_capacity": 1_000_000,
    "train.updates_per_step": 1,
    "train.steps_per_call": 8,
    "SAC.observation_scale": None,
    "SAC.discount": 0.99,
    "SAC.tau": 0.005,
    "SAC.policy_hidden_units": (256, 256),
    "SAC.critic_hidden_units": (256, 256),
    "SAC.policy_learning_rate": 3e-4,
    "SAC.q_learning_rate": 3e-4,
    "SAC.alpha_learning_rate": 3e-4,
    "SAC.target_entropy": None,
    "SAC.initial_alpha": 1.0,
    "SAC.smoothness": 0.0,
    "SAC.mean_is_deployed": False,
}


def tfsac_settings(env_id):
    """TFSAC with what the gin file of that environment says."""
    for path in sorted(GIN.glob("*.gin")):
        lines = [line.partition("=") for line in path.read_text().splitlines() if "=" in line.partition("#")[0]]
        bindings = {name.strip(): ast.literal_eval(value.strip()) for name, _, value in lines}
        if bindings.get("train.env_id") == env_id:
            return TFSAC | bindings
    raise SystemExit(f"no file of {GIN} has train.env_id = '{env_id}'")


def read_options(learns):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    serve, learn = commands.add_parser("serve"), commands.add_parser("learn") if learns else None
    for command in filter(None, (serve, learn)):
        command.add_argument("--env_id", required=True)
        command.add_argument("--env_kwargs", type=ast.literal_eval, default={})
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--hyperparameters", choices=("ours", "defaults"), default="ours")
    serve.add_argument("--block", type=int, default=1)
    if learns:
        learn.add_argument("--total_steps", type=int, required=True)
        learn.add_argument("--eval_every", type=int, default=1_000)
        learn.add_argument("--eval_episodes", type=int, default=10)
        learn.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.settings = tfsac_settings(options.env_id) if options.hyperparameters == "ours" else None
    if options.command == "serve":
        options.start_steps = -(-WARM_UP // options.block) * options.block
    else:
        options.block = options.settings and options.settings["train.steps_per_call"]
        options.start_steps = options.settings and options.settings["train.start_steps"]
    return options


def limit(threads):
    """Cores and threads, for what reads them when it is imported. Each peer adds its library's own settings."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < threads:
        raise SystemExit(f"--threads={threads}, but only {len(cores)} cores")
    os.sched_setaffinity(0, cores[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the CPU is what is measured


def main(build, packages, learns=True):
    """Runs the command line; `packages` are those whose versions are worth a note."""
    options = read_options(learns)
    limit(options.threads)
    # Whatever a library prints, from C too, goes to stderr; stdout is the protocol's.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    agent = build(make_env(options), options)
    if options.command == "serve":
        serve(agent, options, packages, answers)
    else:
        learn(agent, options, make_env(options))


def make_env(options):
    """The environment; `learn` with tfsac's hyperparameters scales its observations as tfsac's networks do."""
    import gymnasium  # here, since numpy reads the number of threads as it is imported
    import numpy as np

    env = gymnasium.make(options.env_id, **options.env_kwargs)
    scale = options.command == "learn" and options.settings and options.settings["SAC.observation_scale"]
    if not scale:
        return env
    space = env.observation_space
    scale = np.array(scale, space.dtype)
    scaled = gymnasium.spaces.Box(space.low * scale, space.high * scale, dtype=space.dtype)
    return gymnasium.wrappers.TransformObservation(env, lambda x: x * scale, scaled)


def serve(agent, options, packages, answers):
    import numpy as np

    agent.train(options.start_steps)
    agent.train(options.block)
    first_update_seconds = time.time() - START
    agent.train(-(-COMPILE // options.block) * options.block)
    agent.update(options.block)
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "gymnasium", "mujoco", *packages)}
    versions["python"] = platform.python_version()
    ready = {"ready": True, "versions": versions, "first_update_seconds": first_update_seconds}
    print(json.dumps(ready), file=answers)

    for line in sys.stdin:
        command, *numbers = line.split()
        numbers = [int(x) for x in numbers]
        if command == "quit":
            break
        if command == "predict":
            batch, repeat = numbers
            function = agent.predict
            argument = np.random.default_rng(0).standard_normal([batch, *agent.env.observation_space.shape])
            argument = argument.astype(agent.env.observation_space.dtype)  # what the environment would hand over
            function(argument)
        else:
            function, argument, repeat = {"train": agent.train, "update": agent.update}[command], numbers[0], 1
            if argument % options.block:
                raise SystemExit(f"{line.strip()}: not a multiple of --block={options.block}")
        begin = time.perf_counter()
        for _ in range(repeat):
            function(argument)
        print(json.dumps({"seconds": time.perf_counter() - begin}), file=answers)


def learn(agent, options, env):
    rows, begin, evaluating = [("step", "seconds", "episode", "return")], time.time(), 0.0
    for step in range(options.eval_every, options.total_steps + 1, options.eval_every):
        if step > agent.steps:
            agent.train(step - agent.steps)
        train_seconds = time.time() - begin - evaluating
        returns = evaluate(agent, env, options.eval_episodes)
        rows += [(agent.steps, f"{train_seconds:.1f}", i, f"{x:.6g}") for i, x in enumerate(returns)]
        print(f"step {agent.steps}, {train_seconds:.1f} s: {sum(returns) / len(returns):.2f}", file=sys.stderr)
        evaluating = time.time() - begin - train_seconds
    partial = options.out.with_name(options.out.name + ".partial")  # a file that exists is whole
    with open(partial, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    partial.replace(options.out)


def evaluate(agent, env, episodes):
    """Returns of the deterministic policy; episode i begins with seed i."""
    returns = []
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(agent.predict(observation[None])[0])
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    return returns
