"""tfsac behind `peer.learn`: python benchmarks/peers/tfsac_learner.py learn --env_id=Hopper-v5 --algorithm=crossq ...

Runs in tfsac's own environment, with the algorithm's default settings; the options are those of peer.py.
"""

import sys

import peer


class Agent:
    """The loop that `tfsac.train` iterates, without its files."""

    def __init__(self, loop):
        self.loop, self.blocks = loop, loop.blocks(10**9)

    @property
    def steps(self):
        return self.loop.step

    def train(self, steps):
        until = self.loop.step + steps
        while self.loop.step < until:
            next(self.blocks)

    def predict(self, observations):
        return [self.loop.policy.deterministic(x) for x in observations]


def main():
    algorithm = next(x for x in sys.argv if x.startswith("--algorithm="))
    sys.argv.remove(algorithm)
    options = peer.read_options(learns=True)
    peer.limit(options.threads)

    from tfsac import train
    from tfsac.data.envs import make_env
    from tfsac.run import settings
    from tfsac.run.loop import make_loop

    train.set_threads()
    params = [f"train.algorithm = {algorithm.partition('=')[2]!r}", f"env.id = {options.env_id!r}"]
    loop = make_loop(settings.read([], [*params, f"train.seed = {options.seed}"]))
    peer.learn(Agent(loop), options, make_env(options.env_id))


if __name__ == "__main__":
    main()
