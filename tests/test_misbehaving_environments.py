"""Environments that give what they should not: what it means where that is clear, else one line with the cure."""

import re
import sys

import gymnasium as gym
import numpy as np
import pytest
from commands import run
from gymnasium.spaces import Box, Dict
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from runs import bindings, flags

from tfsac.data.envs import TRIAL_STEPS, EnvSettings, make_env, require_time_limit, wrap
from tfsac.errors import NonFiniteError, RunError, UserError

FINE = np.array([0.5, -1.0, 2.0], np.float32)
OLD_API = "is it of gym's API before 0.26? shimmy's GymV21CompatibilityV0"


class Gives(gym.Env):
    """Its reset and step return what they are told.

    Args:
        reset, step: results; a step's first three may be given by their names.
    """

    observation_space = Box(-np.inf, np.inf, [3], np.float32)
    action_space = Box(-1.0, 1.0, [2], np.float32)

    def __init__(self, reset=(FINE, {}), step=(), observation=FINE, reward=0.0, terminated=False, truncated=False):
        self._reset = reset
        self._step = (observation, reward, terminated, truncated, {}) if isinstance(step, tuple) and not step else step

    def reset(self, *, seed=None, options=None):
        return self._reset

    def step(self, action):
        return self._step


class NoSeed(Gives):
    def reset(self):
        return FINE, {}


def stepped(env):
    """What the agents get of the environment's step, after its reset."""
    env = wrap(env)
    env.reset(seed=0)
    return env.step(np.zeros(2, np.float32))


def ways(env):
    """The environment as it is and behind Gymnasium's own wrappers, where gymnasium.make puts it."""
    limited = gym.wrappers.TimeLimit(gym.wrappers.OrderEnforcing(env), 1000)
    return [env, limited]


MEANT = {
    "reward of one": ({"reward": np.array([2.5])}, 1, 2.5),
    "reward of one in a matrix": ({"reward": np.array([[2.5]])}, 1, 2.5),
    "reward in a list": ({"reward": [2.5]}, 1, 2.5),
    "reward of another type": ({"reward": np.int8(-3)}, 1, -3.0),
    "reward that is a truth": ({"reward": True}, 1, 1.0),
    "terminated of one": ({"terminated": np.array([True])}, 2, True),
    "terminated as a number": ({"terminated": 1}, 2, True),
    "numpy's truth": ({"truncated": np.False_}, 3, False),
}


@pytest.mark.parametrize("given, place, expected", MEANT.values(), ids=MEANT)
def test_an_array_of_one_is_its_number(given, place, expected):
    for env in ways(Gives(**given)):
        received = stepped(env)[place]
        assert received == expected and type(received) is type(expected)


@pytest.mark.parametrize("observation", [[0.5, -1, 2], (0.5, -1, 2), FINE.astype(np.float64), FINE.astype(np.float16)])
def test_an_observation_in_any_numbers_is_float32(observation):
    received, *_ = stepped(Gives(observation=observation))
    assert received.dtype == np.float32
    np.testing.assert_array_equal(received, FINE)


RESETS = {
    "a bare observation": (FINE, r"expected \(observation, info\), received array\(\[ 0.5, -1", OLD_API),
    "None": (None, r"expected \(observation, info\), received None", OLD_API),
    "three values": ((FINE, {}, 0), r"expected \(observation, info\), received \(array", OLD_API),
    "no info": ((FINE, None), r"expected \(observation, info\), received \(array", OLD_API),
    "an observation of two": (([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]), r"received \(\[1.0, 2.0, 3.0\], \[4.0", OLD_API),
    "no observation": ((None, {}), r"expected an observation of shape \(3,\), received None", "mend the environment"),
    "text": (("abc", {}), r"shape \(3,\), received 'abc'", "mend the environment"),
    "text of digits": ((["1", "2", "3"], {}), r"received \['1', '2', '3'\]", "mend the environment"),
    "a ragged list": (([[1.0, 2.0], [3.0]], {}), r"received \[\[1.0, 2.0\], \[3.0\]\]", "mend the environment"),
    "a dict": (({"position": FINE}, {}), r"received \{'position': array", "mend the environment"),
    "None among numbers": (([1.0, None, 2.0], {}), r"received \[1.0, None, 2.0\]", "mend the environment"),
    "complex numbers": ((FINE + 1j, {}), r"received array\(\[ 0.5\+1.j", "mend the environment"),
    "another shape": (
        (np.zeros(4), {}),
        r"expected observations of shape \(3,\), the environment Gives gave \(4,\)",
        "",
    ),
    "a matrix": (
        (np.zeros([3, 1]), {}),
        r"expected observations of shape \(3,\), the environment Gives gave \(3, 1\)",
        "",
    ),
    "a number": ((0.5, {}), r"expected observations of shape \(3,\), the environment Gives gave \(\)", ""),
}


