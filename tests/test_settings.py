"""Settings: every type that an annotation may have, the environment as a value, hints for other libraries' names."""

import typing
from typing import Annotated, Literal, NamedTuple

import envs_for_tests  # noqa: F401  registers the environments
import numpy as np
import pytest
from annotated_types import Ge, Len
from commands import run
from envs_for_tests import Walk
from runs import bindings, flags, rows, run_here

from tfsac.algorithms import registry
from tfsac.data.envs import EnvSettings
from tfsac.errors import RunError, UserError
from tfsac.evaluate import load
from tfsac.run import checkpoint, config
from tfsac.run import settings as run_settings
from tfsac.run.loop import TrainSettings
from tfsac.setting_types import Count, Fraction, Positive, Seed, Sizes, Step, checked, parameters

Pair = tuple[Positive, Positive]
NumberOrPair = Positive | Pair
Names = tuple[str, ...]
Wrappers = tuple[str | tuple[str, dict], ...]

TAKEN = [
    (bool, True, True), (bool, False, False),
    (int, 5, 5), (int, 1e6, 1_000_000), (int, -3, -3),
    (float, 5, 5.0), (float, 0.5, 0.5), (float | None, None, None), (float | None, 2, 2.0),
    (str, "x", "x"), (str, "", ""), (str | None, None, None),
    (Literal["min", "mean"], "mean", "mean"), (Literal[1, 2], 2, 2), (Literal["a"] | None, None, None),
    (Pair, (1, 2.5), (1.0, 2.5)), (Pair, [1, 2], (1.0, 2.0)),
    (NumberOrPair, 3, 3.0), (NumberOrPair, [3, 4], (3.0, 4.0)),
    (bool | float, True, True), (bool | float, 1, 1.0),
    (Names, ["a", "b"], ("a", "b")), (Names, (), ()), (Names, [], ()),
    (Sizes, [8, 1e2], (8, 100)), (Annotated[Names, Len(1)], ["a"], ("a",)),
    (tuple[Pair, ...], [[1, 2], (3, 4)], ((1.0, 2.0), (3.0, 4.0))),
    (tuple[str, int], ["a", 1.0], ("a", 1)),
    (dict, {}, {}), (dict, {"a": 1, "b": None, "c": {"d": "e"}}, {"a": 1, "b": None, "c": {"d": "e"}}),
    (dict, {"a": [1, [2, {"b": [3]}]]}, {"a": (1, (2, {"b": (3,)}))}),  # as JSON would give a tuple back
    (dict[str, NumberOrPair], {"a": 1, "b": [2, 3]}, {"a": 1.0, "b": (2.0, 3.0)}),
    (Wrappers, ["A", ["m:B", {"x": True}]], ("A", ("m:B", {"x": True}))),
    (Count, 1, 1), (Seed, 0, 0), (Seed, 2**31 - 1, 2**31 - 1), (Fraction, 0, 0.0), (Fraction, 1, 1.0), (Step, 1, 1.0),
]  # fmt: skip


