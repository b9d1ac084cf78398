"""make_env: what is taken, what is refused, and that no action ever leaves the environment's bounds."""

import subprocess
import sys
import warnings

import envs_for_tests  # noqa: F401  registers the environments
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfsac.data import envs
from tfsac.data.envs import EnvSettings, episode_seed, make_env, to_bounds
from tfsac.errors import NonFiniteError, RunError, UserError


@st.composite
def bounded_boxes(draw):
    """Action spaces of 1 to 400 dimensions with bounds of any scale and asymmetry, two of them equal now and then."""
    dtype = np.dtype(draw(st.sampled_from([np.float32, np.float64])))
    size = draw(st.one_of(st.integers(1, 6), st.integers(1, 400)))
    largest = float(np.finfo(dtype).max)
    bounds = hnp.arrays(
        dtype,
        [2, size],
        # Plain numbers, and every magnitude from denormal to the largest.
        elements=st.one_of(
            st.floats(-10, 10, width=32),
            st.floats(-largest, largest, width=8 * dtype.itemsize),
        ),
    )
    low, high = np.sort(draw(bounds), axis=0)
    return Box(low, high, dtype=dtype.type)


units = hnp.arrays(np.float32, 9, elements=st.floats(-1, 1, width=32))


def stays_inside(space, fractions):
    size = space.shape[0]
    corners = [-1, 1, 0, -1 + 2**-24, 1 - 2**-24, *np.sort(fractions)]
    for dtype in (np.float32, np.float64):
        actions = [to_bounds(np.full(size, x, dtype), space.low, space.high) for x in corners]
        assert all(space.contains(action) for action in actions)
        np.testing.assert_array_equal(actions[0], space.low)
        np.testing.assert_array_equal(actions[1], space.high)
        assert all(np.all(actions[0] <= x) and np.all(x <= actions[1]) for x in actions)
        rising = actions[5:]
        assert all(np.all(one <= other) for one, other in zip(rising, rising[1:], strict=False))


@given(bounded_boxes(), units)
@example(Box(np.float32([-0.1]), np.float32([0.3])), np.zeros(9, np.float32))  # -0.1 is not mid - half in float32
@example(Box(np.float32([-3e38]), np.float32([3e38])), np.zeros(9, np.float32))  # high - low overflows
def test_an_action_lands_in_the_box_exactly_at_its_ends_and_in_order(space, fractions):
    stays_inside(space, fractions)


@pytest.mark.slow
@settings(max_examples=50_000, derandomize=False)
@given(bounded_boxes(), units)
def test_an_action_lands_in_the_box_for_long(space, fractions):
    stays_inside(space, fractions)


@given(st.floats(-50, 50), st.floats(0.01, 50), st.floats(-1, 1))
def test_the_map_is_linear(low, width, action):
    received = to_bounds(np.array([action]), np.array([low]), np.array([low + width]))
    np.testing.assert_allclose(received, low + width * (action + 1) / 2, rtol=1e-12, atol=1e-12)


observation_boxes = st.builds(
    lambda dtype, size: Box(0, 100, [size], dtype),
    st.sampled_from([np.float16, np.float32, np.float64, np.uint8, np.int16, np.int64]),
    st.integers(1, 400),
)


@settings(max_examples=100)
@given(observation_boxes, bounded_boxes(), units)
def test_any_flat_spaces_are_seen_as_float32_in_and_their_own_bounds_out(observations, actions, fractions):
    env_id = "AnySpaces-v0"
    with warnings.catch_warnings(action="ignore"):  # Gymnasium's, of registering it again
        kwargs = {"observation_space": observations, "action_space": actions}
        gym.register(env_id, envs_for_tests.Spaces, kwargs=kwargs, disable_env_checker=True)
    env = make_env(env_id)
    observation, _ = env.reset(seed=1)
    assert observation.dtype == np.float32 and observation.shape == observations.shape
    assert env.observation_space.shape == observations.shape and env.observation_space.dtype == np.float32
    assert env.action_space == Box(-1, 1, actions.shape, np.float32)
    for x in fractions:
        observation, *_ = env.step(np.full(actions.shape, x, np.float32))
        assert env.unwrapped.action in actions
        assert observation.dtype == np.float32

    own = make_env(env_id, unit_actions=False)
    assert own.action_space == actions


