"""The replay D: a ring of the last transitions, with its own random generator and its own state."""

from typing import Any, NamedTuple

import numpy as np

from tfsac.errors import UserError


class Transition(NamedTuple):
    """(s, a, r, s', d), all float32 with any leading axes: [..., O], [..., A], [...], [..., O], [...].

    # Deviation: holds terminated; the report's tuple is (s, a, r, s'); because the Bellman target needs it.
    """

    observation: Any
    action: Any
    reward: Any
    next_observation: Any
    terminated: Any  # 1.0 in a terminal state, 0.0 else; a time limit (truncated) is no terminal state


class Replay:
    """Keeps the last `capacity` transitions and samples them uniformly, with replacement.

    A transition is one row of a float32 matrix, so that a batch is gathered in one pass and a checkpoint writes
    the rows that are new since the last one. Transition number i (counted from 0 over the whole run) lies in
    row i % capacity.

    Args:
        capacity: the number of transitions kept.
        observation_dim, action_dim: sizes O and A.
        seed: of the sampling.
    """

    def __init__(self, capacity, observation_dim, action_dim, seed):
        self.capacity = capacity
        self.inserted = 0  # over the whole run; the ring holds the last min(inserted, capacity)
        self._columns = np.cumsum([observation_dim, action_dim, 1, observation_dim])
        try:
            self._rows = np.zeros([capacity, 2 * observation_dim + action_dim + 2], np.float32)
        except (MemoryError, ValueError) as error:  # ValueError: more than any machine can address
            raise UserError(f"a replay of {capacity:,} transitions does not fit into memory: {error}") from error
        self._rng = np.random.default_rng(seed)

    def __len__(self):
        return min(self.inserted, self.capacity)

    @property
    def nbytes(self):
        """Memory of the full ring in bytes; pages of it are taken as they are first written."""
        return self._rows.nbytes

    def insert(self, transitions):
        """Appends Transition arrays with one leading axis [n, ...]; the oldest fall out."""
        parts = [x if x.ndim == 2 else x[:, None] for x in transitions]
        self.insert_rows(np.concatenate(parts, axis=1))

    def sample(self, num_batches, batch_size):
        """Uniform batches: a Transition whose arrays have the leading axes [num_batches, batch_size]."""
        index = self._rng.integers(len(self), size=[num_batches, batch_size])
        observation, action, reward, next_observation, terminated = np.split(self._rows[index], self._columns, axis=-1)
        return Transition(observation, action, reward[..., 0], next_observation, terminated[..., 0])

    def observations(self):
        """The observations s held now, [len, O], in no particular order."""
        return self._rows[: len(self), : self._columns[0]]

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
        self._rng.bit_generator.state = state["rng"]