def same(one, other):
    """Equal, and of the same type throughout: 1 is not True, nor 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("annotation, value, expected", TAKEN, ids=repr)
def test_a_value_of_each_type_is_taken(annotation, value, expected):
    assert same(checked("x.y", value, annotation), expected)


REFUSED = [
    (bool, 1, "x.y: expected True or False, received 1"),
    (bool, "True", "x.y: expected True or False, received 'True'"),
    (bool, None, "expected True or False, received None"),
    (int, True, "expected a whole number, received True"),
    (int, 1.5, "expected a whole number, received 1.5"),
    (float, "1", "expected a number, received '1'"),
    (float, float("nan"), "expected a number, received nan"),
    (str, 5, "expected text in quotes, received 5"),
    (str | None, 5, "expected text in quotes, received 5"),
    (Literal["min", "mean"], "max", "expected one of ('min', 'mean'), received 'max'"),
    (Literal["min", "mean"], ["min"], "expected one of ('min', 'mean'), received ['min']"),
    (Literal[1, 2], True, "expected one of (1, 2), received True"),
    (Pair, 1, "expected 2 values such as (1, 2), received 1"),
    (Pair, (1,), "expected 2 values such as (1, 2), received (1,)"),
    (Pair, (1, 2, 3), "expected 2 values such as (1, 2), received (1, 2, 3)"),
    (Pair, (1, "x"), "expected a number, received 'x'"),
    (Pair, (1, 0), "expected a number above 0, received 0.0"),
    (NumberOrPair, "x", "expected a number or 2 values such as (1, 2), received 'x'"),
    (NumberOrPair, 0, "expected a number above 0, received 0.0"),
    (NumberOrPair, (1, "x"), "expected a number, received 'x'"),
    (NumberOrPair, (1, 2, 3), "expected a number or 2 values such as (1, 2), received (1, 2, 3)"),
    (NumberOrPair | None, "x", "expected a number or 2 values such as (1, 2), received 'x'"),
    (Names, "a", "expected a list such as ('a', 'b'), received 'a'"),
    (Names, ("a", 1), "expected text in quotes, received 1"),
    (Annotated[Names, Len(1)], (), "expected a list such as ('a', 'b'), received ()"),
    (Sizes, (), "expected a list of numbers such as (256, 256), received ()"),
    (Sizes, (8, 0), "expected a number above 0, received 0"),
    (Sizes, {8: 8}, "expected a list of numbers such as (256, 256), received {8: 8}"),
    (dict, [1], "expected a mapping such as {'name': 1.0}, received [1]"),
    (dict, {1: 2}, "expected a mapping such as {'name': 1.0}, received {1: 2}"),
    (dict, {"a": {1: 2}}, "a mapping such as {'name': 1.0}, received {1: 2}"),
    (dict, {"a": b"x"}, "expected numbers, text, True, False, None, lists or mappings of these, received b'x'"),
    (dict, {"a": [1j]}, "expected numbers, text, True, False, None, lists or mappings of these, received 1j"),
    (dict, {"a": float("inf")}, "expected numbers, text, True, False, None, lists or mappings of these, received inf"),
    (dict[str, NumberOrPair], {"a": "x"}, "expected a number or 2 values such as (1, 2), received 'x'"),
    (Wrappers, "A", "expected a list such as ('a', 'b'), received 'A'"),
    (Wrappers, ("A", {}), "received ('A', {})|received {}"),
    (Wrappers, [5], "received 5"),
    (Annotated[float, Ge(2)], 1, "expected a number 2 or more, received 1.0"),
]  # fmt: skip


@pytest.mark.parametrize("annotation, value, words", REFUSED, ids=repr)
def test_another_value_is_refused_by_name(annotation, value, words):
    with pytest.raises(UserError) as caught:
        checked("x.y", value, annotation)
    assert str(caught.value).startswith("x.y: expected ") and any(
        part in str(caught.value) for part in words.split("|")
    )
    assert "\n" not in str(caught.value)


def test_what_can_be_set_is_what_has_an_annotation_and_a_default():
    class Thing:
        def __init__(self, a, b: int, c=1, d: int = 2, *, e: bool = False):
            pass

    class Value(NamedTuple):
        x: int
        y: Positive = 1.0

    assert parameters(Thing) == {"d": (int, 2), "e": (bool, False)}
    assert parameters(Value) == {"y": (Positive, 1.0)}


def test_a_constructor_that_passes_settings_on_has_its_bases_too():
    class Base:
        def __init__(self, a, x: int = 1, y: int = 2):
            pass

    class Between(Base):
        pass

    class Adds(Between):
        def __init__(self, *arguments, y: float = 3.0, z: bool = False, **settings):
            pass

    class Inherits(Adds):
        pass

    class Closed(Adds):
        def __init__(self, a, z: bool = True):
            pass

    class AddsToAll(Inherits):
        def __init__(self, *arguments, w: int = 4, **settings):
            pass

    adds = {"x": (int, 1), "y": (float, 3.0), "z": (bool, False)}
    assert parameters(Adds) == parameters(Inherits) == adds
    assert parameters(AddsToAll) == adds | {"w": (int, 4)}
    assert parameters(Closed) == {"z": (bool, True)}

    class OfObject:
        def __init__(self, x: int = 1, **others):
            pass

    assert parameters(OfObject) == {"x": (int, 1)}


def scopes_of_all():
    return {"train": TrainSettings, "env": EnvSettings} | {x.scope: x for x in registry.ALGORITHMS.values()}


ALL = [(scope, name, *rest) for scope, x in scopes_of_all().items() for name, rest in parameters(x).items()]


@pytest.mark.parametrize("scope, name, annotation, default", ALL, ids=[f"{scope}.{name}" for scope, name, *_ in ALL])
def test_every_default_is_allowed_and_goes_through_a_gin_file(scope, name, annotation, default):
    assert same(checked(f"{scope}.{name}", default, annotation), default)
    ((_, value),) = config.read([], [f"{scope}.{name} = {default!r}"]).items()
    assert same(checked(f"{scope}.{name}", value, annotation), default)


# What other libraries call it.


def hint(line):
    with pytest.raises(UserError) as caught:
        run_settings.read([], [line])
    message = str(caught.value)
    assert message.startswith(f"unknown setting {line.split(' = ')[0]}: ") and "\n" not in message
    return message.partition(": ")[2]


@pytest.mark.parametrize(
    "line, meant",
    [
        ("SAC.gamma = 0.9", "did you mean discount?"),
        ("SAC.lr = 0.1", "did you mean policy_learning_rate and q_learning_rate?"),
        ("SAC.learning_rate = 0.1", "did you mean policy_learning_rate and q_learning_rate?"),
        ("SAC.ent_coef = 0.1", "did you mean initial_alpha?"),
        ("SAC.alpha = 0.1", "did you mean initial_alpha?"),
        ("SAC.polyak = 0.1", "did you mean tau?"),
        ("SAC.net_arch = (8,)", "did you mean policy_hidden_units and critic_hidden_units?"),
        ("SAC.buffer_size = 10", "did you mean train.replay_capacity?"),
        ("train.buffer_size = 10", "did you mean train.replay_capacity?"),
        ("train.learning_starts = 10", "did you mean train.start_steps?"),
        ("train.total_timesteps = 10", "did you mean train.total_steps?"),
        ("train.gradient_steps = 10", "did you mean train.updates_per_step?"),
        ("train.n_envs = 10", "did you mean train.num_envs?"),
        ("train.env = 'X'", "did you mean env.id?"),
        ("train.env_kwargs = {}", "did you mean env.kwargs?"),
        ("train.max_episode_steps = 10", "did you mean env.max_episode_steps?"),
        ("env.render_mode = 'human'", "did you mean env.kwargs?"),
        ("train.Gamma = 10", "did you mean discount?"),
    ],
)
def test_other_libraries_names_are_understood(line, meant):
    assert hint(line) == meant


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS.values())
@pytest.mark.parametrize("name", config.OTHER_NAMES)
def test_a_hint_names_only_what_can_be_set_in_this_run(algorithm, name):
    known = {
        known
        for scope, x in run_settings.scopes(algorithm).items()
        for parameter in parameters(x)
        for known in (parameter, f"{scope}.{parameter}")
    }
    with pytest.raises(UserError) as caught:
        run_settings.read([], [f"train.algorithm = {algorithm.name!r}", f"x.{name} = 1"])
    meant = str(caught.value).partition("did you mean ")[2].rstrip("?").replace(" or ", " and ").split(" and ")
    assert meant == [""] or set(meant) <= known


# The environment as a value.


def made(**settings):
    return EnvSettings("Walk-v0")._replace(**settings).make()


def episode(env):
    """Rewards of an episode of Walk with the action 0, which is 1 in its own units and costs 1 a step."""
    env.reset(seed=0)
    rewards, over = [], False
    while not over:
        _, reward, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
        rewards.append(reward)
        over = terminated or truncated
    return rewards


ADD, TIMES = "envs_for_tests:AddToReward", "envs_for_tests:TimesReward"


@pytest.mark.parametrize(
    "settings, rewards",
    [
        ({}, [-1.0] * 7),
        ({"kwargs": {"length": 3}}, [-1.0] * 3),
        ({"max_episode_steps": 2}, [-1.0] * 2),
        ({"wrappers": (ADD,)}, [0.0] * 7),
        ({"wrappers": ((ADD, {"amount": 5}),)}, [4.0] * 7),
        ({"wrappers": ((ADD, {"amount": 5}), (TIMES, {"factor": 10}))}, [40.0] * 7),
        ({"wrappers": ((TIMES, {"factor": 10}), (ADD, {"amount": 5}))}, [-5.0] * 7),
        ({"wrappers": (("TransformReward", {"func": None}),)}, None),
        ({"wrappers": (("ClipReward", {"min_reward": -0.25}),)}, [-0.25] * 7),
        ({"wrappers": (("gymnasium.wrappers:ClipReward", {"min_reward": -0.25}),)}, [-0.25] * 7),
        ({"kwargs": {"length": 9}, "max_episode_steps": 4, "wrappers": (ADD, ADD)}, [1.0] * 4),
    ],
    ids=repr,
)  # fmt: skip
def test_the_environment_is_made_as_its_value_says(settings, rewards):
    if rewards is None:  # taken, but of no use
        with pytest.raises(RunError, match="'NoneType' object is not callable"):
            episode(made(**settings))
    else:
        assert episode(made(**settings)) == rewards


def test_keyword_arguments_of_gymnasiums_own():
    """Ant-v5 shows 105 numbers, 78 of them contact forces."""
    plain, without = (
        EnvSettings("Ant-v5", kwargs=kwargs).make() for kwargs in ({}, {"include_cfrc_ext_in_observation": False})
    )
    assert plain.observation_space.shape == (105,) and without.observation_space.shape == (27,)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"kwargs": {"lenght": 3}}, "unexpected keyword argument 'lenght'"),
        ({"kwargs": {"id": "X"}}, "cannot make environment 'Walk-v0': TypeError"),
        ({"wrappers": ("TimeAwareObservatoin",)}, "env.wrappers = 'gymnasium.wrappers:TimeAwareObservatoin': cannot"),
        ({"wrappers": ("nowhere:X",)}, "env.wrappers = 'nowhere:X': cannot be imported: ModuleNotFoundError"),
        ({"wrappers": ("envs_for_tests:X",)}, "cannot be imported: AttributeError"),
        ({"wrappers": ((ADD, {"amuont": 1}),)}, "unexpected keyword argument 'amuont'"),
        ({"wrappers": (TIMES,)}, "missing 1 required positional argument: 'factor'"),
        ({"wrappers": ("envs_for_tests:WALKS",)}, "'dict' object is not callable"),
        ({"wrappers": ("NormalizeObservation",)}, "NormalizeObservation keeps statistics that"),
        ({"wrappers": ("NormalizeReward",)}, "that stays, with TransformReward or SACv1.reward_scale"),
        ({"wrappers": (("FrameStackObservation", {"stack_size": 2}),)}, "expected a flat Box observation"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_made_is_one_line(settings, words):
    with pytest.raises(UserError) as caught:
        made(**settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)


FULL = [
    "env.id = 'envs_for_tests:Walk-v0'",
    "env.kwargs = {'length': 9, 'ends': ['terminated']}",
    f"env.wrappers = [({ADD!r}, {{'amount': 5}}), ({TIMES!r}, {{'factor': 10.0}})]",
    "env.max_episode_steps = 4",
    "env.training_kwargs = {'ends': ['truncated']}",
    f"env.training_wrappers = [{ADD!r}]",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run whose environment has some of everything."""
    logdir = tmp_path_factory.mktemp("whole") / "run"
    run_here(logdir, [*bindings(total_steps=24, start_steps=100), *FULL])
    return logdir