@pytest.mark.parametrize("result, words, cure", RESETS.values(), ids=RESETS)
def test_what_reset_should_not_give_is_named(result, words, cure):
    for env in ways(Gives(reset=result)):
        with pytest.raises(RunError, match=words) as caught:
            wrap(env).reset(seed=0)
        assert cure in str(caught.value) and "reset" in str(caught.value)


def test_a_reset_without_a_seed_is_of_the_old_api():
    for env in ways(NoSeed()):
        with pytest.raises(RunError, match="unexpected keyword argument 'seed'") as caught:
            wrap(env).reset(seed=0)
        assert OLD_API in str(caught.value) and "NoSeed" in str(caught.value)


STEPS = {
    "four values": ((FINE, 0.0, False, {}), None),
    "six values": ((FINE, 0.0, False, False, {}, 0), None),
    "an observation": (FINE, None),
    "None": (None, None),
    "a list": ([FINE, 0.0, False, False, {}], r"expected \(observation, reward, terminated, truncated, info\)"),
}


@pytest.mark.parametrize("result, words", STEPS.values(), ids=STEPS)
def test_a_step_of_another_api_is_named(result, words):
    bare, limited = ways(Gives(step=result))
    expected = r"step of the environment Gives: expected \(observation, reward, terminated, truncated, info\), received"
    with pytest.raises(RunError, match=expected) as caught:
        stepped(bare)
    assert OLD_API in str(caught.value)
    if words is None:  # else Gymnasium's wrapper has already taken it for what it should be
        with pytest.raises(RunError, match="the environment Gives raised (Value|Type)Error") as caught:
            stepped(limited)
        assert OLD_API in str(caught.value) or result is None


VALUES = {
    "reward None": ({"reward": None}, "expected one number as reward, received None"),
    "reward of two": ({"reward": np.array([1.0, 2.0])}, r"expected one number as reward, received array\(\[1., 2.\]\)"),
    "no reward": ({"reward": []}, r"expected one number as reward, received \[\]"),
    "reward as text": ({"reward": "1.5"}, "expected one number as reward, received '1.5'"),
    "reward as a dict": ({"reward": {"speed": 1.0}}, r"expected one number as reward, received \{'speed': 1.0\}"),
    "complex reward": ({"reward": 1j}, "expected one number as reward, received 1j"),
    "ragged reward": ({"reward": [[1.0], [2.0, 3.0]]}, "expected one number as reward"),
    "terminated None": ({"terminated": None}, "expected one number as terminated, received None"),
    "terminated of two": ({"terminated": np.array([True, False])}, "expected one number as terminated"),
    "terminated as text": ({"terminated": "no"}, "expected one number as terminated, received 'no'"),
    "terminated NaN": ({"terminated": np.nan}, "expected True or False as terminated, received nan"),
    "truncated 0.5": ({"truncated": 0.5}, "expected True or False as truncated, received 0.5"),
    "observation None": ({"observation": None}, r"expected an observation of shape \(3,\), received None"),
    "ragged observation": ({"observation": [[1.0], [2.0, 3.0]]}, r"expected an observation of shape \(3,\)"),
    "observation as a dict": ({"observation": {"x": 1.0}}, r"expected an observation of shape \(3,\), received \{'x'"),
}


