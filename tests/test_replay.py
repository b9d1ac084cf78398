"""The ring buffer: what it holds, what it draws, and that its state is all there is to it."""

from collections import deque

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tfsac.replay import Replay, Transition

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


def same_draws(first, second):
    batches = zip(first.sample(3, 4), second.sample(3, 4), strict=True)
    return all(np.array_equal(one, other) for one, other in batches)


@pytest.mark.parametrize("block", [1, 3, 7, 10])
def test_the_last_transitions_are_held_through_two_wraps(block):
    replay = Replay(10, *SIZES, seed=0)
    for start in range(0, 30, block):
        replay.insert(numbered(start, start + block))
        stop = start + block
        assert replay.inserted == stop and len(replay) == min(stop, 10)
        np.testing.assert_array_equal(held(replay), rows_of(numbered(max(0, stop - 10), stop)))
        np.testing.assert_array_equal(np.sort(replay.observations()[:, 0]), np.arange(max(0, stop - 10), stop))


def test_a_sampled_transition_is_one_that_was_inserted():
    replay = Replay(10, *SIZES, seed=0)
    replay.insert(numbered(0, 25))
    observation, action, reward, next_observation, terminated = replay.sample(4, 50)
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
    batches = replay.sample(4, 6)
    assert [x.shape for x in batches] == [(4, 6, 5), (4, 6, 3), (4, 6), (4, 6, 5), (4, 6)]
    assert {x.dtype for x in batches} == {np.dtype(np.float32)}
    assert replay.nbytes == 100 * (5 + 3 + 1 + 5 + 1) * 4


def test_sampling_is_uniform_with_replacement():
    size, draws = 50, 100_000
    replay = Replay(size, *SIZES, seed=0)
    replay.insert(numbered(0, size))
    counts = np.bincount(replay.sample(10, draws // 10).observation[..., 0].astype(int).ravel(), minlength=size)
    chi_square = np.sum((counts - draws / size) ** 2 / (draws / size))
    # 49 degrees of freedom: mean 49, standard deviation 10. Far below would be too even to be random.
    assert 49 - 4 * 10 < chi_square < 49 + 4 * 10

    replay = Replay(10, *SIZES, seed=0)
    replay.insert(numbered(0, 3))
    assert replay.sample(1, 256).reward.shape == (1, 256)  # more than there are: only with replacement


def test_each_batch_is_drawn_afresh():
    replay = Replay(1000, *SIZES, seed=0)
    replay.insert(numbered(0, 1000))
    batches = [tuple(batch) for batch in replay.sample(8, 32).reward] + [tuple(replay.sample(1, 32).reward[0])]
    assert len(set(batches)) == len(batches)


def test_the_seed_decides_the_draws():
    def draws(seed):
        replay = Replay(1000, *SIZES, seed)
        replay.insert(numbered(0, 1000))
        return replay.sample(2, 32).reward.tolist()

    assert draws([0, 1]) == draws([0, 1])
    assert draws([0, 1]) != draws([1, 1])


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
        o, a, r, next_o, d = (x.reshape([batches * size, -1]) for x in self.replay.sample(batches, size))
        assert set(map(tuple, np.concatenate([o, a, r, next_o, d], axis=1))) <= set(self.model)

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
