"""An algorithm of someone's own, tests/own_algorithm.py, with all that the commands do, and no other file changed."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import TESTS, run, stopped
from runs import assert_same_state, bindings, flags, rows, run_here, state, tables

from tfsac.errors import UserError
from tfsac.run import checkpoint, config

TOY = "own_algorithm:Toy"
OPTIONS = {"total_steps": 400, "eval_every": 40, "checkpoint_every": 72, "num_envs": 2}
SETTINGS = [
    "Toy.normalise = True",
    "Toy.backup = 'mean'",
    "Toy.learning_rates = (2e-3, 1e-3)",
    "Toy.observation_scale = (1.0, 2.0, 0.125)",
]
PARAMS = [*bindings(TOY, **OPTIONS), *SETTINGS]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run of the command, and what it said; the algorithm's module is found by PYTHONPATH."""
    folder = tmp_path_factory.mktemp("own algorithm")
    return folder, run("tfsac.train", "--logdir=run", *flags(PARAMS), cwd=folder, PYTHONPATH=TESTS)


def test_it_is_trained_by_the_command(trained):
    folder, done = trained
    assert (done.status, done.err) == (0, "")
    assert "algorithm      Toy: " in done.out and "done at step 400" in done.out
    assert "  q " in done.out and "alpha" not in done.out  # the metrics that it chose to show
    metrics = rows(folder / "run" / "metrics.csv")
    assert list(metrics[0]) == ["step", "seconds", "steps_per_second", "q_loss", "policy_loss", "q"]
    assert all(np.isfinite(float(value)) for row in metrics for value in row.values())
    settings = config.read([folder / "run" / "config.gin"], [])
    assert (settings["train.algorithm"], settings["Toy.backup"], settings["Toy.normalise"]) == (TOY, "mean", True)
    assert settings["Toy.learning_rates"] == (2e-3, 1e-3)
    assert (folder / "run" / "losses.png").exists() and (folder / "run" / "returns.png").exists()


def test_its_whole_state_is_saved_and_has_moved(trained):
    arrays, facts, _ = state(trained[0] / "run")
    assert facts["step"] == 400
    parts = {name.split("/")[1] for name in arrays if name.startswith("agent/")}
    assert parts == {"gradient_steps", "policy", "critics", "targets", "optimizers"}
    assert any(np.any(x) for name, x in arrays.items() if name.endswith("moving_mean"))
    assert {name.split("/")[2] for name in arrays if name.startswith("agent/critics/")} == {"0", "1"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=str)
def test_stopped_and_resumed_it_is_the_same_bit_for_bit(trained, tmp_path, number):
    done = stopped(tmp_path, "run", PARAMS, number, 88)  # of two environments: about the 175th of its steps
    resume = ["tfsac.train", "--resume", "--logdir=run", "--trust=envs_for_tests", "--trust=own_algorithm"]
    if number == signal.SIGTERM:
        assert shlex.split(done.out.splitlines()[-1].partition("python -m ")[2]) == resume  # as it said, to the letter
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == (176 if number == signal.SIGTERM else 144)
    done = run(*resume, cwd=tmp_path, PYTHONPATH=TESTS)
    assert (done.status, done.err) == (0, "")
    assert_same_state(trained[0] / "run", tmp_path / "run")
    assert tables(trained[0] / "run") == tables(tmp_path / "run")


def test_its_module_is_imported_on_resume_only_when_the_user_repeats_it(trained):
    folder, again = trained[0], ["--resume", "--logdir=run"]
    done = run("tfsac.train", *again, cwd=folder, PYTHONPATH=TESTS)
    words = (
        "error: run/config.gin would import the module 'own_algorithm': if you trust it, add --trust=own_algorithm\n"
    )
    assert (done.status, done.out, done.err) == (2, "", words)
    for trust in (f"--gin_param=train.algorithm = '{TOY}'", "--trust=own_algorithm"):
        done = run("tfsac.train", *again, trust, cwd=folder, PYTHONPATH=TESTS)
        assert (done.status, done.err) == (0, "")


def test_a_run_that_only_claims_another_algorithm_imports_nothing(tmp_path):
    """In config.gin, where it is read first."""
    run_here(tmp_path / "run", bindings(total_steps=16, env_id="envs_for_tests:Walk-v0", eval_every=None))
    (tmp_path / "trap.py").write_text("open('sprung', 'w')\n")
    path = tmp_path / "run" / "config.gin"
    path.write_text(path.read_text().replace("train.algorithm = 'sac'", "train.algorithm = 'trap:Toy'"))
    for more in ([], ["--gin_param=train.algorithm = 'sac'"], ["--trust=envs_for_tests"]):
        done = run("tfsac.train", "--resume", "--logdir=run", *more, cwd=tmp_path, PYTHONPATH=TESTS)
        assert done.status == 2 and "would import the module" in done.err and done.err.count("\n") == 1
        assert not (tmp_path / "sprung").exists()


