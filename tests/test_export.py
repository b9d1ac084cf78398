"""The export command: a complete directory or none, and a report that tells the truth."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from tfsac import artefact, config, export, ladder, train
from tfsac.device_kit import run_policy
from tfsac.errors import UserError
from tfsac.evaluate import load
from tfsac.rollout import rollout
from tfsac.sac import SAC


@pytest.fixture(scope="module", autouse=True)
def few_timed_calls():
    """Latencies are no matter here, and thousands of calls each would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "WARM_UP", 1)
        patch.setattr(ladder, "TIMED", 10)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run of Pendulum with tiny networks."""
    logdir = tmp_path_factory.mktemp("run")
    bindings = {
        "train.total_steps": 300, "train.start_steps": 100, "train.batch_size": 8, "train.eval_episodes": 1,
        "SAC.policy_hidden_units": (16, 16), "SAC.critic_hidden_units": (8,), "SAC.observation_scale": (4.0, 0.3, 0.1),
    }  # fmt: skip
    settings = config.resolve(bindings, {"train": train.train, "SAC": SAC})
    train.train(str(logdir), False, None, settings, **settings["train"])
    return logdir


@pytest.fixture(scope="module")
def out(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "pendulum"
    assert export.export(run, path, episodes=4)["passed"]
    return path


@pytest.fixture(scope="module")
def report(out):
    return json.loads((out / "report.json").read_text())


def test_every_artefact_and_the_kit_are_there(out):
    names = {path.name for path in out.iterdir()}
    assert {*export.FILES, "saved_model", "policy.h", "report.json", "report.md", "report.png"} <= names
    assert {"run_policy.py", "requirements.txt", "README.md", "c"} <= names


@pytest.mark.parametrize("name", export.FILES)
def test_every_file_describes_itself_and_the_report_names_its_sum(name, out, report):
    content = (out / name).read_bytes()
    assert report["artefacts"][name]["sha256"] == hashlib.sha256(content).hexdigest()
    facts = run_policy.Policy(out / name).facts
    assert facts["environment"]["id"] == "Pendulum-v1" and facts["environment"]["control_rate_hz"] == 20
    assert facts["observation"]["names"] == ["cos(theta)", "sin(theta)", "theta_dot"]
    assert facts["action"] | {"low": [-2.0], "high": [2.0]} == facts["action"]
    assert "train.total_steps = 300" in facts["training"]["gin"]
    assert facts["return"]["episodes"] == 4
    error, tolerance = run_policy.selftest(run_policy.Policy(out / name))
    assert error <= tolerance


def test_the_float_file_is_as_small_as_promised(out, report):
    entry = report["artefacts"]["policy.tflite"]
    metadata = entry["bytes"] - entry["bytes_without_metadata"]
    assert entry["bytes"] <= 1.05 * (4 * report["parameters"] + metadata + 6000)
    assert report["parameters"] == 3 * 16 + 16 + 16 * 16 + 16 + 16 + 1
    assert report["multiply_adds"] == 3 * 16 + 16 * 16 + 16


def test_evaluate_runs_artefacts_to_the_return_of_the_run(run, out, report):
    expected = rollout(*load(str(run), None), 4)[0]
    for name in ("policy.tflite", "saved_model"):
        act, env = load(None, str(out / name))
        np.testing.assert_allclose(rollout(act, env, 4)[0], expected, rtol=1e-4)
        assert report["artefacts"][name]["return"]["mean"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_runner_in_the_exported_directory_reaches_the_same_return(out, report):
    done = subprocess.run(
        [sys.executable, "run_policy.py", "policy.tflite", "--env=Pendulum-v1", "--episodes=4"],
        cwd=out, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = float(done.stdout.split()[1].rstrip(","))
    assert found == pytest.approx(report["artefacts"]["policy.tflite"]["return"]["mean"], rel=1e-4)


def test_the_sampling_file_is_no_policy_to_evaluate(out):
    with pytest.raises(UserError, match="noise"):
        artefact.load(out / "policy_sample.tflite")


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_evaluate_refuses_what_is_no_artefact(content, tmp_path):
    path = tmp_path / "policy.tflite"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match="expected a .tflite file or a SavedModel"):
        artefact.load(path)
    with pytest.raises(UserError, match="expected a SavedModel directory"):
        artefact.load(tmp_path)


def test_a_run_without_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="no checkpoint"):
        export.export(tmp_path / "none", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_someone_elses_is_left_alone(run, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UserError, match="is no export"):
        export.export(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_export_that_fails_half_way_leaves_nothing(run, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(export, "_tflite", fails)  # by then the SavedModel has been written
    with pytest.raises(OSError, match="disk full"):
        export.export(run, tmp_path / "out", episodes=2)
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_is_off_fails_the_ladder(run):
    """The checks can fail: a file whose actions are wrong by a thousandth of the span does."""
    restored = export.checkpoint.restore(run / "checkpoints")
    env = export.make_env("Pendulum-v1", unit_actions=False)
    reference = ladder.make_reference(restored.policy_weights, export._states(restored)[:50], env, 3)
    good = ladder.measure(reference.act, reference)
    assert all(ladder.check("float32", good, reference).values())
    off = ladder.measure(lambda x: np.clip(reference.act(x) + 4e-3, -2, 2), reference)
    assert not ladder.check("float32", off, reference)["action error"]
    outside = ladder.measure(lambda x: reference.act(x) * 2, reference)
    assert not ladder.check("int8", outside, reference)["finite and inside the bounds"]


def test_paired_difference_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1, half width 1.96 / sqrt(3).
    found = ladder.paired_difference([2, 4, 6], [1, 2, 3])
    assert found["mean"] == 2
    assert found["high"] - found["mean"] == pytest.approx(1.96 / 3**0.5)