def test_the_whole_value_is_kept_in_the_run(whole):
    expected = EnvSettings(
        "envs_for_tests:Walk-v0",
        {"length": 9, "ends": ("terminated",)},
        ((ADD, {"amount": 5}), (TIMES, {"factor": 10.0})),
        4,
        {"ends": ("truncated",)},
        (ADD,),
    )
    assert EnvSettings(**run_settings.read([whole / "config.gin"], [])["env"]) == expected
    assert checkpoint.restore(whole / "checkpoints").env == expected
    assert {row["length"] for row in rows(whole / "episodes.csv")} == {"4"}
    assert checkpoint.restore(whole / "checkpoints").env.modules() == [expected.id, ADD, TIMES, ADD]  # to be trusted


def test_evaluation_uses_it(whole):
    act, env = load(whole, None, trusted=["envs_for_tests"])
    assert episode(env) == [40.0] * 4 and env.unwrapped.length == 9
    assert isinstance(env.unwrapped.ends, tuple) and isinstance(env.unwrapped, Walk)
    assert act(np.zeros(3, np.float32)).shape == (1,)


def test_a_resumed_run_uses_it(whole, tmp_path):
    """Though JSON has made lists of its tuples."""
    assert run_here(whole, ["train.total_steps = 32", FULL[0]], resume=True) == 32
    assert {row["length"] for row in rows(whole / "episodes.csv")} == {"4"}


