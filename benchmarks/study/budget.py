"""The report's own budget: python benchmarks/study/budget.py

The report trained for "50 iterations" with "trajectories of length 50 to 200", and its figures are over "50 learning
steps"; how many gradient steps an iteration made it does not say. Both readings are run, for both algorithms, on ten
seeds: an iteration is a trajectory (200 steps on Pendulum-v1, 50 on Reacher-v5) and then

    steps     one gradient step for each of its environment steps,
    one       a single gradient step, 50 in all.

All else is as gin/ had it before the study chose Reacher's settings. Adds runs called READING-TASK-ALGORITHM to
results/budget.csv.gz: seed, iteration, the return of the trajectory itself (as the report's figures
have it), the mean return of the deterministic policy over 10 episodes, and the losses.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import results
import runs

from tfsac import train
from tfsac.algorithms import registry
from tfsac.data.collector import BehaviourPolicy
from tfsac.data.envs import EnvSettings
from tfsac.data.rollout import rollout
from tfsac.run import settings as run_settings
from tfsac.run.loop import make_loop

ITERATIONS, SEEDS = 50, 10
TRAJECTORY = {"pendulum": 200, "reacher": 50}  # environment steps: a whole episode
GIN = {"sac": "gin/sac/{}.gin", "sac_v1": "gin/v1/{}.gin"}


def run(reading, task, algorithm, seed):
    """Rows of results.BUDGET, one an iteration."""
    scope = registry.find(algorithm).scope
    bindings = [f"{scope}.{setting}" for setting in runs.BEFORE_TUNING[scope]] + [f"train.seed = {seed}"]
    settings = run_settings.read([GIN[algorithm].format(task)], bindings)
    # Not its blocks: they have at least one gradient step for each environment step.
    loop, evaluation_env = make_loop(settings), EnvSettings(**settings["env"]).make()
    act = BehaviourPolicy(loop.agent.behaviour_policy(), loop.agent.action_dim, 0, np.random.default_rng([seed, 2]))
    rows = []
    for iteration in range(1, ITERATIONS + 1):
        transitions, _ = loop.collector.collect(TRAJECTORY[task], act)
        loop.replay.insert(transitions)
        gradient_steps = TRAJECTORY[task] if reading == "steps" else 1
        metrics = loop.agent.update(loop.replay.sample(gradient_steps, settings["train"]["batch_size"]))
        act.policy = loop.agent.behaviour_policy()
        returns, _ = rollout(act.policy.deterministic, evaluation_env, 10)
        losses = [np.mean(metrics[name]) if name in metrics else np.nan for name in results.BUDGET.columns[4:]]
        numbers = [float(np.sum(transitions.reward)), np.mean(returns), *losses]
        rows.append([seed, iteration, *(f"{x:.5g}" for x in numbers)])
    return rows


def main():
    os.environ |= runs.ONE_THREAD
    jobs = [(reading, task, algorithm) for reading in ("one", "steps") for task in TRAJECTORY for algorithm in GIN]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), initializer=train.set_threads) as pool:
        for job in jobs:
            name = "-".join(job)
            if name not in results.BUDGET.runs():
                seeds = [pool.submit(run, *job, seed) for seed in range(SEEDS)]
                results.BUDGET.add(name, [row for seed in seeds for row in seed.result()])
                print(f"{name} is in {results.BUDGET.path}", flush=True)


if __name__ == "__main__":
    main()
