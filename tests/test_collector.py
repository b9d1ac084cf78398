"""Transitions as they happened: no bogus one across a reset, and the same again after a resume."""

import envs_for_tests  # noqa: F401  registers the environments
import numpy as np
import pytest

from tfsac.data.collector import Collector
from tfsac.data.envs import episode_seed, make_env
from tfsac.errors import NonFiniteError, RunError


def collector(env_id, num_envs=1, seed=0):
    return Collector([make_env(env_id) for _ in range(num_envs)], seed)


def actor(seed=0):
    """A way of acting that depends on the observation, as a policy does, and draws, as exploration does."""
    rng = np.random.default_rng(seed)

    def act(observation, step):
        return np.tanh(np.sum(observation) + rng.standard_normal(act.size))

    act.rng = rng
    return act


def collect(subject, steps, act=None):
    act = act or actor()
    act.size = subject.envs[0].action_space.shape[0]
    return subject.collect(steps, act)


TAG, COUNT, ACTION = 0, 1, 2  # what Walk's observations are made of


@pytest.mark.parametrize("env_id", ["Walk-v0", "Truncated-v0", "OneStep-v0", "Reuses-v0"])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_no_transition_leads_across_a_reset(env_id, num_envs):
    subject = collector(env_id, num_envs)
    for _ in range(3):
        s, a, _, next_s, _ = collect(subject, 50)[0]
        np.testing.assert_array_equal(next_s[:, TAG], s[:, TAG])
        np.testing.assert_array_equal(next_s[:, COUNT], s[:, COUNT] + 1)
        np.testing.assert_allclose(next_s[:, ACTION], 1 + 2 * a[:, 0], rtol=1e-6)


def test_environments_take_turns_and_each_goes_its_own_way():
    subject = collector("Walk-v0", 3)
    s, *_, next_s, _ = collect(subject, 60)[0]
    for i in range(3):
        mine, mine_next = s[i::3], next_s[i::3]
        np.testing.assert_array_equal(mine[:, COUNT], np.arange(20) % 7)
        going_on = mine[1:, COUNT] > 0
        np.testing.assert_array_equal(mine[1:][going_on], mine_next[:-1][going_on])
    assert len(set(s[:, TAG])) == 9  # three episodes begun in each: no two alike


def test_shapes_types_and_steps():
    subject = collector("Reacher-v5", 2)
    assert subject.steps == 0
    steps = []

    def act(observation, step):
        steps.append(step)
        assert observation.shape == (10,) and observation.dtype == np.float32
        return np.zeros(2)

    transitions, _ = subject.collect(5, act)
    assert [x.shape for x in transitions] == [(5, 10), (5, 2), (5,), (5, 10), (5,)]
    assert {x.dtype for x in transitions} == {np.dtype(np.float32)}
    subject.collect(3, act)
    assert steps == list(range(8)) and subject.steps == 8


@pytest.mark.parametrize(
    "env_id, terminated", [("Walk-v0", True), ("Truncated-v0", False), ("BothEnds-v0", True), ("OneStep-v0", True)]
)
def test_a_terminal_state_is_marked_and_a_time_limit_is_not(env_id, terminated):
    transitions, episodes = collect(collector(env_id), 21)
    length = 1 if env_id == "OneStep-v0" else 7
    expected = (np.arange(21) % length == length - 1) & terminated
    np.testing.assert_array_equal(transitions.terminated, expected.astype(np.float32))
    assert len(episodes) == 21 // length


@pytest.mark.parametrize("block", [1, 4, 30])
def test_episodes_are_reported_where_they_end_with_their_return_and_length(block):
    subject, act = collector("Walk-v0", 2), actor()
    rewards, episodes = [], []
    for _ in range(60 // block):
        transitions, ended = collect(subject, block, act)
        rewards += transitions.reward.tolist()
        episodes += ended
    # Each environment takes every second step: the first's 7th step is step 13 of the run, the second's step 14.
    assert [step for step, _, _ in episodes] == [13, 14, 27, 28, 41, 42, 55, 56]
    assert {length for _, _, length in episodes} == {7}
    for step, total, _ in episodes:
        assert total == pytest.approx(sum(rewards[step - 13 : step : 2]), rel=1e-6)


def test_each_episode_starts_from_the_seed_of_run_environment_and_number():
    subject = collector("Walk-v0", 2, seed=5)
    s = collect(subject, 42)[0].observation
    env = make_env("Walk-v0")
    for environment in range(2):
        for episode in range(3):
            expected, _ = env.reset(seed=episode_seed(5, environment, episode))
            np.testing.assert_array_equal(s[environment::2][7 * episode], expected)


RESUMED = [("Pendulum-v1", 470), ("Reacher-v5", 130), ("Hopper-v5", 130), ("HalfCheetah-v5", 130), ("Walk-v0", 23)]


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("env_id, steps", RESUMED)
def test_a_resumed_collector_goes_on_bit_for_bit_from_the_middle_of_an_episode(env_id, steps, num_envs):
    subject, act = collector(env_id, num_envs, seed=3), actor()
    collect(subject, steps, act)
    numbers, arrays = subject.get_state()
    assert any(len(x) for name, x in arrays.items() if name.endswith("actions"))  # in the middle, indeed
    state_of_act = act.rng.bit_generator.state
    expected, expected_episodes = collect(subject, 120, act)

    resumed = collector(env_id, num_envs, seed=3)
    assert resumed.set_state(numbers, arrays) == []
    act.rng.bit_generator.state = state_of_act
    received, episodes = collect(resumed, 120, act)
    for name, one, other in zip(expected._fields, expected, received, strict=True):
        assert one.tobytes() == other.tobytes(), name
    assert episodes == expected_episodes


def test_an_environment_that_is_not_deterministic_is_noticed_and_begins_anew():
    subject, act = collector("Chance-v0", 2), actor()
    collect(subject, 20, act)
    numbers, arrays = subject.get_state()
    resumed = collector("Chance-v0", 2)
    assert resumed.set_state(numbers, arrays) == [0, 1]
    s = collect(resumed, 2, act)[0].observation
    np.testing.assert_array_equal(s[:, COUNT], [0, 0])
    assert resumed.get_state()[0] == {"steps": 22, "episodes": [2, 2]}  # the interrupted ones were number 1


def test_an_episode_that_ends_too_soon_when_taken_up_is_noticed():
    subject, act = collector("Walk-v0"), actor()
    collect(subject, 6, act)
    numbers, arrays = subject.get_state()
    resumed = collector("OneStep-v0")
    assert resumed.set_state(numbers, arrays) == [0]


@pytest.mark.parametrize(
    "env_id, kind, words",
    [
        ("NanObservation-v0", NonFiniteError, "observation is not finite"),
        ("NanReward-v0", NonFiniteError, "reward is nan"),
        ("Shape-v0", RunError, "expected observations of shape"),
        ("Raises-v0", RunError, "raised KeyError"),
    ],
)
def test_what_is_wrong_reaches_the_trainer(env_id, kind, words):
    subject = collector(env_id)
    collect(subject, 19)
    with pytest.raises(kind, match=words):
        collect(subject, 1)
