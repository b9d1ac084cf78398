"""gin files: the right settings or one clear line, and never anything run."""

import sys
from pathlib import Path

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfsac.algorithms import registry
from tfsac.algorithms.crossq import CrossQ
from tfsac.algorithms.sac import SAC
from tfsac.algorithms.sac_v1 import SACv1
from tfsac.data.envs import EnvSettings
from tfsac.errors import UserError
from tfsac.run import config
from tfsac.run import settings as run_settings
from tfsac.run.loop import TrainSettings, make_agent

CONFIGURABLES = run_settings.scopes(SAC)
GIN = Path(__file__).parents[1] / "gin"


def resolved(*params):
    return config.resolve(config.read([], params), CONFIGURABLES)


def refused(*params):
    """The message with which the bindings are refused, once it is found to be one line."""
    with pytest.raises(UserError) as caught:
        resolved(*params)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_those_of_the_functions():
    settings = resolved()
    assert settings["train"]["batch_size"] == 256 and settings["train"]["algorithm"] == "crossq"
    assert settings["SAC"]["tau"] == 0.005 and settings["SAC"]["target_entropy"] is None
    assert "observation_dim" not in settings["SAC"] and "seed" not in settings["SAC"]  # the loop's own business
    assert settings["env"] == EnvSettings()._asdict() and settings["train"] == TrainSettings()._asdict()


def test_bindings_go_over_the_defaults_and_the_later_ones_win(tmp_path):
    first, second = tmp_path / "a.gin", tmp_path / "b.gin"
    first.write_text("# why\ntrain.seed = 1\nSAC.tau = 0.1  # why\nSAC.discount = 0.5\n")
    second.write_text("SAC.tau = 0.2\nSAC.discount = 0.6\n")
    found = config.resolve(config.read([first, second], ["SAC.discount = 0.7"]), CONFIGURABLES)
    assert (found["train"]["seed"], found["SAC"]["tau"], found["SAC"]["discount"]) == (1, 0.2, 0.7)


@pytest.mark.parametrize(
    "binding, value",
    [
        ("train.total_steps = 1e6", 1_000_000),
        ("train.total_steps = 10_000", 10_000),
        ("train.start_steps = 0", 0),
        ("env.id = 'a:B/c-v0'", "a:B/c-v0"),
        ("SAC.initial_alpha = 1", 1.0),
        ("SAC.alpha_learning_rate = 0", 0.0),
        ("SAC.target_entropy = -3", -3.0),
        ("SAC.target_entropy = None", None),
        ("SAC.critic_hidden_units = [64, 1e2]", (64, 100)),
        ("SAC.critic_hidden_units = (64,)", (64,)),
        ("SAC.observation_scale = [1, 0.5]", (1.0, 0.5)),
        ("SAC.observation_scale = None", None),
    ],
)
def test_a_value_becomes_the_type_that_is_asked_for(binding, value):
    scope, parameter = binding.split(" = ")[0].split(".")
    received = resolved(binding)[scope][parameter]
    assert received == value and type(received) is type(value)
    assert str(received) == str(value)  # the elements of a tuple, too


