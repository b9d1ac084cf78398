"""Environments in processes: the transitions of environments stepped in turn, taken beside the learner."""

import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import envs_for_tests  # noqa: F401  registers the environments
import numpy as np
import pytest
from commands import TESTS, run, stopped
from runs import assert_same_state, bindings, run_here, state, tables

from tfsac.data.collector import BehaviourPolicy, Collector
from tfsac.data.envs import EnvSettings
from tfsac.data.process_collector import ProcessCollector
from tfsac.errors import NonFiniteError, RunError, UserError
from tfsac.policy import Layer, Policy
from tfsac.run import checkpoint

TAG, COUNT = 0, 1  # what Walk's observations begin with


def env(name):
    return EnvSettings(name if "-v" not in name or "Pendulum" in name or "Hopper" in name else f"envs_for_tests:{name}")


def acting(observation_dim=3, action_dim=1, start_steps=10):
    rng = np.random.default_rng(7)
    mu = Layer(rng.standard_normal([observation_dim, action_dim]).astype("f"), np.zeros(action_dim, "f"))
    log_std = Layer(np.zeros([observation_dim, action_dim], "f"), np.full(action_dim, -1, "f"))
    return BehaviourPolicy(Policy((), mu, log_std), action_dim, start_steps, np.random.default_rng(0))


def always(action):
    """A policy whose action is tanh(action), without noise to speak of."""
    mu, log_std = (Layer(np.zeros([3, 1], "f"), np.full(1, bias, "f")) for bias in (action, -20))
    return Policy((), mu, log_std)


@pytest.fixture
def collectors():
    made = []

    def make(name, num_envs=1, seed=0):
        made.append(ProcessCollector(env(name), num_envs, seed))
        return made[-1]

    yield make
    for subject in made:
        subject.close()


def test_a_batch_of_actions_has_the_noise_of_single_ones():
    one, other = acting(start_steps=5), acting(start_steps=5)
    observations = np.random.default_rng(1).standard_normal([9, 3]).astype("f")
    batch = np.concatenate([one.batch(observations[:4], 0), one.batch(observations[4:], 4)])
    single = [other(observation, step) for step, observation in enumerate(observations)]
    np.testing.assert_allclose(batch, single, rtol=1e-5)
    assert one.rng.bit_generator.state == other.rng.bit_generator.state


@pytest.mark.parametrize("name", ["Walk-v0", "Truncated-v0", "BothEnds-v0", "OneStep-v0"])
def test_the_transitions_are_those_of_environments_stepped_in_turn(collectors, name):
    """Three environments and blocks of 8: rounds end within blocks. Rounding differs between one row and a batch."""
    subject, in_turn = collectors(name, 3, seed=4), Collector([env(name).make() for _ in range(3)], 4)
    act, act_in_turn = acting(), acting()
    for _ in range(8):
        received, ended = subject.collect(8, act)
        expected, expected_ended = in_turn.collect(8, act_in_turn)
        for field, one, other in zip(expected._fields, received, expected, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=field)
        assert [(step, length) for step, _, length in ended] == [(step, length) for step, _, length in expected_ended]
        np.testing.assert_allclose([x[1] for x in ended], [x[1] for x in expected_ended], rtol=1e-4)
        act.rng.bit_generator.state = act_in_turn.rng.bit_generator.state
    assert subject.steps == 64


def test_a_block_acts_with_the_policy_that_began_it(collectors):
    subject, act = collectors("Walk-v0", 2), acting(start_steps=0)
    seen = []
    for action in (-20, 20, -20):
        act.policy = always(action)
        seen.append(set(subject.collect(4, act)[0].action[:, 0]))
        subject.begin(4, act)
    assert seen == [{-1.0}, {-1.0}, {1.0}]


RESUMED = [("Pendulum-v1", 3, 1, 230), ("Hopper-v5", 11, 3, 51), ("Walk-v0", 3, 1, 22)]


@pytest.mark.parametrize("name, observation_dim, action_dim, steps", RESUMED)
@pytest.mark.parametrize("begun", [16, 0])
def test_a_resumed_collector_goes_on_bit_for_bit(collectors, name, observation_dim, action_dim, steps, begun):
    """Whether a block was under way or, as at the end of a run, none."""
    subject, act = collectors(name, 3, seed=3), acting(observation_dim, action_dim)
    subject.collect(steps, act)
    subject.begin(begun, act)
    act.policy = acting(observation_dim, action_dim).policy.scaled_input(np.full(observation_dim, 2.0))
    (numbers, arrays), rng = subject.get_state(), act.rng.bit_generator.state
    expected = [subject.collect(16, act)]
    subject.begin(16, act)
    expected.append(subject.collect(16, act))
    subject.close()

    resumed, again = collectors(name, 3, seed=3), acting(observation_dim, action_dim)
    again.policy, again.rng.bit_generator.state = act.policy, rng
    assert resumed.set_state(numbers, arrays) == []
    received = [resumed.collect(16, again)]
    resumed.begin(16, again)
    received.append(resumed.collect(16, again))
    for (one, one_ended), (other, other_ended) in zip(expected, received, strict=True):
        assert [x.tobytes() for x in one] == [x.tobytes() for x in other]
        assert one_ended == other_ended
    assert again.rng.bit_generator.state == act.rng.bit_generator.state


