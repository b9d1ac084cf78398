"""The device's runner: what it answers, and what it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tfsac import tflite
from tfsac.device_kit import FOLDER, run_policy
from tfsac.networks import policy_network
from tfsac.numpy_policy import NumpyPolicy

LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)
RUNNER = FOLDER / "run_policy.py"


@pytest.fixture(scope="module")
def weights():
    return {x.path: x.numpy() for x in policy_network(3, 2, [16], seed=1).variables}


@pytest.fixture(scope="module")
def expected(weights):
    numpy_policy = NumpyPolicy(weights)
    return lambda observation: LOW + (numpy_policy.deterministic(observation) + 1) / 2 * (HIGH - LOW)


@pytest.fixture(scope="module")
def policy_file(weights, expected, tmp_path_factory):
    observations = np.random.default_rng(0).normal(size=[4, 3])
    golden = {
        "observation": observations.tolist(),
        "action": [expected(x).tolist() for x in observations],
        "tolerance": 1e-5,
    }
    facts = {
        "observation": {"low": [-3.0] * 3, "high": [3.0] * 3},
        "action": {"low": LOW.tolist(), "high": HIGH.tolist()},
        "golden": golden,
    }
    path = tmp_path_factory.mktemp("policy") / "policy.tflite"
    path.write_bytes(tflite.embed(tflite.convert(weights, LOW, HIGH, "float32"), facts))
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


def test_a_file_without_tfsacs_metadata_is_refused(weights, tmp_path):
    path = tmp_path / "bare.tflite"
    path.write_bytes(tflite.convert(weights, LOW, HIGH, "float32"))
    with pytest.raises(ValueError, match="no metadata of tfsac"):
        run_policy.Policy(path)


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
