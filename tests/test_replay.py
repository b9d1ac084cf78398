"""The ring buffer: what it holds, what it draws, and that its state is all there is to it."""

import os
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tfsac.data import replay as replay_module
from tfsac.data.replay import Replay, Transition
from tfsac.errors import UserError

SIZES = 2, 1  # of observation and action


def numbered(start, stop):
    """Transitions number start to stop - 1 of a run; each field's value says which transition it belongs to."""
    i = np.arange(start, stop, dtype=np.float32)
    observation = np.stack([i, -i], axis=1)
    return Transition(observation, 10 * i[:, None], i + 0.5, observation + 1, i % 2)


def rows_of(transitions):
    """The same as rows of the matrix in which the replay keeps them."""
    o, a, r, next_o, d = transitions
    return np.concatenate([o, a, r[:, None], next_o, d[:, None]], axis=1)


def held(replay):
    """What the replay holds, oldest first."""
    return replay.rows(replay.inserted - len(replay), replay.inserted)


def draw(replay, num_batches, batch_size):
    """Sampled batches as a Transition."""
    return Transition.split(replay.sample(num_batches, batch_size), *SIZES)


def same_draws(first, second):
    return np.array_equal(first.sample(3, 4), second.sample(3, 4))


@pytest.mark.parametrize("block", [1, 3, 7, 10])
def test_the_last_transitions_are_held_through_two_wraps(block):
    replay = Replay(10, *SIZES, seed=0)
    for start in range(0, 30, block):
        replay.insert(numbered(start, start + block))
        stop = start + block
        assert replay.inserted == stop and len(replay) == min(stop, 10)
        np.testing.assert_array_equal(held(replay), rows_of(numbered(max(0, stop - 10), stop)))


def test_a_sampled_transition_is_one_that_was_inserted():
    replay = Replay(10, *SIZES, seed=0)
    replay.insert(numbered(0, 25))
    observation, action, reward, next_observation, terminated = draw(replay, 4, 50)
    i = observation[..., 0]
    assert set(np.unique(i)) == set(range(15, 25))
    expected = numbered(0, 25)
    for name, array in zip(
        Transition._fields, (observation, action, reward, next_observation, terminated), strict=True
    ):
        np.testing.assert_array_equal(array, getattr(expected, name)[i.astype(int)], err_msg=name)


def test_batches_have_the_shapes_and_type_that_the_agents_take():
    replay = Replay(100, 5, 3, seed=0)
    x = np.ones([7, 5]), np.ones([7, 3]), np.ones(7), np.ones([7, 5]), np.ones(7)
    replay.insert(Transition(*x))  # float64 in
    rows = replay.sample(4, 6)
    assert rows.shape == (4, 6, 5 + 3 + 1 + 5 + 1) and rows.dtype == np.float32
    batches = Transition.split(rows, 5, 3)
    assert [x.shape for x in batches] == [(4, 6, 5), (4, 6, 3), (4, 6), (4, 6, 5), (4, 6)]
    assert {x.dtype for x in batches} == {np.dtype(np.float32)}
    of_tensorflow = Transition.split(tf.constant(rows), 5, 3, tf.split)
    assert all(np.array_equal(x, y) for x, y in zip(batches, of_tensorflow, strict=True))
    assert replay.nbytes == 100 * (5 + 3 + 1 + 5 + 1) * 4


