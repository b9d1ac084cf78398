"""A run that was stopped, however, and resumed is the run that was never stopped: bit for bit, row for row."""

import random
import re
import shlex
import shutil
import signal
import time
from unittest import mock

import numpy as np
import pytest
from commands import TESTS, Command, run, stopped
from envs_for_tests import gate, reached
from runs import assert_same_state, bindings, flags, run_here, state, tables

import tfsac
from tfsac.diagnosis import record
from tfsac.errors import RunError, UserError
from tfsac.run import checkpoint, directory
from tfsac.run import settings as run_settings
from tfsac.train import run as run_training
from tfsac.train import train


def steps(logdir):
    return checkpoint.steps(logdir / "checkpoints")


# N steps, stop, N more.


@pytest.mark.parametrize(
    "algorithm, options",
    [
        ("sac", {"env_id": "Reacher-v5", "num_envs": 3, "steps_per_call": 4, "updates_per_step": 2}),
        ("sac_v1", {"env_id": "Walk-v0", "num_envs": 2, "replay_capacity": 30}),  # the replay wraps around
    ],
    ids=["sac in three environments", "sac_v1 with a small replay"],
)
def test_n_steps_and_n_more_are_2n_steps(tmp_path, algorithm, options):
    """See test_algorithms.py for each algorithm in the simplest case."""
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
        arrays["agent/q1_target/output/kernel"].view(np.uint32)[0, 0] ^= 1
    elif what == "a random state":
        facts["behaviour"]["rng"]["state"]["state"] ^= 1
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


def test_a_run_that_went_on_while_it_was_being_resumed_loses_nothing(whole, tmp_path):
    logdir = tmp_path / "run"
    shutil.copytree(whole, logdir)
    late = logdir / "checkpoints" / "step-000000600"
    late.rename(tmp_path / "late")
    restored = checkpoint.restore(logdir / "checkpoints")
    (tmp_path / "late").rename(late)  # another process has saved it
    before = {path: path.read_bytes() for path in logdir.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(UserError, match=r"has gone on from step 576 to 600 since it was read"):
        train(logdir, run_settings.read([], [], logdir), restored)
    assert {path: path.read_bytes() for path in before} == before


def test_what_goes_wrong_beside_a_running_training_is_not_written_into_its_directory(whole, tmp_path, monkeypatch):
    logdir = tmp_path / "run"
    shutil.copytree(whole, logdir)
    monkeypatch.setattr("tfsac.train.make_loop", mock.Mock(side_effect=RunError("a file of the replay is gone")))
    settings = run_settings.read([], [], logdir)
    with directory.take(logdir, overwrite=False), pytest.raises(RunError, match="^a file of the replay is gone$"):
        run_training(logdir, settings)
    with pytest.raises(RunError, match="^a file of the replay is gone$"):  # before this process has taken it
        run_training(logdir, settings)
    assert not (logdir / "traceback.txt").exists()


def test_a_run_that_is_done_is_left_as_it_is(whole, tmp_path):
    logdir = tmp_path / "run"
    shutil.copytree(whole, logdir)
    assert run_here(logdir, resume=True) == 600
    assert_same_run(whole, logdir)


# Interrupts and kills of the command, each at a moment that is the same on every machine: the environment waits for it.


@pytest.mark.parametrize("number, algorithm", [(signal.SIGTERM, "sac"), (signal.SIGINT, "sac_v1")], ids=str)
def test_an_interrupt_saves_says_how_to_go_on_and_loses_nothing(tmp_path, whole, number, algorithm):
    options, logdir = OPTIONS, tmp_path / "my run"
    if algorithm == "sac_v1":
        options, whole = OPTIONS | {"env_id": "envs_for_tests:Truncated-v0"}, tmp_path / "whole"
        run_here(whole, bindings(algorithm, **options))
    # The second environment's 78th step is step 156.
    done = stopped(tmp_path, "my run", bindings(algorithm, **options), number, 78)
    assert (done.status, done.err) == (128 + number, "")
    last = done.out.splitlines()[-1]
    step, resume = re.fullmatch(r"interrupted at step (\d+); go on with: python -m (.*)", last).groups()
    assert int(step) == steps(logdir)[-1] == 160  # where the block of steps under way ended
    done = run(*shlex.split(resume), cwd=tmp_path, PYTHONPATH=TESTS)  # as it said, to the letter
    assert (done.status, done.err) == (0, "")
    assert f"resumed at step 160, begun with tfsac {tfsac.__version__}\n" in done.out
    assert_same_run(whole, logdir)


@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "the last one"])
def test_an_evaluation_that_was_broken_off_leaves_no_rows_and_is_made_again(tmp_path, whole, last):
    """Pendulum's evaluations take 200 steps each: the third is of step 48, the 38th and last of step 600."""
    logdir, evaluation = tmp_path / "my run", 38 if last else 3
    step = 600 if last else 48
    done = stopped(tmp_path, "my run", bindings(**OPTIONS), signal.SIGINT, 200 * evaluation - 50, "evaluation")
    assert (done.status, done.err) == (130, "")
    assert f"interrupted at step {step}; go on with: " in done.out
    assert steps(logdir)[-1] == step
    evaluated = [int(row["step"]) for row in tables(logdir)["evaluations"]]
    assert evaluated == [16 * i for i in range(1, evaluation)]
    assert not (logdir / "returns.png").exists()
    done = run("tfsac.train", "--logdir=my run", "--resume", "--trust=envs_for_tests", cwd=tmp_path, PYTHONPATH=TESTS)
    assert (done.status, done.err) == (0, "")
    assert_same_run(whole, logdir)
    assert (logdir / "returns.png").exists()


