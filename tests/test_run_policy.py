"""The device's runner: what it answers, and what it refuses."""

import contextlib
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_policy import deployable, expected_actions, random_policy

from tfsac.deploy import facts
from tfsac.deploy.device_kit import FOLDER, run_policy
from tfsac.deploy.formats import tflite

LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)
RUNNER = FOLDER / "run_policy.py"


@pytest.fixture(scope="module")
def policy():
    return random_policy([3, 16, 2], seed=1)


@pytest.fixture(scope="module")
def expected(policy):
    return lambda observation: expected_actions(policy, observation, LOW, HIGH)


@pytest.fixture(scope="module")
def policy_file(policy, expected, tmp_path_factory):
    states = np.random.default_rng(0).normal(size=[4, 3])
    golden = {"observation": states.tolist(), "action": expected(states).tolist(), "tolerance": 1e-5}
    path = tmp_path_factory.mktemp("policy") / "policy.tflite"
    tflite.TFLite("float32").write(path, deployable(policy, LOW, HIGH, states, golden=golden))
    return path


def command(*arguments, given=""):
    """-> exit status, lines of standard output, lines of standard error that are not LiteRT's own notices."""
    done = subprocess.run(
        [sys.executable, str(RUNNER), *map(str, arguments)], input=given, capture_output=True, text=True
    )
    errors = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    return done.returncode, done.stdout.splitlines(), errors


def test_the_library_answers_as_the_policy_that_was_trained(policy_file, expected):
    policy = run_policy.Policy(policy_file)
    for observation in np.random.default_rng(1).normal(size=[20, 3]):
        np.testing.assert_allclose(policy(observation), expected(observation), atol=1e-5)


@pytest.mark.parametrize("wrong", [[1, 2], [1, 2, 3, 4], [1, np.nan, 3], [np.inf, 0, 0], [[1, 2, 3]], []])
def test_the_library_refuses_what_is_no_observation(policy_file, wrong):
    with pytest.raises(ValueError, match="expected 3 numbers|NaN or infinity"):
        run_policy.Policy(policy_file)(wrong)


def test_large_but_finite_observations_are_answered(policy_file):
    assert np.all(np.isfinite(run_policy.Policy(policy_file)([1e30, -1e30, 1e38])))


def test_lines_in_lines_out(policy_file, expected):
    status, out, errors = command(policy_file, given="0.1 0.2 -0.3\n1 2 3\n")
    assert (status, errors) == (0, [])
    np.testing.assert_allclose(np.array(out[0].split(), float), expected(np.array([0.1, 0.2, -0.3])), atol=1e-5)
    assert len(out) == 2


def test_a_faulty_line_leaves_one_line_and_no_action(policy_file):
    status, out, errors = command(policy_file, given="1 2\n0 0 0\n1 nan 2\n1 x 2\n\n0 0 0\n")
    assert status == 1
    assert len(out) == 2
    assert [error.split(":")[0] for error in errors] == ["line 1", "line 3", "line 4", "line 5"]


def test_observations_outside_the_training_range_are_counted(policy_file):
    status, out, errors = command(policy_file, given="0 0 0\n0 0 3.5\n-9 0 0\n")
    assert status == 0 and len(out) == 3
    assert errors == ["2 of 3 observations lay outside the range seen in training"]


def test_info_and_selftest(policy_file):
    status, out, _ = command(policy_file, "--info")
    assert status == 0 and json.loads("\n".join(out))["action"]["high"] == HIGH.tolist()
    status, out, _ = command(policy_file, "--selftest")
    assert status == 0 and out[0].startswith("passed")


def test_selftest_fails_where_the_file_computes_something_else(policy_file, tmp_path):
    policy = run_policy.Policy(policy_file)
    policy.facts["golden"]["action"][2][1] += 1e-3
    error, tolerance = run_policy.selftest(policy)
    assert error > tolerance


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"TFL3" * 100])
def test_what_is_no_policy_is_refused_with_one_line(content, tmp_path):
    path = tmp_path / "policy.tflite"
    if content is not None:
        path.write_bytes(content)
    status, out, errors = command(path)
    assert (status, out) == (2, [])
    assert len(errors) == 1 and errors[0].startswith("error: cannot load")


