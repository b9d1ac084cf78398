"""Small runs, and what is left of one: for the tests that compare two."""

import contextlib
import csv
import signal

import numpy as np

from tfsac import checkpoint
from tfsac.run_log import TABLES
from tfsac.train import AGENTS, read_settings, train

SMALL = {
    "env_id": "Pendulum-v1",
    "start_steps": 16,
    "batch_size": 8,
    "replay_capacity": 1000,
    "eval_episodes": 1,
    "eval_every": 1000,
    "checkpoint_every": 1000,
}


def bindings(algorithm="sac", **options):
    """Single bindings of a run with small networks; options are `train.*`."""
    name = AGENTS[algorithm].__name__
    values = {f"train.{key}": value for key, value in {"algorithm": algorithm, **SMALL, **options}.items()}
    values |= {f"{name}.policy_hidden_units": (8, 8), f"{name}.critic_hidden_units": (8, 8)}
    return [f"{key} = {value!r}" for key, value in values.items()]


def flags(params):
    """The same for the command line."""
    return [f"--gin_param={param}" for param in params]


def run_here(logdir, params=(), resume=False, overwrite=False):
    """Trains in this process, as main does; -> the step where it ended."""
    restored = checkpoint.restore(logdir / "checkpoints") if resume else None
    settings = read_settings([], params, logdir if resume else None)
    with signals_kept():
        return train(logdir, overwrite, restored, settings, **settings["train"])[0]


@contextlib.contextmanager
def signals_kept():
    """The trainer takes SIGINT and SIGTERM, and pytest wants its own back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def rows(path):
    """A table as a list of dicts; an empty one where there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def tables(logdir):
    """All rows that the run has written down, without what depends on the clock."""

    def timeless(row):
        return {name: value for name, value in row.items() if "second" not in name}

    return {name: [timeless(row) for row in rows(logdir / f"{name}.csv")] for name in TABLES}


def state(logdir):
    """All that the last checkpoint holds, but settings and log."""
    found = checkpoint.restore(logdir / "checkpoints")
    facts = {key: value for key, value in found.facts.items() if key not in ("settings", "log", "replay_files")}
    return found.arrays, facts, np.concatenate(list(checkpoint.replay_segments(found)))


def assert_same_state(one, other):
    """Bit for bit: weights, targets, optimisers, counters, random states, episodes under way, replay."""
    (arrays, facts, replay), (other_arrays, other_facts, other_replay) = state(one), state(other)
    assert arrays.keys() == other_arrays.keys()
    unlike = [name for name, array in arrays.items() if array.tobytes() != other_arrays[name].tobytes()]
    assert not unlike
    assert facts == other_facts
    assert replay.tobytes() == other_replay.tobytes()