@pytest.mark.parametrize(
    "change",
    ["env.kwargs = {'length': 9}", "env.wrappers = []", "env.max_episode_steps = 5", "env.max_episode_steps = None"],
)
def test_a_resumed_run_cannot_change_it(whole, change):
    with pytest.raises(UserError, match=f"{change.split(' = ')[0]} was .* so far and cannot become"):
        run_here(whole, [FULL[0], change], resume=True)


def test_a_wrappers_module_is_imported_only_when_the_user_repeats_it(tmp_path):
    """The environment itself is Gymnasium's own, and says nothing of a module."""
    (tmp_path / "my_wrappers.py").write_text(
        "import gymnasium\nopen('imported', 'w').close()\nclass Mine(gymnasium.Wrapper):\n    pass\n"
    )
    params = [
        *bindings(total_steps=16, start_steps=100, eval_every=None),
        "env.wrappers = ['my_wrappers:Mine', 'TimeAwareObservation']",
    ]
    done = run("tfsac.train", "--logdir=run", *flags(params), cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    (tmp_path / "imported").unlink()
    words = "would import the module 'my_wrappers': if you trust it, add --trust=my_wrappers\n"
    for command, more in (("tfsac.train", ["--resume"]), ("tfsac.evaluate", ["--episodes=1"])):
        done = run(command, "--logdir=run", *more, cwd=tmp_path)
        assert done.status == 2 and done.err.endswith(words) and done.err.count("\n") == 1
        assert not (tmp_path / "imported").exists()
        done = run(command, "--logdir=run", *more, "--trust=my_wrappers", cwd=tmp_path)
        assert (done.status, done.err) == (0, "")
        (tmp_path / "imported").unlink()


def test_ids_are_said_in_three_ways_that_mean_one():
    one, other = (run_settings.read([], [f"{name} = 'Reacher-v5'"]) for name in ("env.id", "train.env_id"))
    assert one == other and one["env"]["id"] == "Reacher-v5" and "env_id" not in one["train"]
    assert run_settings.read([], ["env.id = 'A-v0'", "train.env_id = 'B-v0'"])["env"]["id"] == "B-v0"  # the later wins


@pytest.mark.parametrize(
    "params, algorithm",
    [
        ([], "crossq"),
        (["env.id = 'Walk'"], "crossq"),
        (["SAC.tau = 0.01"], "sac"),
        (["SACv1.tau = 0.01", "SACv1.discount = 0.9"], "sac_v1"),
        (["CrossQ.discount = 0.9"], "crossq"),
        (["train.algorithm = 'sac'"], "sac"),
    ],
)
def test_without_a_name_the_algorithm_is_that_of_its_settings(params, algorithm):
    assert run_settings.read([], params)["train"]["algorithm"] == algorithm


@pytest.mark.parametrize(
    "params", [["SAC.tau = 0.01", "CrossQ.discount = 0.9"], ["train.algorithm = 'sac_v1'", "SAC.tau = 1"]]
)
def test_settings_of_two_algorithms_are_one_too_many(params):
    with pytest.raises(UserError, match="unknown setting SAC.tau"):
        run_settings.read([], params)


def test_the_scope_of_an_algorithm_is_its_own():
    """Its name in gin files, which is not its class's."""
    for algorithm in registry.ALGORITHMS.values():
        settings = run_settings.read([], [f"train.algorithm = {algorithm.name!r}"])
        assert settings.keys() == {"train", "env", algorithm.scope}
        assert settings[algorithm.scope].keys() == parameters(algorithm).keys()
    assert typing.get_type_hints(TrainSettings).keys() == set(TrainSettings._fields)