def test_a_file_without_tfsacs_metadata_is_refused(policy_file, tmp_path):
    path = tmp_path / "bare.tflite"
    path.write_bytes(tflite.with_facts(policy_file.read_bytes(), None))
    with pytest.raises(ValueError, match="no metadata of tfsac"):
        run_policy.Policy(path)


def stranger(policy_file, path, change):
    """The policy's file with metadata that change(facts) has been at."""
    facts = json.loads(json.dumps(run_policy.Policy(policy_file).facts))
    path.write_bytes(tflite.with_facts(policy_file.read_bytes(), change(facts)))
    return path


WRONG_FACTS = {
    "a list": lambda facts: [1, 2],
    "a number": lambda facts: 5,
    "nothing": lambda facts: {},
    "no observation": lambda facts: facts | {"observation": None},
    "other sizes": lambda facts: facts | {"observation": {"low": [0.0] * 4, "high": [1.0] * 4}},
    "text for a bound": lambda facts: facts | {"action": {"low": ["a", "b"], "high": [1.0, 1.0]}},
    "ragged vectors": lambda facts: facts | {"golden": facts["golden"] | {"observation": [[1.0], [1.0, 2.0]]}},
    "an empty golden": lambda facts: facts | {"golden": {}},
    "no vectors": lambda facts: facts | {"golden": facts["golden"] | {"observation": [], "action": []}},
    "a tolerance of text": lambda facts: facts | {"golden": facts["golden"] | {"tolerance": "1"}},
    "an environment of text": lambda facts: facts | {"environment": "Pendulum-v1"},
}


@pytest.mark.parametrize("change", WRONG_FACTS.values(), ids=WRONG_FACTS)
def test_metadata_of_a_strangers_is_refused_with_one_line(change, policy_file, tmp_path):
    with pytest.raises(ValueError, match="cannot load .*metadata") as error:
        run_policy.Policy(stranger(policy_file, tmp_path / "policy.tflite", change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"\xff\xfe", b"NaN"])
def test_metadata_that_is_no_json_is_refused_with_one_line(content, policy_file, tmp_path, monkeypatch):
    monkeypatch.setattr(tflite.json, "dumps", lambda *_, **__: content.decode("latin-1"))
    path = tmp_path / "policy.tflite"
    path.write_bytes(tflite.with_facts(policy_file.read_bytes(), {}))
    monkeypatch.undo()
    status, out, errors = command(path, "--selftest")
    assert (status, out, len(errors)) == (2, [], 1) and errors[0].startswith("error: cannot load")


