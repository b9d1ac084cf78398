"""What the mean of the last policies returns, beside each of them: python benchmarks/any_task/averaged.py RUN_DIRECTORY

Goes on with the run for 3,000 steps, without writing into it. After each block of eight environment steps the mean's
weights move towards the policy's: w <- w + (policy - w) / BLOCKS. Every 500 steps it prints what the policy and the
mean return in 20 episodes: the mean and the worst of them.
"""

import sys

import numpy as np

import tfsac
from tfsac.data.rollout import rollout
from tfsac.policy import Layer, Policy

BLOCKS, STEPS, EVERY, EPISODES = 50, 3_000, 500, 20


def towards(mean, policy):
    """The mean, a Policy, a step nearer to the policy."""

    def layer(x, y):
        return Layer(*(a + (b - a) / BLOCKS for a, b in zip(x, y, strict=True)))

    hidden = tuple(layer(*pair) for pair in zip(mean.hidden, policy.hidden, strict=True))
    return Policy(hidden, layer(mean.mu, policy.mu), layer(mean.log_std, policy.log_std))


def main(run_directory):
    learner = tfsac.load(run_directory, trust=["shimmy"])
    loop, world = learner._loop, learner._make()
    mean, begin = loop.policy, loop.step
    for block in loop.blocks(begin + STEPS):
        mean = towards(mean, loop.policy)
        if (block.step - begin) % EVERY < block.step - block.before:
            for name, policy in (("policy", loop.policy), ("mean", mean)):
                returns, _ = rollout(policy.deterministic, world, EPISODES)
                print(f"step {block.step}, {name:6s}: {np.mean(returns):.5g}, worst {min(returns):.5g}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
