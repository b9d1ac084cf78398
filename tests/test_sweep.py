"""Sweeps: what is tried, what is left behind, and what happens when a trial or the whole is cut off."""

import fcntl
import functools
import signal

import numpy as np
import pytest
from commands import TESTS, Command, run, wait_until
from runs import assert_same_state, bindings, flags, rows, tables

from tfsac.errors import UserError
from tfsac.run import checkpoint, config, directory

pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`): its tests are skipped")

from tfsac.run import trials as tried  # noqa: E402

ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@pytest.mark.parametrize(
    "text, seeds",
    [("0", [0]), ("0-3", [0, 1, 2, 3]), ("7,0-2", [7, 0, 1, 2]), (" 1 , 3 - 4 ", [1, 3, 4]), ("1,1,0-1", [1, 0])],
)
def test_seeds(text, seeds):
    assert tried.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1-", "0;1", "1.5", "0-1-2"])
def test_seeds_that_are_none(text):
    with pytest.raises(UserError, match="--seeds: expected numbers and ranges such as 0-9"):
        tried.parse_seeds(text)


def test_every_combination_is_a_trial_with_every_seed(tmp_path):
    grid = ["SAC.tau = [0.1, 0.2]", "SAC.policy_hidden_units = [(8,), (4, 4)]"]
    trials = tried.grid_trials([], bindings(), [0, 5], grid, tmp_path)
    runs = [run for trial in trials for run in trial.runs]
    tried_values = [(x.settings["SAC"]["tau"], x.settings["SAC"]["policy_hidden_units"], x.seed) for x in runs]
    assert tried_values == [(tau, units, seed) for tau in (0.1, 0.2) for units in ((8,), (4, 4)) for seed in (0, 5)]
    assert all(run.settings["train"]["seed"] == run.seed for run in runs)
    assert len({run.logdir for run in runs}) == 8
    assert runs[-1].logdir == tmp_path / "SAC.tau=0.2,SAC.policy_hidden_units=_4,_4_" / "seed5"


def test_without_a_grid_there_is_one_trial_of_all_seeds(tmp_path):
    (trial,) = tried.grid_trials([], bindings(), [3, 4], [], tmp_path)
    assert [run.logdir for run in trial.runs] == [tmp_path / "seed3", tmp_path / "seed4"]


@pytest.mark.parametrize(
    "grid, message",
    [
        ("SAC.tau = 0.1", r"--gin_grid: expected SAC.tau = \[value, ...\], received SAC.tau = 0.1"),
        ("SAC.tau = []", "--gin_grid: expected SAC.tau"),
        ("SAC.tua = [0.1]", "did you mean SAC.tau"),
        ("SAC.tau = [0.1, 'x']", "SAC.tau: expected a number, received 'x'"),
        ("train.eval_every = [1000, None]", "train.eval_every = None: a sweep compares evaluations"),
        ("train.seed = [0, 1]", "seeds are chosen with --seeds"),
        ("train.env_id = ['Pendulum-v1', 'Pendulun-v1']", "cannot make environment 'Pendulun-v1'"),
        ("env.training_wrappers = [[], ['TimeAwareObservation']]", "expected the same observation_space"),
    ],
)
def test_a_grid_that_cannot_work_is_refused_before_anything_starts(tmp_path, grid, message):
    with pytest.raises(UserError, match=message):
        tried.grid_trials([], bindings(), [0], [grid], tmp_path)


def test_progress_is_read_from_what_is_there(tmp_path):
    found = tried.progress(tmp_path)
    assert found.step == 0 and np.isnan(found.steps_per_second) and np.isnan(found.evaluation)
    (tmp_path / "episodes.csv").write_text("step,return,length\n200,-5.0,200\n")
    (tmp_path / "evaluations.csv").write_text("step,episode,return,length\n100,0,-9,9\n300,0,-1,9\n300,1,-2,9\n300,2,")
    (tmp_path / "metrics.csv").write_text("step,steps_per_second\n100,50\n250,75\n")
    assert tried.progress(tmp_path) == (300, 75, -1.5)
    assert tried.evaluations(tmp_path) == {100: -9, 300: -1.5}


def test_a_directory_shows_when_it_is_taken_again(tmp_path):
    """By which the table tells a trial that goes on from one that waits to."""
    assert directory.taken_at(tmp_path) is None
    directory.take(tmp_path, overwrite=False).close()
    before = directory.taken_at(tmp_path)
    assert directory.taken_at(tmp_path) == before

    def is_taken_later():
        directory.take(tmp_path, overwrite=False).close()
        return directory.taken_at(tmp_path) != before

    wait_until(is_taken_later)  # a tick of the file system's clock


def test_without_ray_it_is_one_line(tmp_path):
    (tmp_path / "without_ray.py").write_text(
        "import runpy, sys\n"
        "sys.modules['ray'] = None\n"  # as if it were not installed
        "runpy.run_module('tfsac.sweep', run_name='__main__', alter_sys=True)\n"
    )
    done = run("without_ray", "--env_id=Pendulum-v1", cwd=tmp_path)
    words = "error: tfsac.sweep needs Ray, with rich, which are not installed: pip install ray rich\n"
    assert (done.status, done.out, done.err) == (2, "", words)


@pytest.fixture
def arguments(ray_address):
    return functools.partial(_arguments, f"--ray_address={ray_address}")


def _arguments(address, out, *more, **options):
    return [address, f"--out={out}", *flags(bindings(**{"total_steps": 48, **options})), *more]


GRID = ("--seeds=1", "--gin_grid=SAC.tau = [0.005, 0.5]")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, ray_address):
    """Two configurations with one seed."""
    folder = tmp_path_factory.mktemp("swept")
    return (
        folder / "out",
        run("tfsac.sweep", *_arguments(f"--ray_address={ray_address}", "out", *GRID), cwd=folder),
        folder,
    )


def test_a_sweep_ends_with_a_table_a_picture_and_the_best_configuration(swept):
    out, done, folder = swept
    assert done.status == 0, done.err
    assert "2 of 2 runs in out, " in done.out and "best configuration: SAC.tau=" in done.out
    means = {}
    for row in rows(out / "sweep.csv"):
        returns = [float(x["return"]) for x in rows(folder / row["logdir"] / "evaluations.csv") if x["step"] == "48"]
        assert float(row["return_mean"]) == pytest.approx(np.mean(returns))
        assert (row["state"], row["step"], row["seed"]) == ("done", "48", "1")
        means[row["configuration"]] = np.mean(returns)
    assert list(means) == ["SAC.tau=0.005", "SAC.tau=0.5"]
    assert f"SAC.tau={config.read([out / 'best.gin'], [])['SAC.tau']}" == max(means, key=means.get)
    assert (out / "returns.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_configuration_has_the_highest_mean_over_all_its_seeds(tmp_path):
    """The first has the best seed, the third is not whole."""
    grid = ["SAC.tau = [0.1, 0.2, 0.3]"]
    trials = tried.grid_trials([], bindings(), [0, 1], grid, tmp_path)
    runs = [run for trial in trials for run in trial.runs]
    states = dict.fromkeys((run.logdir for run in runs), "done")
    for one, evaluation in zip(runs, [-1, -9, -3, -4, -1, -1], strict=True):
        one.logdir.mkdir(parents=True)
        text = f"step,episode,return,length\n10,0,0,9\n20,0,{evaluation - 1},9\n20,1,{evaluation + 1},9\n"
        (one.logdir / "evaluations.csv").write_text(text)
    states[runs[-1].logdir] = "failed: by chance"
    assert tried.write_results(trials, states, tmp_path).configuration == "SAC.tau=0.2"
    best = config.read([tmp_path / "best.gin"], [])
    assert (best["SAC.tau"], best["train.seed"]) == (0.2, 0)
    found = rows(tmp_path / "sweep.csv")
    assert [float(row["return_mean"]) for row in found] == [-1, -9, -3, -4, -1, -1]
    assert [row["state"] for row in found] == ["done"] * 5 + ["failed: by chance"]


def test_a_trial_is_the_run_that_train_would_have_made(swept, tmp_path):
    out, _, folder = swept
    trial = out / "SAC.tau=0.5" / "seed1"
    again = run("tfsac.train", "--logdir=again", f"--gin_file={trial}/config.gin", cwd=tmp_path, **ONE_THREAD)
    assert again.status == 0, again.err
    assert_same_state(trial, tmp_path / "again")
    assert tables(trial) == tables(tmp_path / "again")
    assert (trial / "returns.png").exists() and (trial / "losses.png").exists()


def test_the_same_command_again_does_nothing_anew(swept, arguments):
    out, _, folder = swept
    before = {path: path.stat().st_mtime_ns for path in out.rglob("checkpoints/*/*")}
    done = run("tfsac.sweep", *arguments("out", *GRID), cwd=folder)
    assert done.status == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("checkpoints/*/*")} == before
    assert "best configuration" in done.out and ": runs" not in done.out


def test_another_sweep_is_refused_its_place(swept, arguments):
    out, _, folder = swept
    done = run("tfsac.sweep", *arguments("out", *GRID, batch_size=4), cwd=folder)
    assert done.status == 2
    assert "is of another sweep: train.batch_size was 8 so far and cannot become 4" in done.err
    assert "Traceback" not in done.err and len(done.err.splitlines()) == 1


def is_locked(path):
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def test_a_sweep_that_was_killed_goes_on_where_it_stopped(tmp_path):
    """Killed in the middle of a trial that would take for ever, and asked for a little more than it had come to."""
    options, logdir = {"checkpoint_every": 64, "seed": 0}, tmp_path / "out" / "seed0"
    own_ray = ("--out=out", "--seeds=0")  # which ends with the sweep, and the trial with it
    endless = flags(bindings(total_steps=10**9, **options))
    command = Command("tfsac.sweep", *own_ray, *endless, cwd=tmp_path)
    command.wait_until(lambda: checkpoint.steps(logdir / "checkpoints")[-1:] > [64])
    command.kill()
    command.wait()
    wait_until(lambda: not is_locked(logdir / ".lock"))  # Ray ends the trial some time after the sweep
    stopped = checkpoint.steps(logdir / "checkpoints")[-1]
    options["total_steps"] = stopped + 100
    done = run("tfsac.sweep", *own_ray, *flags(bindings(**options)), cwd=tmp_path)
    assert done.status == 0, done.err
    assert checkpoint.steps(logdir / "checkpoints")[-1] == stopped + 100
    run("tfsac.train", "--logdir=straight", *flags(bindings(**options)), cwd=tmp_path, **ONE_THREAD)
    assert_same_state(logdir, tmp_path / "straight")


def test_an_interrupted_sweep_saves_its_trials_and_says_how_to_go_on(tmp_path, arguments):
    options = arguments("out", "--seeds=0", total_steps=10**9)
    command = Command("tfsac.sweep", *options, cwd=tmp_path)
    command.wait_until(lambda: len(rows(tmp_path / "out" / "seed0" / "episodes.csv")) > 1)
    command.signal(signal.SIGINT)
    done = command.wait()
    assert done.status == 130 and "the same command with --out=out goes on" in done.err
    assert "Traceback" not in done.err
    assert 0 < checkpoint.steps(tmp_path / "out" / "seed0" / "checkpoints")[-1] < 10**9


def test_a_failing_trial_is_tried_again_and_costs_no_other(tmp_path, arguments):
    """Kills-v0 kills its process after 200 steps: each try gets so far, and each goes on from the last checkpoint."""
    envs = ["envs_for_tests:Raises-v0", "envs_for_tests:Kills-v0"]
    options = arguments("out", f"--gin_grid=train.env_id = {envs}", total_steps=360, checkpoint_every=64)
    done = run("tfsac.sweep", *options, cwd=tmp_path, PYTHONPATH=TESTS)
    assert done.status == 1
    raises, kills = rows(tmp_path / "out" / "sweep.csv")
    assert (kills["state"], kills["step"]) == ("done", "360")
    steps = [int(row["step"]) for row in rows(tmp_path / kills["logdir"] / "episodes.csv")]
    assert steps == sorted(set(steps))
    assert raises["state"].startswith("failed: the environment")
    assert "Raises-v0 raised KeyError" in done.err and "Traceback" not in done.err
