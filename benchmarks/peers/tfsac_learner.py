"""tfsac's crossq behind `peer.learn`: python benchmarks/peers/tfsac_learner.py learn --env_id=Hopper-v5 ...

Runs in tfsac's own environment, with default settings; the other options are those of peer.py.
"""

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
    options = peer.read_options(learns=True)
    peer.limit(options.threads)

    from tfsac import train
    from tfsac.data.envs import make_env
    from tfsac.run import settings
    from tfsac.run.loop import make_loop

    train.set_threads()
    params = ["train.algorithm = 'crossq'", f"env.id = {options.env_id!r}", f"train.seed = {options.seed}"]
    loop = make_loop(settings.read([], params))
    peer.learn(Agent(loop), options, make_env(options.env_id))


if __name__ == "__main__":
    main()
