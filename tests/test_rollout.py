"""Whole episodes on fixed seeds."""

import io

import envs_for_tests  # noqa: F401  registers the environments
import gymnasium as gym
import numpy as np
import pytest
from tqdm import tqdm

from tfsac.data.envs import episode_seed, make_env
from tfsac.data.rollout import ShowsEpisodes, repeats_starts, rollout, summary
from tfsac.errors import NonFiniteError, RunError


def half(observation):
    return np.float32([0.5])


def test_returns_and_lengths_are_those_of_each_episode():
    returns, lengths = rollout(half, make_env("Walk-v0"), 3)
    assert lengths == [7, 7, 7]
    assert returns == [7 * -(2.0**2)] * 3  # 0.5 is 2 in the environment's units, and the reward is -a^2


@pytest.mark.parametrize("env_id", ["Walk-v0", "Truncated-v0", "BothEnds-v0", "OneStep-v0"])
def test_a_bar_counts_the_episodes_that_ended_and_changes_nothing(env_id):
    with tqdm(total=3, file=io.StringIO()) as bar:
        env = ShowsEpisodes(make_env(env_id), bar)
        assert rollout(half, env, 3) == rollout(half, make_env(env_id), 3)
        repeats_starts(env)  # resets that begin no episode
    assert bar.n == 3


@pytest.mark.parametrize("env_id", ["Truncated-v0", "BothEnds-v0", "OneStep-v0"])
def test_an_episode_ends_with_either_end(env_id):
    assert rollout(half, make_env(env_id), 2)[1] == ([1, 1] if env_id == "OneStep-v0" else [7, 7])


def starts(seed, episodes=3):
    seen = []

    def act(observation):
        if observation[1] == 0:
            seen.append(float(observation[0]))
        return np.float32([0.0])

    rollout(act, make_env("Walk-v0"), episodes, seed)
    return seen


def test_the_seed_decides_the_starts_whatever_was_run_before():
    assert starts(0) == starts(0) and starts(0, 2) == starts(0)[:2]
    assert starts(1) == starts(0, 4)[1:] and len(set(starts(0))) == 3  # consecutive seeds, a start for each


def test_evaluation_starts_are_no_training_starts():
    training = {episode_seed(0, env, episode) for env in range(20) for episode in range(100)}
    assert not training & set(range(1000))


def test_the_return_on_pendulum_is_gymnasiums():
    env = gym.make("Pendulum-v1")
    env.reset(seed=4)
    expected = sum(float(env.step(np.float32([1.0]))[1]) for _ in range(200))
    returns, lengths = rollout(half, make_env("Pendulum-v1"), 1, seed=4)
    assert lengths == [200] and returns == [pytest.approx(expected, rel=1e-12)]


@pytest.mark.parametrize(
    "env_id, kind", [("NanObservation-v0", NonFiniteError), ("NanReward-v0", NonFiniteError), ("Raises-v0", RunError)]
)
def test_a_misbehaving_environment_does_not_pass_for_a_return(env_id, kind):
    with pytest.raises(kind):
        rollout(half, make_env(env_id), 5)


def test_summary_by_hand():
    # mean 2, squared deviations 1 + 0 + 1, variance 2 / (3 - 1) = 1, half interval t / sqrt(3); the tables of Student's
    # t give 4.30265 for two degrees of freedom
    found = summary([1.0, 2.0, 3.0])
    assert found["mean"] == 2 and found["std"] == 1
    assert found["interval"] == pytest.approx([2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5], abs=1e-5)
    assert summary([5.0]) == {"mean": 5, "std": 0, "interval": None}  # a single one says nothing of its mean