def test_it_is_evaluated_without_being_imported(trained):
    """What is deployed is a policy, whoever trained it."""
    folder = trained[0]
    done = run("tfsac.evaluate", "--logdir=run", "--episodes=1", "--json", cwd=folder)  # its module cannot be found
    assert (done.status, done.err) == (0, "")
    last = [row["return"] for row in rows(folder / "run" / "evaluations.csv") if row["step"] == "400"]
    assert json.loads(done.out)["returns"] == [float(x) for x in last]


@pytest.fixture(scope="module")
def exported(trained):
    folder = trained[0]
    done = run("tfsac.export", "--logdir=run", "--out=out", "--episodes=5", cwd=folder)
    assert done.status == 0, done.err + done.out
    return folder / "out", done


def test_it_is_exported_through_the_whole_ladder_without_being_imported(trained, exported):
    out, done = exported
    report = json.loads((out / "report.json").read_text())
    assert "FAILED" not in done.out
    files = {path.name for path in out.iterdir()}
    assert {
        "policy.tflite",
        "policy_float16.tflite",
        "policy_dynamic.tflite",
        "policy_int8.tflite",
        "policy.h",
    } <= files
    assert "saved_model" in files and report


def test_the_exported_policy_answers_as_the_network_does(trained, exported):
    """In its own process, where the algorithm builds its network anew and takes back its state."""
    folder = trained[0]
    program = (
        "import sys, numpy as np, tfsac\n"
        "agent = tfsac.load('run', trust=['own_algorithm'])\n"
        "observations = np.random.default_rng(0).normal(size=[50, 3]).astype('f')\n"
        "network = agent._loop.agent\n"
        "mu, _ = network.policy(np.float32(network.observation_scale) * observations, training=False)\n"
        "expected = 2 * np.tanh(mu)\n"  # Pendulum's torque reaches from -2 to 2
        "act = tfsac.load_policy('out/policy.tflite')\n"
        "received = np.array([act(x) for x in observations])\n"
        "assert np.ptp(expected) > 0.1\n"
        "np.testing.assert_allclose(received, expected, rtol=0, atol=4e-5)\n"  # 1e-5 of the span
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PYTHONPATH": f"{TESTS}:{Path(TESTS).parent}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_policy_that_does_not_fold_is_refused_as_the_run_begins(tmp_path):
    (tmp_path / "unfoldable.py").write_text(
        "from own_algorithm import Toy\n"
        "from tfsac.quiet_tensorflow import keras\n"
        "class Unfoldable(Toy):\n"
        "    def __init__(self, *args, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n"
        "        s = keras.Input([self.observation_dim], dtype='float32')\n"
        "        x = keras.layers.LayerNormalization(dtype='float32')(s)\n"
        "        heads = [keras.layers.Dense(self.action_dim, name=n, dtype='float32')(x) for n in ('mu', 'log_std')]\n"
        "        self.policy = keras.Model(s, heads)\n"
    )
    params = flags(bindings("sac", total_steps=16))[:-2] + ["--gin_param=train.algorithm = 'unfoldable:Unfoldable'"]
    done = run("tfsac.train", "--logdir=run", *params, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{TESTS}")
    assert done.status == 2 and "LayerNormalization" in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_mistake_in_it_is_one_line(tmp_path):
    (tmp_path / "broken.py").write_text("from own_algorithm import Toy\nclass Broken(Toy):\n    scope = ''\n")
    done = run("tfsac.train", "--gin_param=train.algorithm = 'broken:Broken'", cwd=tmp_path, PYTHONPATH=TESTS)
    assert done.status == 2 and "expected a subclass of tfsac.algorithms.agent.Agent with a scope" in done.err
    with pytest.raises(UserError, match="unknown setting Toy.backups: did you mean Toy.backup?"):
        run_here(tmp_path / "run", [*PARAMS, "Toy.backups = 'min'"])
    with pytest.raises(UserError, match=r"Toy.backup: expected one of \('min', 'mean'\), received 'max'"):
        run_here(tmp_path / "run", [*PARAMS, "Toy.backup = 'max'"])