@pytest.mark.parametrize("given, words", VALUES.values(), ids=VALUES)
def test_what_step_should_not_give_is_named(given, words):
    for env in ways(Gives(**given)):
        if isinstance(env, gym.wrappers.TimeLimit) and "truncated" in given:
            continue  # the time limit's own truncated comes in its place
        with pytest.raises(RunError, match=f"step of the environment Gives: {words}") as caught:
            stepped(env)
        assert "; mend the environment, or wrap it" in str(caught.value)


def test_a_long_thing_is_named_by_its_beginning():
    with pytest.raises(RunError) as caught:
        stepped(Gives(reward=list(range(10_000))))
    assert len(str(caught.value)) < 250 and "[0, 1, 2" in str(caught.value)


DICT = Dict({"height": Box(-9, 9, [], np.float64), "velocity": Box(-9, 9, [2], np.float64)})


@pytest.mark.parametrize(
    "observation", [FINE, None, {"height": 1.0}, {"height": 1.0, "velocity": None}, {"height": 1.0, "velocity": "ab"}],
    ids=str,
)  # fmt: skip
def test_a_dict_that_is_another_is_named(observation):
    env = Gives(reset=(observation, {}))
    env.observation_space = DICT
    with pytest.raises(RunError, match="height, velocity|shape") as caught:
        wrap(env).reset(seed=0)
    assert "Gives" in str(caught.value) and "RunError" not in str(caught.value)


def test_a_bare_dict_is_of_the_old_api_or_no_such_dict():
    env = Gives(reset={"height": 1.0, "velocity": FINE[:2], "more": 0.0})
    env.observation_space = DICT
    with pytest.raises(RunError, match="too many values to unpack") as caught:
        wrap(env).reset(seed=0)
    assert OLD_API in str(caught.value)


# gymnasium.make.