def test_a_kill_in_the_last_evaluation_costs_nothing_but_that(tmp_path, whole):
    """There is a checkpoint from before it."""
    done = stopped(tmp_path, "my run", bindings(**OPTIONS), signal.SIGKILL, 200 * 38 - 50, "evaluation")
    assert done.status == -signal.SIGKILL
    assert steps(tmp_path / "my run")[-1] == 600
    done = run("tfsac.train", "--logdir=my run", "--resume", "--trust=envs_for_tests", cwd=tmp_path, PYTHONPATH=TESTS)
    assert (done.status, done.err) == (0, "") and "resumed at step 600" in done.out
    assert_same_run(whole, tmp_path / "my run")


def test_a_second_interrupt_ends_it_at_once(tmp_path):
    opens = tmp_path / "gate"
    params = [*bindings(**OPTIONS), f"env.wrappers = {[gate(opens, 78)]!r}"]
    command = Command("tfsac.train", "--logdir=run", *flags(params), cwd=tmp_path, PYTHONPATH=TESTS)
    command.wait_until(reached(opens).exists)
    command.signal(signal.SIGINT)
    command.wait_until(lambda: "saving" in command.output())
    command.signal(signal.SIGINT)
    assert command.wait().status == -signal.SIGINT  # the gate never opened
    assert steps(tmp_path / "run") == [72, 144]


def survives_a_kill(folder, whole, at, seconds=0.0):
    """Kills a run with SIGKILL at its gate or so many seconds later, and resumes it; -> where it went on from."""
    opens, options = folder / "gate", {}
    if at:
        options = {"env_wrappers": [gate(opens, at)]}
    params = bindings(**OPTIONS, **options)
    command = Command("tfsac.train", "--logdir=run", *flags(params), cwd=folder, PYTHONPATH=TESTS)
    if at:
        command.wait_until(reached(opens).exists)
    if seconds:
        opens.touch()
        time.sleep(seconds)  # a moment of any kind; nothing below depends on which
        if command.alive():
            command.kill()
    else:
        command.kill()
    assert command.wait().status in ((-9, 0) if seconds else (-9,))
    opens.touch()
    saved = steps(folder / "run")
    start = ["--resume", "--trust=envs_for_tests"] if saved else ["--overwrite", *flags(params)]
    done = run("tfsac.train", "--logdir=run", *start, cwd=folder, PYTHONPATH=TESTS)
    assert (done.status, done.err) == (0, "")
    assert not saved or f"resumed at step {saved[-1]}, begun with tfsac {tfsac.__version__}\n" in done.out
    assert_same_run(whole, folder / "run")
    return saved[-1] if saved else None


@pytest.mark.parametrize("at, step", [(45, 72), (219, 432)])
def test_a_run_survives_a_kill(tmp_path, whole, at, step):
    """In a block of steps, that of the steps from 88 to 96 for instance, since there are two environments."""
    assert survives_a_kill(tmp_path, whole, at) == step


@pytest.mark.slow
def test_a_run_survives_kills_at_twenty_random_moments(tmp_path, whole):
    rng = random.Random()
    went_on_from = []
    for trial in range(20):
        (tmp_path / str(trial)).mkdir()
        # The first few while it starts, when there is no gate yet.
        at, seconds = (None, rng.uniform(0, 3)) if trial < 4 else (rng.randrange(8, 280), rng.uniform(0.001, 0.1))
        went_on_from.append(survives_a_kill(tmp_path / str(trial), whole, at, seconds))
    assert len(set(went_on_from)) > 4


def test_a_run_that_python_trained_on_keeps_its_tables(tmp_path):
    """Also the rows that were written after the last checkpoint, which only finished.json knows of."""
    run, other = tmp_path / "run", tmp_path / "other"
    run_here(run, bindings(total_steps=40, eval_every=16, start_steps=1000))
    before, events = tables(run), set((run / "tensorboard").iterdir())
    assert [row["step"] for row in before["evaluations"]] == ["16", "32", "40"]
    agent = tfsac.load(run)
    agent.fit(8, evaluate_every=8, progress=False)
    agent.save(run)
    assert any("where Python went on" in remark for remark in record.read_run(run).remarks)
    agent.save(other)  # where there are no tables
    for logdir, earlier in ((run, ["16", "32", "40"]), (other, [])):
        assert run_here(logdir, ["train.total_steps = 56"], resume=True) == 56
        assert [row["step"] for row in tables(logdir)["evaluations"]] == [*earlier, "48", "56"]
    assert events < set((run / "tensorboard").iterdir())
    assert checkpoint.restore(other / "checkpoints").facts["log"]["bytes"].keys() >= {"evaluations.csv"}
