"""The replay D: a ring of the last transitions, with its own random generator and its own state."""

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfsac.errors import UserError, require


class Transition(NamedTuple):
    """(s, a, r, s', d), all float32 with any leading axes: [..., O], [..., A], [...], [..., O], [...].

    # Deviation: holds terminated; the report's tuple is (s, a, r, s'); because the Bellman target needs it.
    """

    observation: Any
    action: Any
    reward: Any
    next_observation: Any
    terminated: Any  # 1.0 in a terminal state, 0.0 else; a time limit (truncated) is no terminal state

    @classmethod
    def split(cls, rows, observation_dim, action_dim, split=None):
        """Rows of the replay, [..., 2 O + A + 2], as a Transition.

        Args:
            rows: numpy array, or what `split` takes.
            observation_dim, action_dim: sizes O and A.
            split: (rows, sizes of the parts, axis) -> parts, such as tf.split; default numpy's.
        """
        sizes = [observation_dim, action_dim, 1, observation_dim, 1]
        parts = split(rows, sizes, -1) if split else np.split(rows, np.cumsum(sizes)[:-1], axis=-1)
        observation, action, reward, next_observation, terminated = parts
        return cls(observation, action, reward[..., 0], next_observation, terminated[..., 0])


class Replay:
    """Keeps the last `capacity` transitions and samples them uniformly, with replacement.

    A transition is one row of a float32 matrix, so that a batch is gathered in one pass and a checkpoint writes
    the rows that are new since the last one. Transition number i (counted from 0 over the whole run) lies in
    row i % capacity.

    Args:
        capacity: the number of transitions kept.
        observation_dim, action_dim: sizes O and A.
        seed: of the sampling.
        expected: the most transitions that will be inserted; None stands for capacity.

    Raises:
        UserError: the replay does not fit into this machine's memory.
    """

    def __init__(self, capacity, observation_dim, action_dim, seed, expected=None):
        self.capacity = capacity
        self.inserted = 0  # over the whole run; the ring holds the last min(inserted, capacity)
        try:
            self._rows = np.zeros([capacity, 2 * observation_dim + action_dim + 2], np.float32)
        except (MemoryError, ValueError) as error:  # ValueError: more than any machine can address
            raise UserError(f"a replay of {capacity:,} transitions does not fit into memory: {error}") from error
        needed, available = self._rows[:1].nbytes * min(capacity, expected or capacity), _available_memory()
        require(
            needed <= available,
            f"the replay will need {needed / 1e9:.1f} GB, this machine has {available / 1e9:.1f} GB left: lower "
            "train.replay_capacity",
        )
        self._rng = np.random.default_rng(seed)

    def __len__(self):
        return min(self.inserted, self.capacity)

    @property
    def nbytes(self):
        """Bytes of memory of the full ring; the machine provides each page when it is first written."""
        return self._rows.nbytes

    def insert(self, transitions):
        """Appends Transition arrays with one leading axis [n, ...]; the oldest fall out."""
        parts = [x if x.ndim == 2 else x[:, None] for x in transitions]
        self.insert_rows(np.concatenate(parts, axis=1))

    def sample(self, num_batches, batch_size):
        """Uniform batches as rows, [num_batches, batch_size, 2 O + A + 2] float32; see `Transition.split`."""
        return self._rows[self._rng.integers(len(self), size=[num_batches, batch_size])]

    def insert_rows(self, rows):
        """Appends transitions as rows [n, 2 O + A + 2] of a matrix, as `rows` returns them."""
        slots = np.arange(self.inserted, self.inserted + len(rows)) % self.capacity
        self._rows[slots[-self.capacity :]] = rows[-self.capacity :]
        self.inserted += len(rows)

    def rows(self, start, stop):
        """Transitions number start to stop - 1 of the run, which must still be held, as rows of a matrix."""
        return self._rows[np.arange(start, stop) % self.capacity]

    def get_state(self):
        """All but the rows, as what JSON can hold."""
        return {"inserted": self.inserted, "capacity": self.capacity, "rng": self._rng.bit_generator.state}

    def set_state(self, state, segments):
        """Takes back what `get_state` gave.

        Args:
            state: from `get_state`.
            segments: the rows still held then, in order, as an iterable of matrices [n, 2 O + A + 2].
        """
        self.inserted = state["inserted"] - min(state["inserted"], self.capacity)
        for rows in segments:
            self.insert_rows(rows)
        require(self.inserted == state["inserted"], "the replay's files hold another number of rows than were inserted")
        self._rng.bit_generator.state = state["rng"]


def _available_memory():
    """Bytes that a process may still take, of the machine or, if it has a limit, of the container."""
    available = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text()
        available = [1024 * int(text.split("MemAvailable:")[1].split()[0])]  # counts what caches would give back
    with contextlib.suppress(OSError, ValueError):  # a limit of "max" is no number
        limit, used = (int(Path("/sys/fs/cgroup", f"memory.{x}").read_text()) for x in ("max", "current"))
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
            used -= int(dict(line.split() for line in lines)["inactive_file"])  # a cache of files, given back at need
        available.append(limit - used)
    return min(available)