def test_an_error_without_a_message_says_where_it_was_raised(tmp_path, monkeypatch):
    (tmp_path / "deep_package.py").write_text(
        "import gymnasium\n"
        "def check_licence(): assert False\n"
        "def make(): check_licence()\n"
        "gymnasium.register('Deep-v0', make)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as caught:
        make_env("deep_package:Deep-v0")
    assert re.fullmatch(
        r"cannot make environment 'deep_package:Deep-v0': AssertionError "
        r"\(.*/deep_package.py, line 2, in check_licence; --traceback shows all\)",
        str(caught.value),
    )


def test_the_traceback_is_there_for_who_asks_for_it(tmp_path):
    (tmp_path / "deep_package.py").write_text(
        "import gymnasium\ndef make(): assert False\ngymnasium.register('Deep-v0', make)\n"
    )
    arguments = ["--env_id=deep_package:Deep-v0", "--logdir=run"]
    done, shown = (run("tfsac.train", *arguments, *more, cwd=tmp_path) for more in ([], ["--traceback"]))
    assert done.status == shown.status == 2 and re.fullmatch(r"error: [^\n]+AssertionError [^\n]+\n", done.err)
    assert shown.err.startswith("Traceback (most recent call last):") and "in make\n" in shown.err
    assert shown.err.endswith(done.err)


def test_a_fault_in_a_running_environment_leaves_its_traceback_in_the_run(tmp_path):
    options = bindings(env_id="envs_for_tests:Raises-v0", total_steps=100, start_steps=100)
    done = run("tfsac.train", "--logdir=run", *flags(options), cwd=tmp_path, PYTHONPATH=sys.path[0])
    words = r"error: the environment envs_for_tests:Raises-v0 raised KeyError: 'the robot[^\n]+in step; --traceback"
    assert done.status == 1 and re.match(words, done.err) and done.err.count("\n") == 1
    assert "what led to it is in run/traceback.txt" in done.err
    text = (tmp_path / "run" / "traceback.txt").read_text()
    assert "Traceback" in text and 'raise KeyError("the robot' in text


# Environments without an end.


class NeverEnds(Gives):
    """Neither terminated nor truncated, whatever happens."""


class Falls(Gives):
    """Terminated after 10 steps: a good policy may never be."""

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return super().reset()

    def step(self, action):
        self.steps += 1
        return FINE, 1.0, self.steps == 10, False, {}


class EndsItself(Falls):
    """Truncated by itself, which no registration declares."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def step(self, action):
        self.steps += 1
        return FINE, 1.0, False, self.steps == self.limit, {}


@pytest.mark.parametrize("env", [NeverEnds(), Falls(), EndsItself(TRIAL_STEPS + 1)], ids=lambda env: type(env).__name__)
def test_an_environment_without_a_time_limit_is_refused(env):
    cure = "Name-v0 has no time limit .*: its evaluations might never end; set env.max_episode_steps, for example to"
    with pytest.raises(UserError, match=cure):
        require_time_limit(wrap(env), "Name-v0")
    require_time_limit(wrap(gym.wrappers.TimeLimit(env, 1000)), "Name-v0")


@pytest.mark.parametrize("limit", [1, 10, TRIAL_STEPS])
def test_a_time_limit_of_its_own_is_found(limit):
    require_time_limit(wrap(EndsItself(limit)), "Name-v0")


def test_a_time_limit_in_the_settings_is_one():
    require_time_limit(EnvSettings("envs_for_tests:Endless-v0", max_episode_steps=20).make(), "Endless-v0")


@pytest.mark.parametrize("name", ["Endless", "Falls"])
def test_training_without_any_limit_is_refused_before_anything_is_written(tmp_path, name):
    options = bindings(env_id=f"envs_for_tests:{name}-v0", total_steps=24, start_steps=100)
    done = run("tfsac.train", "--logdir=run", *flags(options), cwd=tmp_path)
    assert done.status == 2 and "set env.max_episode_steps, for example to 1000" in done.err
    assert done.err.count("\n") == 1 and not list(tmp_path.iterdir())
    limit = "--gin_param=env.max_episode_steps = 5"
    done = run("tfsac.train", "--logdir=run", *flags(options), limit, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    evaluate = ["--logdir=run", "--episodes=1", "--trust=envs_for_tests", "--json"]
    assert '"returns": [' in run("tfsac.evaluate", *evaluate, cwd=tmp_path).out  # with the limit that the run kept


# At random.

floats = st.floats(width=32)
types = st.sampled_from([np.float32, np.float64, np.int16, bool, "U3", object])
odd_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(max_size=5),
    st.binary(max_size=5), st.just(FINE), st.just(object()), st.just(int),
    hnp.arrays(types, hnp.array_shapes(min_dims=0, max_side=4)),
    st.lists(st.one_of(floats, st.none(), st.lists(floats, max_size=3)), max_size=4),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=2),
)  # fmt: skip
results = st.one_of(
    odd_values,
    st.lists(odd_values, max_size=6).map(tuple),
    st.tuples(st.just(FINE), odd_values, odd_values, odd_values, st.just({})),
    st.tuples(odd_values, st.just(0.0), st.booleans(), st.booleans(), st.just({})),
    st.tuples(odd_values, st.just({})),
)


def is_taken_or_named(env):
    try:
        observation, reward, terminated, truncated, _ = stepped(env)
    except (RunError, NonFiniteError) as error:
        assert len(str(error)) < 600
        return
    assert observation.dtype == np.float32 and observation.shape == (3,) and np.all(np.isfinite(observation))
    assert type(reward) is float and np.isfinite(np.float32(reward))
    assert type(terminated) is bool and type(truncated) is bool


@settings(max_examples=400)
@given(results, st.booleans())
@example((FINE, np.array([1.0]), np.array([False]), False, {}), False)
def test_whatever_comes_is_taken_or_named(result, in_step):
    for env in ways(Gives(step=result) if in_step else Gives(reset=result)):
        is_taken_or_named(env)


@pytest.mark.slow
@settings(max_examples=50_000, derandomize=False)
@given(results, st.booleans())
def test_whatever_comes_for_long(result, in_step):
    for env in ways(Gives(step=result) if in_step else Gives(reset=result)):
        is_taken_or_named(env)


class Crashes(EndsItself):
    """As a vehicle: any action but the middle one ends the episode at once, so that only a calm one meets the limit."""

    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, bool(np.any(np.abs(action) > 1e-6)), truncated, info


def test_a_time_limit_that_random_actions_never_meet_is_met_all_the_same():
    require_time_limit(wrap(Crashes(50)), "Crashes-v0")
