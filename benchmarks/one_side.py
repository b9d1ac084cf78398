"""One side of `throughput.py --against`: python benchmarks/one_side.py CHECKOUT GIN_FILE [GIN_PARAM...]

Trains with the tfsac of CHECKOUT: environment, acting, replay and update, without a run directory, log or evaluation.
Prints the seconds to the end of the first WARM_UP steps, then, for each number of steps read from standard input, the
seconds these take. Revisions before tfsac.run.loop had their loop inside `tfsac.train.train`, between files and
signals: `old_blocks` is that loop without these.
"""

import sys
import time
from pathlib import Path

WARM_UP, TOTAL = 1_200, 10**9  # the first 1,000 steps are random


def new_blocks(gin_file, params):
    from tfsac.run import settings
    from tfsac.run.loop import make_loop

    for block in make_loop(settings.read([gin_file], params)).blocks(TOTAL):
        yield block.step


def old_blocks(gin_file, params):
    import numpy as np
    from tfsac.collector import BehaviourPolicy, Collector
    from tfsac.envs import make_env
    from tfsac.numpy_policy import NumpyPolicy
    from tfsac.replay import Replay

    from tfsac import train

    settings = train.read_settings([gin_file], params)
    options, algorithm = settings["train"], train.AGENTS[settings["train"]["algorithm"]]
    env, seed, block = make_env(options["env_id"]), options["seed"], options["steps_per_call"]
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    agent = algorithm(*sizes, seed, **settings[algorithm.__name__])
    replay, collector = Replay(options["replay_capacity"], *sizes, seed=[seed, 1]), Collector([env], seed)
    act = BehaviourPolicy(None, sizes[1], options["start_steps"], np.random.default_rng([seed, 2]))
    act.policy = NumpyPolicy(agent.policy_weights())
    for step in range(block, TOTAL, block):
        replay.insert(collector.collect(block, act)[0])
        if step >= options["start_steps"]:
            batches = replay.sample(block * options["updates_per_step"], options["batch_size"])
            train._check_finite(agent.update(batches), batches)
            act.policy = NumpyPolicy(agent.policy_weights())
        yield step


def main(checkout, gin_file, *params):
    sys.path.insert(0, checkout)  # before the tree that the environment was installed from
    from tfsac import train

    package = Path(train.__file__).parent
    if package != Path(checkout, "tfsac"):
        sys.exit(f"expected the tfsac of {checkout}, imported {package}")
    train.set_threads()
    blocks = (new_blocks if (package / "run").is_dir() else old_blocks)(gin_file, params)
    step, steps, until = 0, WARM_UP, 0
    while steps:
        began, until = time.perf_counter(), until + steps
        while step < until:
            step = next(blocks)
        print(time.perf_counter() - began, flush=True)
        steps = int(sys.stdin.readline() or 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
