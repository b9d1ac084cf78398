"""What the deployed mean returns beside the last policies: python benchmarks/any_task/averaged.py RUN_DIRECTORY

Goes on with the run for 6,000 steps, without writing into it. Every 500 steps it prints what the last policy and the
mean return in 20 episodes: the mean and the worst of them.
"""

import sys

import numpy as np

import tfsac
from tfsac.data.rollout import rollout

STEPS, EVERY, EPISODES = 6_000, 500, 20


def main(run_directory):
    learner = tfsac.load(run_directory, trust=["shimmy"])
    loop, world = learner._loop, learner._make()
    for block in loop.blocks(loop.step + STEPS):
        if block.is_due(EVERY):
            for name, policy in (("last", loop.agent.behaviour_policy()), ("mean", loop.policy)):
                returns, _ = rollout(policy.deterministic, world, EPISODES)
                print(f"step {block.step}, {name}: {np.mean(returns):.5g}, worst {min(returns):.5g}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