@pytest.mark.parametrize(
    "env_id, by_hand",
    [
        ("Dict-v0", lambda x: [x["height"], *x["velocity"]]),
        ("DictWithMatrix-v0", lambda x: [*x["a"][0], *x["arm"][0, 0], *x["arm"][0, 1], *x["arm"][0, 2]]),
    ],
)
def test_a_dict_of_numbers_is_flattened_in_the_order_of_its_keys(env_id, by_hand):
    env = make_env(env_id)
    observation, _ = env.reset(seed=1)
    space = env.unwrapped.observation_space
    space.seed(1)
    np.testing.assert_array_equal(observation, np.float32(by_hand(space.sample())))


@pytest.mark.parametrize(
    "env_id, words",
    [
        ("CartPole-v1", "expected a continuous action space"),
        ("DiscreteAction-v0", "expected a continuous action space"),
        ("MultiDiscreteAction-v0", "expected a continuous action space"),
        ("IntegerAction-v0", "expected a continuous action space"),
        ("MatrixAction-v0", "expected a flat action Box of shape"),
        ("NoAction-v0", "expected a flat action Box of shape"),
        ("UnboundedAction-v0", "expected an action space bounded on every side"),
        ("ImageObservation-v0", "expected a flat Box observation"),
        ("DiscreteObservation-v0", "expected a flat Box observation"),
        ("NoObservation-v0", "expected a flat Box observation"),
        *((f"DictWith{x}-v0", "expected a flat Box observation") for x in ("Image", "Bitmap", "Colours")),
        ("DictWithDiscrete-v0", "[('FlattenObservation', {})]"),
        ("Tuple-v0", "[('FlattenObservation', {})]"),
        ("DictWithSequence-v0", "a wrapper of your own must make numbers of it"),
        ("NoObservationSpace-v0", "expected an attribute observation_space"),
        ("ListAsSpace-v0", "expected an attribute observation_space"),
        ("NoActionSpace-v0", "expected an attribute action_space"),
        ("Reachr-v5", "Did you mean: `Reacher`"),
        ("Reacher-v9", "Environment version `v9` for environment `Reacher` doesn't exist"),
        ("Pendulum-v0", "Pendulum-v1"),
        ("", "cannot make environment ''"),
        ("highway-v0", "one of another package is called module:id"),
        ("a:b:c", "cannot make environment 'a:b:c'"),
        ("no_such_module:Thing-v0", "No module named 'no_such_module'"),
        ("envs_for_tests:Wlk-v0", "Did you mean: `Walk`"),
        ("envs_for_tests:NeedsAFile-v0", "no such model.xml"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_the_agents_cannot_act_in_is_refused_by_name(env_id, words):
    with pytest.raises(UserError) as caught:
        make_env(env_id)
    assert words in str(caught.value) and env_id in str(caught.value)


@pytest.mark.parametrize(
    "env_id, by_hand",
    [
        ("DiscreteObservation-v0", lambda x: np.eye(4)[x]),
        ("DictWithDiscrete-v0", lambda x: [*np.eye(5)[x["gear"]], *x["position"]]),
        ("Tuple-v0", lambda x: [*x[0], *x[1][0], *x[1][1]]),
    ],
)
def test_other_observations_are_taken_with_the_wrapper_that_their_refusal_names(env_id, by_hand):
    env = EnvSettings(id=env_id, wrappers=[("FlattenObservation", {})]).make()
    observation, _ = env.reset(seed=1)
    space = env.unwrapped.observation_space
    space.seed(1)
    np.testing.assert_array_equal(observation, np.float32(by_hand(space.sample())))


@pytest.mark.parametrize(
    "missing, env_id, extra",
    [
        ("Box2D", "BipedalWalker-v3", "box2d"),
        ("shimmy", "shimmy:dm_control/cheetah-run-v0", "dm_control"),
        ("dm_control", "shimmy:dm_control/cheetah-run-v0", "dm_control"),
    ],
)
def test_what_is_not_installed_is_said_with_the_extra_that_brings_it(missing, env_id, extra):
    """In a process of its own, since what has been imported stays."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\nfrom tfsac.data.envs import make_env\nmake_env({env_id!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"the extra {extra} brings it: pip install '.[{extra}]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "name, kind, words",
    [
        ("NanObservation", NonFiniteError, "the environment's observation is not finite"),
        ("NanReward", NonFiniteError, "the environment's reward is nan"),
        ("InfiniteReward", NonFiniteError, "the environment's reward is inf"),
        ("HugeReward", NonFiniteError, "the environment's reward is 1e\\+300"),  # infinite in float32
        ("Shape", RunError, r"expected observations of shape \(3,\), the environment Shape-v0 gave \(4,\)"),
        ("Raises", RunError, "the environment Raises-v0 raised KeyError: 'the robot"),
    ],
)
def test_a_misbehaving_environment_ends_the_run_by_name(name, kind, words):
    env = make_env(f"{name}-v0")
    env.reset(seed=0)
    action = np.float32([0.25])
    for _ in range(19):
        env.step(action)
    with pytest.raises(kind, match=words) as caught:
        env.step(action)
    if kind is NonFiniteError:  # what the trainer leaves behind says what led there
        (held,) = caught.value.batch.values()
        # 1.5 is 0.25 in the environment's own units.
        assert np.isnan(held).any() if name == "NanObservation" else np.array_equal(held, [1.5])
    if name == "Raises":
        assert isinstance(caught.value.__cause__, KeyError)


def test_a_reward_is_refused_where_float32_would_make_it_infinite():
    edge = envs.BEYOND_FLOAT32
    with np.errstate(over="ignore"):
        assert np.isinf(np.float32(edge)) and np.isfinite(np.float32(np.nextafter(edge, 0)))
    for sign in (1, -1):
        reward = sign * np.nextafter(edge, 0)
        env = gym.wrappers.TransformReward(gym.make("envs_for_tests:Walk-v0"), lambda _, reward=reward: reward)
        env = envs.wrap(env)
        env.reset(seed=0)
        assert env.step(np.float32([0]))[1] == reward
        env = envs.wrap(gym.wrappers.TransformReward(env.unwrapped, lambda _, sign=sign: sign * edge))
        env.reset(seed=0)
        with pytest.raises(NonFiniteError, match="the environment's reward is -?3.4028235677"):
            env.step(np.float32([0]))


@pytest.mark.parametrize("kind", [bool, np.bool_, int, np.int64, np.array, lambda x: np.array([x])])
def test_flags_and_rewards_may_be_any_number(kind):
    class Kinds(gym.Env):
        observation_space, action_space = Box(-1, 1, [1]), Box(-1, 1, [1])

        def step(self, action):
            return np.zeros(1), kind(1), kind(True), kind(False), {}

    _, reward, terminated, truncated, _ = envs.wrap(Kinds()).step(np.float32([0]))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert type(reward) is float and type(terminated) is type(truncated) is bool


def test_an_observation_is_the_callers_own():
    env = make_env("Reuses-v0")
    first, _ = env.reset(seed=0)
    seen = first.copy()
    second, *_ = env.step(np.float32([0.5]))
    env.step(np.float32([0.5]))
    np.testing.assert_array_equal(first, seen)
    assert second[1] == 1


def test_a_module_of_the_users_own_is_imported():
    env = make_env("envs_for_tests:Walk-v0")
    assert isinstance(env.unwrapped, envs_for_tests.Walk)
    env.reset(seed=0)
    env.step(np.float32([1.0]))
    assert env.unwrapped.state[2] == 3.0  # the upper bound


@pytest.mark.parametrize("kind", ["terminated", "truncated", "both"])
def test_terminated_is_kept_apart_from_truncated(kind):
    env = make_env({"terminated": "Walk-v0", "truncated": "Truncated-v0", "both": "BothEnds-v0"}[kind])
    env.reset(seed=0)
    for _ in range(7):
        _, _, terminated, truncated, _ = env.step(np.float32([0.0]))
    assert (terminated, truncated) == (kind != "truncated", kind != "terminated")


def test_a_time_limit_truncates():
    env = make_env("Pendulum-v1")
    env.reset(seed=0)
    ends = [env.step(np.float32([0.0]))[2:4] for _ in range(200)]
    assert ends[:-1] == [(False, False)] * 199 and ends[-1] == (False, True)


def test_every_episode_of_every_environment_and_run_has_a_seed_of_its_own():
    seeds = {episode_seed(seed, env, episode) for seed in range(10) for env in range(10) for episode in range(100)}
    assert len(seeds) == 10 * 10 * 100
    assert all(isinstance(seed, int) and seed >= 0 for seed in seeds)
    assert episode_seed(1, 2, 3) == episode_seed(1, 2, 3)