@pytest.mark.parametrize(
    "binding, words",
    [
        ("train.total_steps = 1.5", "train.total_steps: expected a whole number, received 1.5"),
        ("train.total_steps = '5'", "expected a whole number, received '5'"),
        ("train.total_steps = True", "expected a whole number, received True"),
        ("train.total_steps = None", "expected a whole number, received None"),
        ("train.total_steps = [5]", "expected a whole number"),
        ("train.total_steps = 1e30", "expected a whole number"),
        ("train.total_steps = 1e999", "expected a whole number"),
        ("train.total_steps = 0", "train.total_steps: expected a number above 0, received 0"),
        ("train.batch_size = -1", "train.batch_size: expected a number above 0, received -1"),
        ("train.start_steps = -1", "expected a number 0 or more"),
        ("train.collectors = -1", "expected a number 0 or more"),
        ("train.seed = -1", "expected a number from 0 to 2147483647"),
        ("train.seed = 2147483648", "expected a number from 0 to 2147483647"),
        ("train.env_id = 5", "env.id: expected text in quotes, received 5"),
        ("env.id = 5", "env.id: expected text in quotes, received 5"),
        ("env.id = Pendulum", "Failed to parse token 'Pendulum'"),
        ("train.algorithm = 5", "train.algorithm: expected text in quotes, received 5"),
        ("SAC.tau = True", "SAC.tau: expected a number, received True"),
        ("SAC.tau = '0.1'", "SAC.tau: expected a number, received '0.1'"),
        ("SAC.tau = None", "SAC.tau: expected a number, received None"),
        ("SAC.tau = 1e999", "SAC.tau: expected a number, received inf"),
        (f"SAC.target_entropy = 0x{'f' * 400}", "SAC.target_entropy: expected a number"),
        ("SAC.tau = 0", "SAC.tau: expected a number above 0, up to 1, received 0.0"),
        ("SAC.discount = 1.1", "expected a number from 0 to 1"),
        ("SAC.initial_alpha = 0", "expected a number above 0"),
        ("SAC.critic_hidden_units = 256", "expected a list of numbers such as (256, 256), received 256"),
        ("SAC.critic_hidden_units = ()", "expected a list of numbers"),
        ("SAC.critic_hidden_units = (0,)", "expected a number above 0"),
        ("SAC.observation_scale = (1.0, 0.0)", "SAC.observation_scale: expected a number above 0, received 0.0"),
        ("SAC.critic_hidden_units = (8, 'x')", "expected a whole number, received 'x'"),
        (f"train.total_steps = 0x{'f' * 5000}", "expected lines of the form name.parameter = literal"),
        (f"train.total_steps = {'(' * 5000}1{')' * 5000}", "expected lines of the form name.parameter = literal"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_or_out_of_range_is_refused(binding, words):
    assert words in refused(binding)


@pytest.mark.parametrize(
    "binding, near",
    [
        ("train.total_step = 5", "unknown setting train.total_step: did you mean train.total_steps or"),
        ("trian.seed = 5", "did you mean train.seed"),
        ("SAC.qlr = 5", "unknown setting SAC.qlr"),
        ("sac.tau = 0.5", "did you mean"),
        ("SACv1.reward_scale = 5.0", "unknown setting SACv1.reward_scale"),
        ("SAC.observation_dim = 5", "unknown setting SAC.observation_dim"),
        ("train.logdir = 'x'", "unknown setting train.logdir"),
        ("tfsac.SAC.tau = 0.5", "unknown setting tfsac.SAC.tau: did you mean SAC.tau"),
        ("zzz.qqq = 5", "this run has train.algorithm, "),
    ],
)
def test_a_binding_that_nothing_reads_is_refused_with_what_is_near(binding, near):
    assert near in refused(binding)


@pytest.mark.parametrize(
    "line, words",
    [
        ("import trap", "import in line 1"),
        ("from trap import x", "in line 1"),
        ("include 'other.gin'", "include in line 1"),
        ("SAC.tau = @trap", "@trap names a Python object"),
        ("SAC.tau = @trap()", "@trap names a Python object"),
        ("SAC.critic_hidden_units = [8, @trap()]", "@trap names a Python object"),
        ("SAC.tau = %TAU", "%TAU names a macro"),
        ("TAU = 0.5", "'TAU = 0.5' binds no name.parameter"),
        ("total_steps = 5", "'total_steps = 5' binds no name.parameter"),
        ("evaluation/SAC.tau = 0.5", "binds no name.parameter"),
        ("SAC.tau = open('trap')", "expected lines of the form name.parameter = literal"),
        ("SAC.tau = 1 + 1", "expected lines of the form name.parameter = literal"),
        ("SAC.tau", "expected lines of the form name.parameter = literal"),
        ("SAC.tau =", "expected lines of the form name.parameter = literal"),
        ("'", "expected lines of the form name.parameter = literal"),
    ],
)
def test_all_but_literals_is_refused_and_nothing_is_run(tmp_path, monkeypatch, line, words):
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    (tmp_path / "other.gin").write_text("SAC.tau = 0.5")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert words in refused(line)
    path = tmp_path / "settings.gin"
    path.write_text(line)
    with pytest.raises(UserError) as caught:
        config.read([path], [])
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "trap" not in sys.modules and not (tmp_path / "sprung").exists()


def test_a_file_of_a_windows_editor_is_read(tmp_path):
    path = tmp_path / "windows.gin"
    path.write_bytes("\ufefftrain.seed = 1\r\n# größer\r\nSAC.tau = 0.5\r\n".encode())
    assert config.read([path], []) == {"train.seed": 1, "SAC.tau": 0.5}


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="no such gin file: .*missing.gin"):
        config.read([tmp_path / "missing.gin"], [])
    with pytest.raises(UserError, match="no such gin file"):
        config.read([tmp_path], [])
    path = tmp_path / "latin1.gin"
    path.write_bytes("SAC.tau = 0.5  # größer".encode("latin1"))
    with pytest.raises(UserError, match="cannot read .*latin1.gin"):
        config.read([path], [])


# Odd inputs. What is known of a value: whether it must be taken, and as what.

numbers = st.one_of(st.integers(-10, 10), st.integers(), st.floats(), st.sampled_from([1e6, 2.0**63, -0.0, 10**400]))
literals = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(), st.binary(), st.complex_numbers()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(st.text(), inner, max_size=2)
    ),
    max_leaves=6,
)


