"""What an artefact says of its environment, and that it is enough to make it again."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from tfsac.data.envs import EnvSettings, wrap
from tfsac.deploy import facts
from tfsac.errors import UserError


def described(settings):
    return facts.describe(settings.make(unit_actions=False), settings)


SETTINGS = [
    EnvSettings("Pendulum-v1"),
    EnvSettings("envs_for_tests:Walk-v0", {"length": 9}),
    EnvSettings("Pendulum-v1", {"g": 9.0}, ("RescaleObservation",), 50),
    EnvSettings("Pendulum-v1", {}, (("TimeAwareObservation", {"normalize_time": True}), "envs_for_tests:Odd"), 50),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_environment_is_read_back_as_it_was(settings):
    env = EnvSettings("Pendulum-v1").make(unit_actions=False)
    said = json.loads(json.dumps(facts.describe(env, settings)))
    assert facts.environment(said, "policy.tflite") == settings


def test_names_are_the_keys_of_a_dict_in_the_order_that_is_sent():
    parts = {"velocity": Box(-9, 9, [2], np.float64), "height": Box(0, 1, [], np.float64), "a": Box(0, 1, [1])}

    class Arm(gym.Env):
        observation_space, action_space = Dict(parts), Box(-1.0, 1.0, [1])

        def reset(self, *, seed=None, options=None):
            return {"a": np.ones(1), "height": np.float64(2), "velocity": np.array([3.0, 4.0])}, {}

    env = wrap(Arm(), unit_actions=False)
    names = facts.describe(env, None)["observation"]["names"]
    values = {"a_0": 1, "height": 2, "velocity_0": 3, "velocity_1": 4}
    assert [values[name] for name in names] == env.reset()[0].tolist()


def test_documented_names_are_for_the_environment_as_it_is_documented():
    assert described(EnvSettings("Pendulum-v1"))["observation"]["names"] == ["cos(theta)", "sin(theta)", "theta_dot"]
    wrapped = described(EnvSettings("Pendulum-v1", {}, ("TimeAwareObservation",)))
    assert wrapped["observation"]["names"] == [f"observation_{i}" for i in range(4)]
    assert wrapped["action"]["names"] == ["action_0"]


@pytest.mark.parametrize(
    "dt, rate", [(0.05, 20), (np.float32(0.5), 2), (0, None), (np.nan, None), (print, None), ("1", None)]
)
def test_the_control_rate_is_a_number_or_unknown(dt, rate):
    env = gym.make("Pendulum-v1")
    env.unwrapped.dt = dt
    assert facts.describe(env, None)["environment"]["control_rate_hz"] == rate


@pytest.mark.parametrize(
    "wrapper, rate",
    [
        ("FlattenObservation", 20),
        ("gymnasium.wrappers:TimeAwareObservation", 20),
        (("MaxAndSkipObservation", {"skip": 4}), None),  # in truth 5
        ("envs_for_tests:Sledge", None),  # a stranger's: nobody knows
    ],
)
def test_the_control_rate_behind_a_wrapper_that_may_skip_steps_is_unknown(wrapper, rate):
    settings = EnvSettings("Pendulum-v1", wrappers=(("ClipReward", {"min_reward": -1}), wrapper))
    said = facts.describe(settings.make(unit_actions=False), None)["environment"]  # whoever put them on
    assert said["control_rate_hz"] == rate
    name = (wrapper if isinstance(wrapper, str) else wrapper[0]).rpartition(":")[2]
    assert said.get("control_rate_unknown") == (None if rate else f"{name} may take several steps for one action")


@pytest.mark.parametrize(
    "said",
    [
        None, [], {}, {"environment": None}, {"environment": "Pendulum-v1"}, {"environment": {}},
        {"environment": {"id": 5}}, {"environment": {"id": "a", "kwargs": [1]}},
        {"environment": {"id": "a", "wrappers": "b"}}, {"environment": {"id": "a", "wrappers": [5]}},
        {"environment": {"id": "a", "max_episode_steps": -1}}, {"environment": {"id": "a", "max_episode_steps": "9"}},
    ],
)  # fmt: skip
def test_facts_of_a_strangers_are_refused_with_one_line(said):
    with pytest.raises(UserError, match="^mine.tflite: its facts are not what tfsac.export wrote: "):
        facts.environment(said, "mine.tflite")


def test_a_file_of_version_0_1_names_the_id_alone():
    assert facts.environment({"environment": {"id": "Reacher-v5"}}, "old.tflite") == EnvSettings("Reacher-v5")
