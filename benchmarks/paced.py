"""tfsac's own training loop, held between two blocks of steps so that others can measure it."""

import tfsac.quiet_tensorflow  # noqa: F401, isort: skip

import contextlib
import tempfile
from unittest import mock

from tfsac import train
from tfsac.collector import Collector


class Stop(Exception):
    """Raised by the caller's `between` to end the training."""


def run(gin_files, params, between):
    """Trains as `python -m tfsac.train` does, into a directory that is removed, until `between` raises `Stop`.

    Args:
        gin_files, gin_params: as the command's.
        between: called with the agent and the number of the step before every block of steps.
    """
    settings = train.read_settings(gin_files, params)
    name, agents = settings["train"]["algorithm"], []

    class Paced(Collector):
        def collect(self, steps, act):
            between(agents[0], self.steps)
            return super().collect(steps, act)

    def make_agent(*args, **kwargs):
        agents.append(algorithm(*args, **kwargs))
        return agents[0]

    algorithm = train.AGENTS[name]
    make_agent.__name__ = algorithm.__name__
    patches = mock.patch.object(train, "Collector", Paced), mock.patch.dict(train.AGENTS, {name: make_agent})
    with patches[0], patches[1], tempfile.TemporaryDirectory() as logdir, contextlib.suppress(Stop):
        train.train(logdir, True, None, settings, **settings["train"])