def is_whole(x):
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 2**63 and x == int(x)


EXPECTED = {
    "train.total_steps": (lambda x: is_whole(x) and x > 0, int),
    "train.start_steps": (lambda x: is_whole(x) and x >= 0, int),
    "env.id": (lambda x: x is None or isinstance(x, str), lambda x: x),
    "SAC.discount": (
        lambda x: isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1,
        float,
    ),
    "SAC.policy_hidden_units": (
        lambda x: isinstance(x, list | tuple) and len(x) > 0 and all(is_whole(y) and y > 0 for y in x),
        lambda x: tuple(map(int, x)),
    ),
}


def takes_or_refuses(name, value):
    is_right, convert = EXPECTED[name]
    scope, parameter = name.split(".")
    try:
        received = resolved(f"{name} = {value!r}")[scope][parameter]
    except UserError as error:
        assert "\n" not in str(error)
        assert not is_right(value), error
    else:
        assert is_right(value)
        assert received == convert(value) and type(received) is type(convert(value))


right_values = st.one_of(
    st.integers(0, 2**62), st.floats(0, 1), st.text(), st.lists(st.integers(1, 1000), min_size=1, max_size=5)
)


@settings(max_examples=500)
@given(st.sampled_from(sorted(EXPECTED)), st.one_of(literals, right_values))
def test_any_literal_is_taken_rightly_or_refused(name, value):
    takes_or_refuses(name, value)


def read_or_refused(text):
    try:
        bindings = config.read([], [text])
        config.resolve(bindings, CONFIGURABLES)
    except UserError as error:
        assert "\n" not in str(error)


WORDS = [
    "train.", "SAC.", "total_steps", "tau", "=", "5", "1e6", "0x", "-", "1j", "'a'", "import", "include", "from",
    "None", "True", "lambda", "é", "(", ")", "[", "]", "{", "}", ",", ":", "@", "%", "/", "\\", "#", '"', "'''", "~",
    "+", ".", ";", " ", "\n", "\t", "\r", "\x00", "\x0c", "\u2028", "\ufeff",
]  # fmt: skip
pieces = st.sampled_from(WORDS)
gin_like = st.one_of(
    st.text(),
    st.lists(pieces, max_size=12).map("".join),
    st.lists(pieces, max_size=8).map(lambda words: "train.total_steps = " + "".join(words)),
)


@settings(max_examples=700)
@given(gin_like)
def test_any_text_is_read_or_refused(text):
    read_or_refused(text)