@given(st.data())
def test_a_file_with_damaged_metadata_is_refused_or_runs(policy_file, data):
    content = bytearray(policy_file.read_bytes())
    begin = content.index(b'{"tfsac"')
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(begin, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = policy_file.parent / "damaged.tflite"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        run_policy.selftest(run_policy.Policy(path))


RELEASED = {  # Pendulum's and Reacher's by tfsac 0.1
    "ant": "Ant-v5",
    "bipedal_walker": "BipedalWalker-v3",
    "cheetah_run": "shimmy:dm_control/cheetah-run-v0",
    "furuta": "tfsac.data.furuta:Furuta-v0",
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "humanoid": "Humanoid-v5",
    "pendulum": "Pendulum-v1",
    "pendulum_swingup": "shimmy:dm_control/pendulum-swingup-v0",
    "reacher": "Reacher-v5",
    "reacher_hard": "shimmy:dm_control/reacher-hard-v0",
    "walker2d": "Walker2d-v5",
}


def test_released_files_are_still_read():
    paths = list(FOLDER.glob("policies/*/*.tflite"))
    assert {path.parent.name for path in paths} == set(RELEASED)
    for path in paths:
        policy = run_policy.Policy(path)
        error, tolerance = run_policy.selftest(policy)
        assert error <= tolerance
        assert facts.environment(policy.facts, path).id == RELEASED[path.parent.name]


@pytest.mark.parametrize(
    "env, cause",
    [
        ("Pendulum-v99", "cannot make the environment Pendulum-v99: VersionNotFound"),
        ("Nonsense", "cannot make the environment Nonsense"),
        ("no_such_module:Env-v0", "cannot make the environment no_such_module:Env-v0: ModuleNotFoundError"),
        ("MountainCarContinuous-v0", "has observations of shape (2,), the policy was trained on 3"),
        ("Pendulum-v1", "has actions of shape (1,), the policy was trained on 2"),
    ],
)
def test_a_wrong_environment_is_one_line(policy_file, env, cause):
    status, out, errors = command(policy_file, f"--env={env}", "--episodes=1")
    assert (status, out) == (2, [])
    assert errors[-1].startswith("error: ") and cause in errors[-1] and "Traceback" not in "".join(errors)


def test_without_gymnasium_the_cure_is_named(policy_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ValueError, match="--env needs gymnasium, which is not installed: pip install gymnasium"):
        run_policy.run_episodes(run_policy.Policy(policy_file), "Pendulum-v1", 1)


def test_what_separates_numbers_is_said(policy_file):
    status, out, errors = command(policy_file, given="1, 2, 3\n1;2;3\n")
    assert (status, out) == (1, [])
    assert errors == [
        "line 1: '1,' is no number: expected numbers with spaces between them",
        "line 2: '1;2;3' is no number: expected numbers with spaces between them",
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_number(policy_file):
    plain = command(policy_file, given="0.1 0.2 -0.3\n")
    assert command(policy_file, given="\ufeff0.1 0.2 -0.3\n") == plain and plain[0] == 0


@pytest.mark.parametrize("option", [[], ["--info"]])
def test_a_reader_that_leaves_is_no_traceback(policy_file, option):
    runner = subprocess.Popen(
        [sys.executable, RUNNER, policy_file, *option],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    runner.stdout.close()
    _, errors = runner.communicate("0 0 0\n" * 10)
    assert "Traceback" not in errors and "Exception" not in errors
    assert runner.returncode == 141


def test_ctrl_c_is_one_line(policy_file):
    runner = subprocess.Popen(
        [sys.executable, RUNNER, policy_file],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
        # A shell's job in the background ignores it, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    runner.stdin.write("0 0 0\n")
    runner.stdout.readline()  # by now it waits for the next line
    runner.send_signal(signal.SIGINT)
    runner.wait(timeout=600)
    lines = [line for line in runner.stderr.read().splitlines() if not line.startswith("INFO:")]
    assert (runner.returncode, lines) == (130, ["interrupted"])


def test_a_file_that_samples_asks_for_noise(policy, tmp_path):
    path = tmp_path / "policy_sample.tflite"
    tflite.TFLite("sample").write(path, deployable(policy, LOW, HIGH, np.zeros([4, 3])))
    with pytest.raises(ValueError, match="expected an observation and noise"):
        run_policy.Policy(path)([0, 0, 0])
    status, out, errors = command(path, given="0 0 0\n")
    assert (status, out, len(errors)) == (2, [], 1) and "wants noise with every observation" in errors[0]


def test_the_runner_needs_numpy_and_litert_only(policy_file):
    """Everything else that is installed is made impossible to import, except what LiteRT itself needs."""
    script = f"""
import sys, runpy
for name in ("tensorflow", "keras", "gymnasium", "tfsac", "absl", "matplotlib", "gin", "tensorflow_probability"):
    sys.modules[name] = None
sys.argv = ["run_policy.py", {str(policy_file)!r}, "--selftest"]
runpy.run_path({str(RUNNER)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
