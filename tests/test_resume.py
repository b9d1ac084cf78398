"""A run that was stopped, however, and resumed is the run that was never stopped: bit for bit, row for row."""

import random
import re
import shlex
import shutil
import signal
import time

import envs_for_tests  # noqa: F401  registers the environments
import numpy as np
import pytest
from commands import Command, run
from runs import assert_same_state, bindings, flags, run_here, state, tables

from tfsac import checkpoint
from tfsac.errors import UserError


def steps(logdir):
    return checkpoint.steps(logdir / "checkpoints")


# N steps, stop, N more.


@pytest.mark.parametrize(
    "algorithm, options",
    [
        ("sac", {}),  # Pendulum: 40 steps are the middle of an episode
        ("sac", {"env_id": "Reacher-v5", "num_envs": 3, "steps_per_call": 4, "updates_per_step": 2}),
        ("sac_v1", {"env_id": "Walk-v0", "num_envs": 2, "replay_capacity": 30}),  # the replay wraps around
    ],
    ids=["sac", "sac in three environments", "sac_v1 with a small replay"],
)
def test_n_steps_and_n_more_are_2n_steps(tmp_path, algorithm, options):
    run_here(tmp_path / "whole", bindings(algorithm, total_steps=80, **options))
    run_here(tmp_path / "parts", bindings(algorithm, total_steps=40, **options))
    assert steps(tmp_path / "parts") == [0, 40]
    half = state(tmp_path / "parts")[0]
    assert run_here(tmp_path / "parts", ["train.total_steps = 80"], resume=True) == 80
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    assert tables(tmp_path / "whole")["episodes"] == tables(tmp_path / "parts")["episodes"]
    # And all that learns has moved meanwhile.
    whole = state(tmp_path / "whole")[0]
    learning = [name for name in whole if "kernel" in name or "/m/" in name or "beta" in name or "alpha" in name]
    assert len(learning) > 20 and not any(np.array_equal(half[name], whole[name]) for name in learning)


OPTIONS = {"total_steps": 600, "eval_every": 16, "checkpoint_every": 72, "num_envs": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run with some of everything in its tables."""
    logdir = tmp_path_factory.mktemp("whole") / "run"
    run_here(logdir, bindings(**OPTIONS))
    assert {name: len(table) for name, table in tables(logdir).items()} == {
        "metrics": 3, "episodes": 2, "evaluations": 38,
    }  # fmt: skip
    return logdir


def assert_same_run(one, other):
    assert_same_state(one, other)
    assert tables(one) == tables(other)


@pytest.mark.parametrize("what", ["a weight", "a random state", "a row"])
def test_the_comparison_notices_a_single_bit(whole, tmp_path, monkeypatch, what):
    """Else the tests here would show nothing."""
    arrays, facts, replay = state(whole)
    if what == "a weight":
        arrays["q1_target/output/kernel"].view(np.uint32)[0, 0] ^= 1
    elif what == "a random state":
        facts["rng"]["state"]["state"] ^= 1
    else:
        replay.view(np.uint32)[123, 4] ^= 1
    answers = iter([state(whole), (arrays, facts, replay)])
    monkeypatch.setattr("runs.state", lambda logdir: next(answers))
    with pytest.raises(AssertionError):
        assert_same_state(whole, tmp_path)


def test_equal_seeds_give_equal_runs_and_config_gin_repeats_one(whole, tmp_path):
    run_here(tmp_path / "again", [(whole / "config.gin").read_text()])
    assert_same_run(whole, tmp_path / "again")
    assert (tmp_path / "again" / "config.gin").read_text() == (whole / "config.gin").read_text()


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(whole, tmp_path):
    logdir = tmp_path / "run"
    shutil.copytree(whole, logdir)
    assert steps(logdir) == [576, 600]
    path = logdir / "checkpoints" / "step-000000600"
    (path / "state.npz").write_bytes(b"")
    before = {path: path.read_bytes() for path in logdir.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="state.npz.*to go on from step 576"):
        run_here(logdir, resume=True)
    assert {path: path.read_bytes() for path in logdir.rglob("*") if path.is_file()} == before
    shutil.rmtree(path)  # as the line said
    assert run_here(logdir, resume=True) == 600
    assert_same_run(whole, logdir)


def test_a_run_that_is_done_is_left_as_it_is(whole, tmp_path):
    logdir = tmp_path / "run"
    shutil.copytree(whole, logdir)
    assert run_here(logdir, resume=True) == 600
    assert_same_run(whole, logdir)


# Interrupts and kills of the command.


@pytest.mark.parametrize("number, algorithm", [(signal.SIGTERM, "sac"), (signal.SIGINT, "sac_v1")], ids=str)
def test_an_interrupt_saves_says_how_to_go_on_and_loses_nothing(tmp_path, whole, number, algorithm):
    options, logdir = OPTIONS, tmp_path / "my run"
    if algorithm == "sac_v1":
        options, whole = OPTIONS | {"env_id": "envs_for_tests:Truncated-v0"}, tmp_path / "whole"
        run_here(whole, bindings(algorithm, **options))
    command = Command("tfsac.train", "--logdir=my run", *flags(bindings(algorithm, **options)), cwd=tmp_path)
    command.wait_until(lambda: "step 160/600" in command.output())
    command.signal(number)
    done = command.wait()
    assert (done.status, done.err) == (128 + number, "")
    last = done.out.splitlines()[-1]
    step, resume = re.fullmatch(r"interrupted at step (\d+); go on with: python -m (.*)", last).groups()
    assert 160 <= int(step) < 600 and steps(logdir)[-1] == int(step)
    done = run(*shlex.split(resume), cwd=tmp_path)  # as it said, to the letter
    assert (done.status, done.err) == (0, "") and f"resumed at step {step}\n" in done.out
    assert_same_run(whole, logdir)


def survives_a_kill(folder, whole, step, seconds):
    """Kills a run with SIGKILL so many seconds after it says that it has come to this step, and resumes it."""
    command = Command("tfsac.train", "--logdir=run", *flags(bindings(**OPTIONS)), cwd=folder)
    command.wait_until(lambda: f"step {step}/600" in command.output() if step else True)
    time.sleep(seconds)
    command.kill()
    assert command.wait().status == -9
    saved = steps(folder / "run")
    start = ["--resume"] if saved else ["--overwrite", *flags(bindings(**OPTIONS))]
    done = run("tfsac.train", "--logdir=run", *start, cwd=folder)
    assert (done.status, done.err) == (0, "")
    assert not saved or f"resumed at step {saved[-1]}\n" in done.out
    assert_same_run(whole, folder / "run")
    return saved[-1] if saved else None


@pytest.mark.parametrize("step, seconds", [(96, 0.05), (432, 0.01)])
def test_a_run_survives_a_kill(tmp_path, whole, step, seconds):
    assert survives_a_kill(tmp_path, whole, step, seconds) >= 72


@pytest.mark.slow
def test_a_run_survives_kills_at_twenty_random_moments(tmp_path, whole):
    rng = random.Random()
    went_on_from = []
    for trial in range(20):
        (tmp_path / str(trial)).mkdir()
        # The first few while it starts, when only seconds tell how far it is.
        step, seconds = (0, rng.uniform(0, 3)) if trial < 4 else (rng.randrange(16, 560, 16), rng.uniform(0, 0.1))
        went_on_from.append(survives_a_kill(tmp_path / str(trial), whole, step, seconds))
    assert len(set(went_on_from)) > 4
