"""tfsac behind `peer.learn`, as the task's gin file has it:

    python benchmarks/peers/tfsac_learner.py learn --env_id=Hopper-v5 ...

Runs in tfsac's own environment; the other options are those of peer.py.
"""

from pathlib import Path

import peer

GIN = Path(__file__).parents[2] / "gin"


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


def as_the_gin_file(options):
    """The settings of the task's file in gin/."""
    (gin_file,) = (path for path in GIN.glob("*.gin") if f"env.id = {options.env_id!r}" in path.read_text())
    return [gin_file], []


def main(find_settings=as_the_gin_file):
    """Trains with the gin files and bindings that find_settings(options) returns."""
    options = peer.read_options(learns=True)
    peer.limit(options.threads)

    from tfsac import train
    from tfsac.data.envs import EnvSettings
    from tfsac.run import settings
    from tfsac.run.loop import make_loop

    train.set_threads()
    gin_files, bindings = find_settings(options)
    values = settings.read(gin_files, [*bindings, f"train.seed = {options.seed}"])
    peer.learn(Agent(make_loop(values)), options, EnvSettings(**values["env"]).make())


if __name__ == "__main__":
    main()