def test_sampling_is_uniform_with_replacement():
    size, draws = 50, 100_000
    replay = Replay(size, *SIZES, seed=0)
    replay.insert(numbered(0, size))
    counts = np.bincount(draw(replay, 10, draws // 10).observation[..., 0].astype(int).ravel(), minlength=size)
    chi_square = np.sum((counts - draws / size) ** 2 / (draws / size))
    # 49 degrees of freedom: mean 49, standard deviation 10. Far below would be too even to be random.
    assert 49 - 4 * 10 < chi_square < 49 + 4 * 10

    replay = Replay(10, *SIZES, seed=0)
    replay.insert(numbered(0, 3))
    assert draw(replay, 1, 256).reward.shape == (1, 256)  # more than there are: only with replacement


def test_each_batch_is_drawn_afresh():
    replay = Replay(1000, *SIZES, seed=0)
    replay.insert(numbered(0, 1000))
    batches = [tuple(batch) for batch in draw(replay, 8, 32).reward] + [tuple(draw(replay, 1, 32).reward[0])]
    assert len(set(batches)) == len(batches)


def test_the_seed_decides_the_draws():
    def draws(seed):
        replay = Replay(1000, *SIZES, seed)
        replay.insert(numbered(0, 1000))
        return replay.sample(2, 32).tolist()

    assert draws([0, 1]) == draws([0, 1])
    assert draws([0, 1]) != draws([1, 1])


# Memory.


def test_what_will_not_fit_is_said_with_what_it_needs_and_what_there_is(monkeypatch):
    monkeypatch.setattr(replay_module, "_available_memory", lambda: 1_200_000_000)
    # 10 numbers of 4 bytes a transition: 40 MB a million
    words = r"the replay will need 1.6 GB, this machine has 1.2 GB left: lower train.replay_capacity"
    with pytest.raises(UserError, match=words):
        Replay(40_000_000, 3, 2, seed=0)
    with pytest.raises(UserError, match="will need 1.2 GB"):
        Replay(40_000_000, 3, 2, seed=0, expected=31_000_000)
    assert Replay(40_000_000, 3, 2, seed=0, expected=29_000_000).nbytes == 1_600_000_000  # a run that never fills it
    assert Replay(29_000_000, 3, 2, seed=0, expected=10**12).capacity == 29_000_000


@pytest.mark.parametrize("capacity", [10**14, 10**17, 2**62])
def test_what_no_machine_could_hold_is_one_line(capacity):
    with pytest.raises(UserError, match="memory") as caught:
        Replay(capacity, 3, 2, seed=0)
    assert f"{capacity:,}" in str(caught.value) or "GB" in str(caught.value)


FILES = {
    "/proc/meminfo": "MemTotal: 99 kB\nMemFree: 5 kB\nMemAvailable:   2000000 kB\n",
    "/sys/fs/cgroup/memory.max": "1500000000\n",
    "/sys/fs/cgroup/memory.current": "1000000000\n",
}
STAT = "/sys/fs/cgroup/memory.stat"


@pytest.mark.parametrize(
    "files, expected",
    [
        (FILES, 500_000_000),  # what is left of the container's
        (FILES | {STAT: "anon 5\ninactive_file 300000000\nactive_file 7\n"}, 800_000_000),  # a cache takes nothing
        (FILES | {STAT: "of another kind\n"}, 500_000_000),
        (FILES | {"/sys/fs/cgroup/memory.max": "max\n"}, 2_048_000_000),
        (FILES | {"/sys/fs/cgroup/memory.max": "9000000000\n"}, 2_048_000_000),
        ({"/proc/meminfo": FILES["/proc/meminfo"]}, 2_048_000_000),
        ({}, 4096 * 1000),  # as the system's own configuration has it
        ({"/proc/meminfo": "of another kind"}, 4096 * 1000),
    ],
)
def test_memory_is_what_the_machine_and_the_container_leave(monkeypatch, files, expected):
    def read_text(path):
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.get)
    assert replay_module._available_memory() == expected


def test_memory_of_this_machine_is_a_plausible_number():
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 10_000_000 < replay_module._available_memory() <= everything


class AgainstADeque(RuleBasedStateMachine):
    """Any sequence of operations, beside the simplest thing that does the same."""

    capacity = 7

    def __init__(self):
        super().__init__()
        self.replay = Replay(self.capacity, *SIZES, seed=3)
        self.model = deque(maxlen=self.capacity)
        self.inserted = 0

    @rule(n=st.integers(0, 3 * capacity))
    def insert(self, n):
        transitions = numbered(self.inserted, self.inserted + n)
        self.replay.insert(transitions)
        self.model.extend(map(tuple, rows_of(transitions)))
        self.inserted += n

    @precondition(lambda self: self.model)
    @rule(batches=st.integers(1, 3), size=st.integers(1, 2 * capacity))
    def sample(self, batches, size):
        rows = self.replay.sample(batches, size)
        assert set(map(tuple, rows.reshape([batches * size, -1]))) <= set(self.model)

    @rule(cuts=st.lists(st.integers(0, capacity), max_size=3))
    def resume(self, cuts):
        state, rows = self.replay.get_state(), held(self.replay)
        resumed = Replay(self.capacity, *SIZES, seed=99)
        resumed.set_state(state, np.split(rows, sorted(min(cut, len(rows)) for cut in cuts)))
        if self.model:
            assert same_draws(resumed, self.replay)
        self.replay = resumed

    @invariant()
    def holds_what_the_model_holds(self):
        assert self.replay.inserted == self.inserted and len(self.replay) == len(self.model)
        assert list(map(tuple, held(self.replay))) == list(self.model)


class TestAgainstADeque(AgainstADeque.TestCase):
    settings = settings(stateful_step_count=20)


@pytest.mark.slow
class TestAgainstADequeForLong(AgainstADeque.TestCase):
    settings = settings(max_examples=20_000, derandomize=False)