def test_an_environment_that_is_not_deterministic_is_noticed_and_begins_anew(collectors):
    subject, act = collectors("Chance-v0", 2), acting()
    subject.collect(20, act)
    numbers, arrays = subject.get_state()
    resumed = collectors("Chance-v0", 2)
    assert resumed.set_state(numbers, arrays) == [0, 1]
    np.testing.assert_array_equal(resumed.collect(2, act)[0].observation[:, COUNT], [0, 0])
    assert resumed.get_state()[0] == {"steps": 22, "episodes": [2, 2]}  # the interrupted ones were number 1


@pytest.mark.parametrize(
    "name, kind, words",
    [
        ("NanObservation-v0", NonFiniteError, "observation is not finite"),
        ("NanReward-v0", NonFiniteError, "reward is nan"),
        ("Raises-v0", RunError, "raised KeyError"),
        ("Kills-v0", RunError, r"the process of environment [01] \(exit code -9\)"),
    ],
)
def test_what_goes_wrong_reaches_the_trainer(collectors, name, kind, words, capfd):
    subject, act = collectors(name, 2), acting()
    with pytest.raises(kind, match=words) as raised:
        for _ in range(40):
            subject.collect(16, act)
            subject.begin(16, act)
    if name == "NanObservation-v0":
        assert np.isnan(raised.value.batch["observation"]).any()
    subject.close()
    assert capfd.readouterr().err == ""


def test_what_goes_wrong_at_the_first_reset_is_told_as_well():
    with pytest.raises(NonFiniteError, match="observation is not finite"):
        ProcessCollector(env("NanStart-v0"), 2, 0)


def test_an_environment_that_cannot_be_made_twice_is_one_line(tmp_path, capfd):
    holds = ("envs_for_tests:HoldsAFile", {"path": str(tmp_path / "device")})
    words = "environment [01], in a process of its own: cannot make .*FileExistsError.*env_processes = False"
    with pytest.raises(UserError, match=words):
        ProcessCollector(EnvSettings("envs_for_tests:Walk-v0", wrappers=(holds,)), 2, 0)
    assert capfd.readouterr().err == ""


def test_signals_for_all_processes_end_none_but_close_does(collectors):
    subject, act = collectors("Walk-v0", 2), acting()
    before = set(multiprocessing.active_children())
    mine = subject._vector.processes
    assert set(mine) <= before
    subject.begin(400, act)
    for number in (signal.SIGINT, signal.SIGTERM):
        for process in mine:
            os.kill(process.pid, number)
    assert subject.collect(400, act)[0].reward.shape == (400,)
    subject.begin(100_000, act)  # close does not wait for all of it
    subject.close()
    assert not any(process.is_alive() for process in mine)


def test_the_program_is_not_imported_into_the_processes(tmp_path):
    """A command's modules are TensorFlow's, 400 MB each; and whoever forgets to guard a script starts no chain."""
    (tmp_path / "program.py").write_text(
        "print('imported')\n"
        "from tfsac.data.envs import EnvSettings\n"
        "from tfsac.data.process_collector import ProcessCollector\n"
        "collector = ProcessCollector(EnvSettings('Pendulum-v1'), 2, 0)\n"
        "libraries = [open(f'/proc/{x.pid}/maps').read() for x in collector._vector.processes]\n"
        "assert not any('tensorflow' in text for text in libraries)\n"
    )  # and it never closes the collector: nothing hangs at the end
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported\n", "")


OPTIONS = {"total_steps": 400, "eval_every": 200, "checkpoint_every": 72, "num_envs": 3, "env_processes": True}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("whole") / "run"
    run_here(logdir, bindings(**OPTIONS))
    return logdir


def test_a_run_in_processes_learns_from_the_same_start(whole, tmp_path):
    """The knob makes a difference, and only from the first update on: the acting policy is one block older."""
    run_here(tmp_path / "in turn", bindings(**OPTIONS | {"env_processes": False}))
    rows, rows_in_turn = state(whole)[2], state(tmp_path / "in turn")[2]
    np.testing.assert_allclose(rows[:16], rows_in_turn[:16], rtol=1e-4, atol=1e-5)
    assert np.any(np.abs(rows[16:24, 3] - rows_in_turn[16:24, 3]) > 1e-4)
    assert len(rows) == len(rows_in_turn) == 400
    assert state(whole)[0]["agent/gradient_steps"] == state(tmp_path / "in turn")[0]["agent/gradient_steps"]


def test_an_interrupted_run_in_processes_is_the_run_that_never_was(whole, tmp_path):
    done = stopped(tmp_path, "run", bindings(**OPTIONS), signal.SIGINT, 50)  # about the 150th of its steps
    assert (done.status, done.err) == (130, "")
    step, resume = re.fullmatch(
        r"interrupted at step (\d+); go on with: python -m (.*)", done.out.splitlines()[-1]
    ).groups()
    assert 0 < int(step) < 400 and checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == int(step)
    done = run(*shlex.split(resume), cwd=tmp_path, PYTHONPATH=TESTS)
    assert (done.status, done.err) == (0, "")
    assert_same_state(whole, tmp_path / "run")
    assert tables(whole) == tables(tmp_path / "run")


def test_a_run_in_processes_may_be_made_longer(whole, tmp_path):
    """The end of a run is no checkpoint like the others: no block is under way."""
    run_here(tmp_path, bindings(**OPTIONS | {"total_steps": 200}))
    assert run_here(tmp_path, ["train.total_steps = 400"], resume=True) == 400
    assert_same_state(whole, tmp_path)


def test_two_kinds_of_processes_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="train.env_processes and train.collectors exclude each other"):
        run_here(tmp_path, bindings(env_processes=True, collectors=2))
    assert not list(Path(tmp_path).iterdir())
