"""Small runs, and what is left of one: for the tests that compare two."""

import csv

import numpy as np

from tfsac.algorithms import registry
from tfsac.data.envs import EnvSettings
from tfsac.run import checkpoint
from tfsac.run import settings as run_settings
from tfsac.run.log import TABLES
from tfsac.train import train

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
    """Single bindings of a run with small networks; options are `train.*`, or `env.*` for env_*.

    With start_steps beyond the total nothing is learned, nor traced, which takes seconds.
    """
    scope = registry.find(algorithm).scope
    options = {"algorithm": algorithm, **SMALL, **options}
    values = {_name(key): value for key, value in options.items()}
    values |= {f"{scope}.policy_hidden_units": (8, 8), f"{scope}.critic_hidden_units": (8, 8)}
    return [f"{key} = {value!r}" for key, value in values.items()]


def _name(key):
    field = key.removeprefix("env_")
    return f"env.{field}" if key != field and field in EnvSettings._fields else f"train.{key}"


def flags(params):
    """The same for the command line."""
    return [f"--gin_param={param}" for param in params]


def run_here(logdir, params=(), resume=False, overwrite=False):
    """Trains in this process, as main does; -> the step where it ended."""
    restored = checkpoint.restore(logdir / "checkpoints") if resume else None
    settings = run_settings.read([], params, logdir if resume else None)
    return train(logdir, settings, restored, overwrite)[0]


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
    """All that the last checkpoint holds, but settings and log: arrays by 'part/name', facts, replay rows."""
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