@pytest.mark.slow
@settings(max_examples=50_000, derandomize=False)
@given(st.sampled_from(sorted(EXPECTED)), st.one_of(literals, right_values))
def test_any_literal_for_long(name, value):
    takes_or_refuses(name, value)


@pytest.mark.slow
@settings(max_examples=50_000, derandomize=False)
@given(gin_like)
def test_any_text_for_long(text):
    read_or_refused(text)


whole = st.integers(1, 2**62)
all_settings = st.fixed_dictionaries(
    {
        "env.id": st.text(),
        "train.seed": st.integers(0, 2**31 - 1),
        "train.total_steps": whole,
        "SAC.discount": st.floats(0, 1),
        "SAC.target_entropy": st.none() | st.floats(-1e18, 1e18),
        "SAC.q_learning_rate": st.floats(0, 1e18, exclude_min=True),
        "SAC.policy_hidden_units": st.lists(whole, min_size=1, max_size=4).map(tuple),
    }
)


@given(all_settings)
def test_what_is_written_reads_back_as_it_was(tmp_path_factory, bindings):
    settings = config.resolve(bindings, CONFIGURABLES)
    path = tmp_path_factory.getbasetemp() / "config.gin"
    path.write_text(config.write(settings), encoding="utf-8")
    assert config.resolve(config.read([path], []), CONFIGURABLES) == settings


def test_all_settings_are_written():
    bindings = config.read([], [])
    settings = config.resolve(bindings, CONFIGURABLES)
    lines = config.write(settings).splitlines()
    assert lines[0].startswith("#")
    assert len([line for line in lines if " = " in line]) == sum(len(values) for values in settings.values())


# The files in gin/.

FILES = sorted(str(path.relative_to(GIN)) for path in GIN.glob("**/*.gin"))
ALGORITHMS = {
    "v1": SACv1,
    "sac": SAC,
    "robust": SAC,
    "reacher.gin": SAC,
    "furuta.gin": SAC,
    "furuta_settle.gin": SAC,
    "furuta_anneal.gin": SAC,
    "dm_control_pendulum_swingup.gin": SAC,
}  # by folder or file; of others CrossQ


def test_every_task_of_gymnasiums_mujoco_has_a_file_and_data_is_all_there_is():
    ids = [run_settings.read([GIN / name], [])["env"]["id"] for name in FILES if "/" not in name]
    mujoco = {
        spec.id for spec in gym.registry.values()
        if str(spec.entry_point).startswith("gymnasium.envs.mujoco.") and spec.version == 5
    }  # fmt: skip
    assert mujoco and mujoco <= set(ids)
    assert not list(GIN.glob("**/*.py"))  # which would shadow the gin library


def test_every_file_has_a_result():
    pages = ("results", "crossq-trials", "robustness", "furuta")
    results, trials, robustness, furuta = ((GIN.parent / "docs" / f"{page}.md").read_text() for page in pages)
    tables = (results + trials).splitlines()
    for name in FILES:
        task = run_settings.read([GIN / name], [])["env"]["id"].rpartition(":")[2]
        rows = [line for line in tables if line.startswith("| ") and task in line]
        assert rows or f"gin/{name}" in robustness + furuta, name


@pytest.mark.parametrize("name", FILES)
def test_a_gin_file_is_short_and_builds(name):
    path = GIN / name
    lines = path.read_text().splitlines()
    bindings = config.read([path], [])
    furuta = "furuta" in name  # a machine with all that a real one has
    assert 2 <= len(bindings) <= (18 if furuta else 11) and len(lines) <= len(bindings) + 3
    settings = run_settings.read([path], [])
    if "dm_control" in name:
        pytest.importorskip("dm_control", reason="dm_control is an optional extra, not made for Python 3.13")
        pytest.importorskip("shimmy")
    env = EnvSettings(**settings["env"]).make()
    algorithm = registry.find(settings["train"]["algorithm"])
    assert algorithm is ALGORITHMS.get(name, ALGORITHMS.get(str(Path(name).parent), CrossQ))
    agent = make_agent(settings, env)
    assert agent.policy.input_shape == (None, env.observation_space.shape[0])
