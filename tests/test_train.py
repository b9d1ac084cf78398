"""The outer loop: every knob, every refusal as the command's user sees it, and what stops a run."""

import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import envs_for_tests  # noqa: F401  registers the environments
import numpy as np
import pytest
from commands import TESTS, Command, run
from envs_for_tests import gate, reached
from runs import bindings, flags, rows, run_here, state, tables

import tfsac.train
from tfsac.algorithms import registry
from tfsac.algorithms.sac import SAC
from tfsac.data.envs import EnvSettings
from tfsac.errors import NonFiniteError, RunError, UserError
from tfsac.run import checkpoint, directory
from tfsac.run import settings as run_settings
from tfsac.run.directory import check_free
from tfsac.run.loop import TrainSettings

ROOT = Path(__file__).parents[1]
WALK = "envs_for_tests:Walk-v0"


class Untrained(SAC):
    """Notes what it is asked to learn instead of learning it: compiling the update takes seconds."""

    blocks = []

    def update_policies(self, rows):
        self.blocks.append(rows.shape[:2])
        self.gradient_steps.assign_add(len(rows))
        metrics = dict.fromkeys(("q1_loss", "alpha"), np.zeros(len(rows), np.float32))
        return metrics, self.behaviour_policy(), self.deployed_policy()


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """-> a function that runs the loop with these `train.*` and returns the run directory and a log of the loop."""
    monkeypatch.setitem(registry.ALGORITHMS, "sac", Untrained)
    saved, save = [], checkpoint.save

    def noted_save(folder, step, *args):
        if step not in saved:  # the last one is asked for twice
            saved.append(step)
        save(folder, step, *args)

    monkeypatch.setattr(checkpoint, "save", noted_save)
    names = iter("abcdefgh")

    def start(**options):
        saved.clear()
        Untrained.blocks = []
        logdir = tmp_path / next(names)
        run_here(logdir, bindings(**{"env_id": "Walk-v0", "total_steps": 48} | options))
        return logdir, list(saved), Untrained.blocks

    return start


def steps_of(logdir, table="evaluations"):
    return [int(row["step"]) for row in rows(logdir / f"{table}.csv")]


# Every `train.*` and `env.*` has a test here by its name, or one of imperfections or of `init_from` that sets it.


def test_every_knob_is_turned():
    knobs = [*TrainSettings._fields, *(f"env_{name}" for name in EnvSettings._fields)]
    others = "".join(Path(__file__).with_name(f"test_{x}.py").read_text() for x in ("imperfections", "init_from"))
    elsewhere = {knob for knob in knobs if re.search(rf"\b{knob.removeprefix('env_')}\b[\"']?\s*[=:]", others)}
    missing = [knob for knob in knobs if f"test_{knob}" not in globals() and knob not in elsewhere]
    assert len(knobs) == 16 + 15 and not missing


def test_env_id(quick):
    assert state(quick(env_id="Pendulum-v1")[0])[2].shape[1] == 3 + 1 + 1 + 3 + 1
    assert state(quick(env_id="Reacher-v5")[0])[2].shape[1] == 10 + 2 + 1 + 10 + 1


def test_env_kwargs(quick):
    logdir = quick(env_kwargs={"length": 5, "ends": ["truncated"]})[0]
    assert {row["length"] for row in rows(logdir / "episodes.csv")} == {"5"}
    assert not np.any(state(logdir)[2][:, -1])


def test_env_wrappers(quick):
    """In their order: (r + 1) * 10 is not r * 10 + 1."""
    add, times = "envs_for_tests:AddToReward", ("envs_for_tests:TimesReward", {"factor": 10.0})
    plain, one, other = (state(quick(env_wrappers=x)[0])[2][:, 4] for x in ((), (add, times), [times, add]))
    np.testing.assert_allclose(one, (plain + 1) * 10, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(other, plain * 10 + 1, rtol=1e-6, atol=1e-6)
    with_time = quick(env_wrappers=["TimeAwareObservation"])[0]  # Gymnasium's own need no module
    assert state(with_time)[2].shape[1] == (3 + 1) + 1 + 1 + (3 + 1) + 1


@pytest.mark.parametrize("elsewhere", [{}, {"num_envs": 2, "env_processes": True}], ids=["here", "in processes"])
def test_env_training_kwargs(quick, elsewhere):
    """Learned from is what `env.kwargs` would give, bit for bit; evaluations are of the task without them."""
    task = {"env_id": "envs_for_tests:Walk-v0", "env_kwargs": {"ends": ["truncated"]}} | elsewhere
    logdir = quick(**task, env_training_kwargs={"length": 5})[0]
    other = quick(**task | {"env_kwargs": {"ends": ["truncated"], "length": 5}})[0]
    np.testing.assert_array_equal(state(logdir)[2], state(other)[2])
    assert {row["length"] for row in rows(logdir / "episodes.csv")} == {"5"}
    assert {row["length"] for row in rows(logdir / "evaluations.csv")} == {"7"}


def test_env_training_wrappers(quick):
    """They come after `env.wrappers`."""
    add, times = "envs_for_tests:AddToReward", ("envs_for_tests:TimesReward", {"factor": 10.0})
    logdir, both, one = (quick(**x)[0] for x in (
        {"env_wrappers": [add], "env_training_wrappers": [times]},
        {"env_wrappers": [add, times]},
        {"env_wrappers": [add]},
    ))  # fmt: skip
    np.testing.assert_array_equal(state(logdir)[2], state(both)[2])
    assert rows(logdir / "evaluations.csv") == rows(one / "evaluations.csv") != rows(both / "evaluations.csv")


def test_training_that_gives_other_observations_is_refused_before_anything_is_written(quick, tmp_path):
    words = "Walk-v0: expected the same observation_space .* as without, received .* give what changes it to env.kwargs"
    with pytest.raises(UserError, match=words):
        quick(env_training_wrappers=["TimeAwareObservation"])
    assert not list(tmp_path.iterdir())


def test_env_max_episode_steps(quick):
    """An episode is cut off there, which is no terminal state; the environment's own end, 7, comes later."""
    logdir = quick(env_max_episode_steps=3)[0]
    assert {row["length"] for row in rows(logdir / "episodes.csv")} == {"3"}
    assert {row["length"] for row in rows(logdir / "evaluations.csv")} == {"3"}
    assert not np.any(state(logdir)[2][:, -1])


def test_algorithm(tmp_path):
    run_here(tmp_path, bindings("sac_v1", env_id="Walk-v0", total_steps=8))
    names = state(tmp_path)[0]
    assert any(name.startswith("agent/v_target/") for name in names) and "agent/log_alpha" not in names


def test_seed(quick):
    one, same, other = (quick(seed=seed)[0] for seed in (3, 3, 4))
    assert tables(one)["episodes"] == tables(same)["episodes"] != tables(other)["episodes"]
    weights = [state(logdir)[0] for logdir in (one, same, other)]
    assert all(weights[0][name].tobytes() == weights[1][name].tobytes() for name in weights[0])
    for network in ("policy", "q1", "q2"):
        assert np.all(weights[0][f"agent/{network}/hidden_0/kernel"] != weights[2][f"agent/{network}/hidden_0/kernel"])
    assert np.all(state(one)[2][:, 0] != state(other)[2][:, 0])  # the episodes' own seeds


@pytest.mark.parametrize("total_steps", [1, 7, 8, 50])
def test_total_steps(quick, total_steps):
    logdir, saved, blocks = quick(total_steps=total_steps)
    assert saved[-1] == total_steps and steps_of(logdir)[-1] == total_steps
    assert state(logdir)[1]["collector"]["steps"] == total_steps
    assert sum(k for k, _ in blocks) == max(0, total_steps - 8) * (total_steps >= 16)


def test_start_steps(quick):
    assert [k for k, _ in quick(start_steps=24, total_steps=40)[2]] == [8, 8, 8]  # the blocks to 24, 32 and 40
    assert [k for k, _ in quick(start_steps=20, total_steps=40)[2]] == [8, 8, 8]
    assert [k for k, _ in quick(start_steps=0, total_steps=40)[2]] == [8] * 5
    assert quick(start_steps=100, total_steps=40)[2] == []


def test_start_steps_are_uniform_and_the_policy_acts_after_them(quick):
    def actions(logdir):
        return state(logdir)[2][:, 3]

    # An untrained policy's mean is small beside its noise, and tanh(N(0, 1)) reaches 0.9 in one case of seven.
    uniform = actions(quick(start_steps=1000, total_steps=1000)[0])
    assert abs(np.mean(uniform)) < 0.1 and np.mean(np.abs(uniform) > 0.9) == pytest.approx(0.1, abs=0.04)
    np.testing.assert_allclose(np.histogram(uniform, 4, (-1, 1))[0], 250, atol=60)
    mixed = actions(quick(start_steps=24, total_steps=48)[0])
    np.testing.assert_array_equal(mixed[:24], uniform[:24])
    assert not np.any(mixed[24:] == uniform[24:48])


def test_batch_size(quick):
    assert {size for _, size in quick(batch_size=5)[2]} == {5}


def test_replay_capacity(quick):
    logdir = quick(replay_capacity=20)[0]
    assert len(state(logdir)[2]) == 20 and state(logdir)[1]["replay"]["inserted"] == 48


@pytest.mark.parametrize("num_envs", [1, 2, 5])
@pytest.mark.parametrize("steps_per_call", [1, 3, 8])
def test_num_envs(quick, num_envs, steps_per_call):
    logdir = quick(num_envs=num_envs, steps_per_call=steps_per_call, total_steps=90)[0]
    replay = state(logdir)[2]
    episodes = [-(-len(replay[i::num_envs]) // 7) for i in range(num_envs)]  # begun in each environment
    assert len(replay) == 90 and len(set(replay[:, 0])) == sum(episodes)
    # Walk's episodes are 7 steps long: environment i ends one at its own steps 7, 14, ....
    ends = sorted(num_envs * (7 * n - 1) + i + 1 for i in range(num_envs) for n in range(1, 90))
    assert steps_of(logdir, "episodes") == [step for step in ends if step <= 90]


def test_collectors(tmp_path, quick):
    """See test_remote_collectors.py for the rest."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
    assert run_here(tmp_path, bindings(collectors=1, total_steps=48)) == 48
    assert all("policy_age" in row for row in rows(tmp_path / "metrics.csv"))


def test_env_processes(tmp_path, quick):
    """See test_process_collector.py for the rest."""
    options = {"env_id": "envs_for_tests:Walk-v0", "num_envs": 2, "env_processes": True, "total_steps": 48}
    assert run_here(tmp_path, bindings(**options)) == 48
    assert len({row[0] for row in state(tmp_path)[2]}) == 8  # 24 steps in each are four episodes, the last one begun


def test_updates_per_step(quick):
    assert [k for k, _ in quick(updates_per_step=3, total_steps=36)[2]] == [24, 24, 24, 12]


@pytest.mark.parametrize("steps_per_call", [1, 5, 48, 1000])
def test_steps_per_call(quick, steps_per_call):
    blocks = quick(steps_per_call=steps_per_call, start_steps=0)[2]
    assert sum(k for k, _ in blocks) == 48
    assert [k for k, _ in blocks] == [min(steps_per_call, 48 - done) for done in range(0, 48, steps_per_call)]


def first_boundaries(every, steps_per_call, total_steps):
    """Where something that is due `every` steps happens: at the first end of a block at or after; and at the end."""
    boundaries = [*range(steps_per_call, total_steps, steps_per_call), total_steps]
    due = {min(x for x in boundaries if x >= step) for step in range(every, total_steps + 1, every)}
    return sorted(due | {total_steps})


PERIODS = [(7, 8, 50), (8, 8, 48), (24, 8, 100), (100, 8, 50), (1, 3, 10), (13, 5, 61), (17, 64, 200)]


@pytest.mark.parametrize("every, steps_per_call, total_steps", PERIODS)
def test_eval_every(quick, every, steps_per_call, total_steps):
    logdir = quick(eval_every=every, steps_per_call=steps_per_call, total_steps=total_steps)[0]
    assert steps_of(logdir) == first_boundaries(every, steps_per_call, total_steps)


def test_eval_every_none_needs_no_second_environment(tmp_path):
    """A simulator of which one instance can exist is trained in, and the run ends as any other."""
    params = [
        *bindings(env_id=WALK, total_steps=24, start_steps=100, eval_every=None),
        "env.wrappers = ['envs_for_tests:OnlyOne']",
    ]
    done = run("tfsac.train", "--logdir=run", *flags(params), cwd=tmp_path, PYTHONPATH=TESTS)
    assert (done.status, done.err) == (0, "")
    logdir = tmp_path / "run"
    assert not (logdir / "evaluations.csv").exists() and len(rows(logdir / "episodes.csv")) == 3
    assert "results are in run: episodes.csv, metrics.csv, checkpoints/" in done.out
    resume = ["--resume", "--trust=envs_for_tests", "--gin_param=train.total_steps = 40"]
    done = run("tfsac.train", "--logdir=run", *resume, cwd=tmp_path, PYTHONPATH=TESTS)
    assert (done.status, done.err) == (0, "") and checkpoint.steps(logdir / "checkpoints")[-1] == 40
    two = ["--logdir=two", *flags(params), "--gin_param=train.eval_every = 8"]
    done = run("tfsac.train", *two, cwd=tmp_path, PYTHONPATH=TESTS)
    assert done.status == 2 and "OSError: the licence is taken" in done.err and not (tmp_path / "two").exists()


def test_eval_episodes(quick):
    logdir = quick(eval_episodes=3)[0]
    table = rows(logdir / "evaluations.csv")
    assert [(row["step"], row["episode"], row["length"]) for row in table] == [("48", str(i), "7") for i in range(3)]


@pytest.mark.parametrize("every, steps_per_call, total_steps", PERIODS)
def test_checkpoint_every(quick, every, steps_per_call, total_steps):
    saved = quick(checkpoint_every=every, steps_per_call=steps_per_call, total_steps=total_steps)[1]
    assert saved == [0, *first_boundaries(every, steps_per_call, total_steps)]


def test_evaluations_are_deterministic_and_of_no_consequence_for_training(quick):
    rarely, often = (quick(eval_every=every)[0] for every in (48, 8))
    assert tables(rarely)["episodes"] == tables(often)["episodes"]
    one, other = state(rarely), state(often)
    assert one[1] == other[1] and one[2].tobytes() == other[2].tobytes()
    returns = {row["return"] for row in rows(often / "evaluations.csv")}
    assert len(returns) == 1  # the weights never changed, nor did the starts


METRICS = {
    "sac": {
        "q1_loss", "q2_loss", "policy_loss", "alpha_loss", "alpha", "entropy", "q1", "q2", "q_gradient_norm",
        "policy_gradient_norm", "alpha_gradient_norm",
    },
    "sac_v1": {
        "v_loss", "q1_loss", "q2_loss", "policy_loss", "alpha", "entropy", "v", "q1", "q2", "v_gradient_norm",
        "q_gradient_norm", "policy_gradient_norm",
    },
}  # fmt: skip
METRICS["crossq"] = METRICS["sac"]


@pytest.mark.parametrize("algorithm", METRICS)
def test_one_trace_serves_every_block_and_metrics_are_written(tmp_path, algorithm):
    traces, agent = [], registry.ALGORITHMS[algorithm]

    class Counted(agent):
        def gradient_step(self, batch, noise):
            traces.append(1)  # Python runs this only while TensorFlow traces it
            return super().gradient_step(batch, noise)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ALGORITHMS, algorithm, Counted)
        run_here(tmp_path, bindings(algorithm, env_id="Walk-v0", total_steps=509))
    assert len(traces) == 1
    assert steps_of(tmp_path, "metrics") == [256, 504, 509]
    row = rows(tmp_path / "metrics.csv")[-1]
    assert set(row) == {"step", "seconds", "steps_per_second", *METRICS[algorithm]}
    assert all(np.isfinite(float(value)) for value in row.values())
    assert (tmp_path / "config.gin").is_file() and list((tmp_path / "tensorboard").iterdir())


def test_periods_may_change_when_a_run_is_resumed(quick):
    logdir = quick(total_steps=16)[0]
    more = ["train.total_steps = 48", "train.eval_every = 8", "train.checkpoint_every = 16"]
    assert run_here(logdir, more, resume=True) == 48
    assert steps_of(logdir) == [16, 24, 32, 40, 48]
    assert checkpoint.steps(logdir / "checkpoints") == [32, 48]
    assert "train.eval_every = 8" in (logdir / "config.gin").read_text()


def test_a_run_that_was_moved_and_renamed_goes_on(quick, tmp_path):
    moved = tmp_path / "Jörgs Läufe" / "Größe 1 & $x"
    moved.parent.mkdir()
    quick(total_steps=16)[0].rename(moved)
    assert run_here(moved, ["train.total_steps = 24"], resume=True) == 24
    assert steps_of(moved) == [16, 24] and checkpoint.steps(moved / "checkpoints") == [16, 24]


def test_an_environment_that_is_not_deterministic_is_named_and_the_run_goes_on(quick, capsys):
    logdir = quick(env_id="Chance-v0", num_envs=2, total_steps=24)[0]
    capsys.readouterr()
    assert run_here(logdir, ["train.total_steps = 48"], resume=True) == 48
    said = capsys.readouterr().out
    for i in range(2):
        assert f"environment {i} is not deterministic: its episode could not be continued; a new one begins\n" in said
    replay = state(logdir)[2]
    np.testing.assert_array_equal(replay[:, 0], replay[:, 5])  # s and s' carry one episode's tag: none is bogus


# What stops a run.


@pytest.mark.parametrize(
    "name, words",
    [
        ("NanReward", "the environment's reward is nan"),
        ("LargeReward", "q1_loss is inf: the losses left the range of numbers"),  # finite, but not its square
    ],
)
def test_a_number_that_is_not_finite_stops_the_run_by_name_and_keeps_the_last_checkpoint(tmp_path, name, words):
    learns = {"start_steps": 16 if name == "LargeReward" else 100}
    options = bindings(env_id=f"envs_for_tests:{name}-v0", total_steps=100, checkpoint_every=8, **learns)
    done = run("tfsac.train", "--logdir=run", *flags(options), cwd=tmp_path)
    expected = f"error: {words}; what led to it is in run/non_finite.npz, last checkpoint: step 16\n"
    assert (done.status, done.err) == (1, expected)
    arrays, facts, replay = state(tmp_path / "run")
    assert facts["step"] == 16
    assert all(np.all(np.isfinite(array)) for array in [*arrays.values(), replay])
    with np.load(tmp_path / "run" / "non_finite.npz", allow_pickle=False) as batch:
        if name == "LargeReward":
            assert batch["reward"].shape == (8,) and np.max(np.abs(batch["reward"])) > 1e29
        else:
            assert batch["action"].shape == (1,)


def test_a_number_that_is_not_finite_in_the_first_observation_leaves_nothing(tmp_path):
    options = bindings(env_id="envs_for_tests:NanStart-v0", total_steps=100)
    done = run("tfsac.train", "--logdir=run", *flags(options), cwd=tmp_path)
    assert (done.status, done.err) == (1, "error: the environment's observation is not finite\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, words",
    [
        ("Raises", "the environment Raises-v0 raised KeyError: 'the robot"),
        ("Shape", "expected observations of shape"),
        ("NanObservation", "the environment's observation is not finite"),
        ("HugeReward", "the environment's reward is 1e"),
    ],
)
def test_an_environment_that_breaks_down_stops_the_run(quick, name, words):
    with pytest.raises(RunError, match=words):
        quick(env_id=f"{name}-v0", checkpoint_every=8)


def test_an_environment_that_raises_as_it_is_closed_spoils_nothing(tmp_path):
    params = [
        *bindings(env_id=WALK, total_steps=24, start_steps=100),
        "env.wrappers = ['envs_for_tests:RaisesAsItCloses']",
    ]
    done = run("tfsac.train", "--logdir=run", *flags(params), cwd=tmp_path, PYTHONPATH=TESTS)
    assert done.status == 0 and "done at step 24" in done.out
    assert re.match(
        r"the environment envs_for_tests:Walk-v0 raised OSError: the device is gone \([^\n]+\) when it was closed\n",
        done.err,
    )
    assert (tmp_path / "run" / "returns.png").exists() and len(rows(tmp_path / "run" / "evaluations.csv")) == 1


@pytest.mark.parametrize("name", ["OneStep", "BothEnds", "Reuses", "Float64", "IntegerObservation", "Dict"])
def test_a_merely_odd_environment_is_trained_in(quick, name):
    logdir = quick(env_id=f"{name}-v0", eval_every=1000, total_steps=32)[0]
    assert state(logdir)[1]["collector"]["steps"] == 32


# Refusals, as whoever types the command sees them.


def snapshot(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(folder, *arguments, **environment):
    """The one line with which the command is refused; nothing was written."""
    before = snapshot(folder)
    done = run("tfsac.train", *arguments, cwd=folder, **environment)
    assert snapshot(folder) == before
    assert done.status == 2
    assert re.fullmatch(r"error: [^\n]+\n", done.err)
    return done.err


def gin(text):
    return [f"--gin_param={line}" for line in text.splitlines()]


REFUSALS = {
    "missing gin file": (["--gin_file=no.gin"], "no such gin file: no.gin"),
    "typo": (gin("train.total_step = 5"), "unknown setting train.total_step: did you mean train.total_steps"),
    "wrong type": (gin("train.total_steps = 'many'"), "train.total_steps: expected a whole number, received 'many'"),
    "binding of the other algorithm": (
        gin("train.algorithm = 'sac'\nSACv1.reward_scale = 5.0"),
        "unknown setting SACv1.reward_scale",
    ),
    "unknown algorithm": (
        gin("train.algorithm = 'ppo'"),
        "'sac', 'sac_v1', 'crossq' or 'module:Class', received 'ppo'",
    ),
    "algorithm that is no text": (
        gin("train.algorithm = ['sac']"),
        "train.algorithm: expected one of 'sac', 'sac_v1', 'crossq' or 'module:Class', received ['sac']",
    ),
    "unknown environment": (gin("train.env_id = 'Reachr-v5'"), "Did you mean: `Reacher`?"),
    "the report's Pendulum-v0": (gin("train.env_id = 'Pendulum-v0'"), "Please use `Pendulum-v1` instead"),
    "missing module": (gin("train.env_id = 'nowhere:X-v0'"), "No module named 'nowhere'"),
    "discrete action": (gin("train.env_id = 'CartPole-v1'"), "expected a continuous action space"),
    "image": (["--env_id=envs_for_tests:ImageObservation-v0"], "expected a flat Box observation"),
    "discrete observation": (["--env_id=envs_for_tests:DiscreteObservation-v0"], "expected a flat Box observation"),
    "unbounded action": (["--env_id=envs_for_tests:UnboundedAction-v0"], "bounded on every side"),
    "scale of another length": (
        [*gin("train.env_id = 'Pendulum-v1'"), *gin("SAC.observation_scale = (1, 2)")],
        "SAC.observation_scale: expected one number for each of the environment's 3 observations, received 2",
    ),
    "negative size": (gin("train.batch_size = -1"), "train.batch_size: expected a number above 0, received -1"),
    "zero size": (gin("SAC.policy_hidden_units = (8, 0)"), "SAC.policy_hidden_units: expected a number above 0"),
    "batch larger than replay": (gin("train.replay_capacity = 100"), "train.batch_size = 256 is larger than"),
    "replay larger than the machine": (gin("train.replay_capacity = 1e15"), "does not fit into memory"),
    "import": (gin("import os"), "import in line 1"),
    "include": (gin("include 'other.gin'"), "include in line 1"),
    "Python object": (gin("SAC.tau = @os.getpid()"), "@os.getpid names a Python object"),
    "macro": (gin("SAC.tau = %TAU"), "%TAU names a macro"),
    "no dot": (gin("total_steps = 5"), "'total_steps = 5' binds no name.parameter"),
    "unknown flag": (["--learning_rate=1"], "Unknown command line flag 'learning_rate'"),
    "wrong flag": (["--resume=perhaps"], "--resume"),
    "stray word": (["gin/reacher.gin"], "unexpected argument 'gin/reacher.gin'"),
    "resume without a directory": (["--resume"], "--resume needs the --logdir"),
    "resume from nothing": (["--resume", "--logdir=nothing"], "no checkpoint in nothing/checkpoints"),
    "resume and overwrite": (["--resume", "--overwrite", "--logdir=x"], "exclude each other"),
    "directory that cannot be": (["--logdir=/proc/x", *flags(bindings())], "cannot write to /proc/x"),
}


@pytest.mark.parametrize("arguments, words", REFUSALS.values(), ids=REFUSALS)
def test_refused_with_one_line_and_nothing_written(tmp_path, arguments, words):
    (tmp_path / "other.gin").write_text("SAC.tau = 0.5")
    assert words in refused(tmp_path, *arguments)


def test_refused_for_a_line_of_a_file(tmp_path):
    (tmp_path / "bad.gin").write_text("SAC.tau = 0.5\nimport os\n")
    assert "bad.gin: import in line 2" in refused(tmp_path, "--gin_file=bad.gin")


TWO_THREADS = """
import os
from pathlib import Path
cores = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, cores)
from tfsac import train
train.set_threads()
tasks = [x for x in Path("/proc/self/task").iterdir() if (x / "comm").read_text() == "tf_Compute\\n"]
print(sorted(sorted(os.sched_getaffinity(int(x.name))) for x in tasks) == [[core] for core in cores])
print(sorted(os.sched_getaffinity(0)) == cores)
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads are given cores on Linux only")
def test_two_threads_on_two_cores_have_one_each():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    free = {name: value for name, value in os.environ.items() if not name.startswith("TF_NUM")}
    done = subprocess.run([sys.executable, "-c", TWO_THREADS], env=free, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.mark.parametrize("name", ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"])
def test_refused_for_a_number_of_threads_that_is_none(tmp_path, name):
    for value in ("many", "0", "-1"):
        assert f"{name}: expected a number of threads" in refused(tmp_path, **{name: value})


def test_the_command_itself_without_the_server(tmp_path):
    """What the other tests fork, here as it is typed."""
    done = subprocess.run(
        [sys.executable, "-m", "tfsac.train", "--gin_file=no.gin"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no such gin file: no.gin\n"


def test_help_is_no_mistake(tmp_path):
    done = run("tfsac.train", "--help", cwd=tmp_path)
    assert done.status == 0 and "--gin_param" in done.out and "python -m tfsac.train" in done.out


# A directory with a run in it.


def test_runs_that_are_started_at_once_get_names_of_their_own(monkeypatch):
    class Clock(datetime):
        ticks = iter(range(1, 100))

        @classmethod
        def now(cls):
            return datetime(2026, 1, 31, 9, 5, 7, next(cls.ticks))  # a microsecond later each time

    monkeypatch.setattr(directory, "datetime", Clock)
    first, second = (directory.default_name("my_module:Robot/Arm-v0") for _ in range(2))
    assert first == "runs/my_module-Robot-Arm-v0-20260131-090507-000001" and second != first


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run in `run`, made by the command, and what the command said."""
    folder = tmp_path_factory.mktemp("finished")
    options = bindings(env_id="envs_for_tests:Walk-v0", total_steps=24)
    return folder, run("tfsac.train", "--logdir=run", *flags(options), cwd=folder)


def test_a_finished_run_leaves_all_it_should(finished):
    folder, done = finished
    assert (done.status, done.err) == (0, "")
    assert {path.name for path in (folder / "run").iterdir()} == {
        ".lock", "config.gin", "metrics.csv", "episodes.csv", "evaluations.csv", "checkpoints", "tensorboard",
        "losses.png", "returns.png", "finished.json",
    }  # fmt: skip
    assert checkpoint.steps(folder / "run" / "checkpoints") == [0, 24]
    described = "threads", "run directory", "Walk-v0: 3 observations, 1 actions", "parameters in the policy", "MB when"
    assert all(words in done.out for words in described)
    assert "device         CPU" in done.out and "done at step 24" in done.out


def test_threads_are_the_users_where_set_and_said(finished):
    assert "threads        1 inside an operation, 1 across operations" in finished[1].out


KEEP = "--env_id=envs_for_tests:Walk-v0"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([*flags(bindings())], "run already holds a run: --resume goes on with it, --overwrite replaces it"),
        (["--resume"], "run/config.gin would import the module 'envs_for_tests': if you trust it, add --trust="),
        (["--resume", "--env_id=Pendulum-v1"], "env.id was 'envs_for_tests:Walk-v0' so far and cannot become"),
        (["--resume", KEEP, *gin("SAC.policy_hidden_units = (16,)")], "cannot become (16,)"),
        (["--resume", KEEP, *gin("SAC.tau = 0.5")], "SAC.tau was 0.005 so far and cannot become 0.5"),
        (["--resume", KEEP, *gin("train.seed = 7")], "train.seed was 0 so far and cannot become 7"),
        (["--resume", KEEP, *gin("train.algorithm = 'sac_v1'")], "cannot become 'sac_v1'"),
        (["--resume", KEEP, *gin("train.totalsteps = 7")], "did you mean train.total_steps"),
        (["--resume", KEEP, *gin("train.total_steps = 1")], "train.total_steps = 1: the run is at step "),
    ],
    ids=["again", "module", "environment", "network", "hyperparameter", "seed", "algorithm", "typo", "fewer steps"],
)
def test_refused_for_a_directory_with_a_run(finished, arguments, words):
    assert words in refused(finished[0], "--logdir=run", *arguments)


@pytest.mark.parametrize(
    "line, other, words",
    [
        ("SAC.policy_hidden_units = (8, 8)", "SAC.policy_hidden_units = (16, 8)", "SAC.policy_hidden_units"),
        ("SAC.tau = 0.005", "SAC.tau = 0.5", "SAC.tau was 0.005 so far"),
        ("SAC.tau = 0.005", "import os", "import in line"),
    ],
    ids=["network", "hyperparameter", "import"],
)
def test_refused_for_a_config_that_was_edited(finished, line, other, words):
    path = finished[0] / "run" / "config.gin"
    text = path.read_text()
    assert line in text
    path.write_text(text.replace(line, other))
    try:
        assert words in refused(finished[0], "--logdir=run", "--resume", KEEP)
    finally:
        path.write_text(text)


def test_a_setting_that_an_older_run_did_not_know_stays_at_its_default():
    settings = run_settings.read([], ["train.algorithm = 'sac'"])
    before = run_settings.read([], ["train.algorithm = 'sac'"])
    del before["SAC"]["observation_scale"]
    run_settings.check_unchanged(settings, before)
    settings["SAC"]["observation_scale"] = (1.0, 2.0)
    with pytest.raises(UserError, match="SAC.observation_scale was None so far and cannot become"):
        run_settings.check_unchanged(settings, before)


@pytest.mark.parametrize("kind", [RunError, OSError])
def test_a_full_disk_hides_neither_the_reason_nor_the_last_checkpoint(tmp_path, kind):
    (tmp_path / "checkpoints" / "step-000000008").mkdir(parents=True)
    (tmp_path / ".traceback.txt").symlink_to("/dev/full")  # a write to it fails as on a full disk

    reason = "cannot write the checkpoint of step 16: No space left on device"
    with pytest.raises(kind, match=f"^{reason}; last checkpoint: step 8"), tfsac.train._explained(tmp_path):
        raise kind(reason)


def test_refused_for_a_directory_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    assert "error: run is a file, expected a directory" in refused(tmp_path, "--logdir=run", *flags(bindings()))


def test_overwriting_removes_what_a_run_left_and_nothing_else(quick):
    logdir = quick(total_steps=40)[0]
    (logdir / "notes.txt").write_text("mine")
    (logdir / "notes.csv").write_text("mine, too")
    (logdir / "non_finite.npz").write_text("")
    run_here(logdir, bindings(env_id="Walk-v0", total_steps=16), overwrite=True)
    assert (logdir / "notes.txt").read_text() == "mine" and (logdir / "notes.csv").read_text() == "mine, too"
    assert not (logdir / "non_finite.npz").exists()
    assert checkpoint.steps(logdir / "checkpoints") == [0, 16] and steps_of(logdir) == [16]


def test_what_stopped_a_run_is_forgotten_when_it_goes_on(quick):
    logdir, _, _ = quick(total_steps=16)
    for name in ("non_finite.npz", "traceback.txt"):
        (logdir / name).write_text("of a run that could not go on")
    assert run_here(logdir, ["train.total_steps = 24"], resume=True) == 24
    assert not {"non_finite.npz", "traceback.txt"} & {path.name for path in logdir.iterdir()}


def test_an_environment_that_fails_before_the_old_run_is_replaced_leaves_no_trace_in_it(quick):
    logdir, _, _ = quick(total_steps=16)
    before = snapshot(logdir)
    settings = run_settings.read([], bindings(env_id="NanStart-v0", total_steps=100))
    with pytest.raises(NonFiniteError, match="^the environment's observation is not finite$"):
        tfsac.train.run(logdir, settings, overwrite=True)
    assert snapshot(logdir) == before


class Killed(BaseException):
    """The process ends here: nothing catches it."""


def test_a_kill_before_the_first_checkpoint_leaves_a_directory_that_overwrite_takes(tmp_path, monkeypatch, quick):
    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save", killed)
        quick()
    logdir = tmp_path / "a"
    assert (logdir / "config.gin").exists()
    with pytest.raises(UserError, match="no checkpoint in"):
        run_here(logdir, resume=True)
    with pytest.raises(UserError, match="already holds a run"):
        check_free(logdir, overwrite=False)
    check_free(logdir, overwrite=True)
    run_here(logdir, bindings(env_id="Walk-v0", total_steps=16), overwrite=True)
    assert checkpoint.steps(logdir / "checkpoints") == [0, 16]


def test_a_second_process_in_one_directory_is_refused_and_no_lock_outlives_the_first(tmp_path):
    opens = tmp_path / "gate"
    first = [*bindings(total_steps=10**9), f"env.wrappers = {[gate(opens, 5)]!r}"]  # where it waits
    first = Command("tfsac.train", "--logdir=run", *flags(first), cwd=tmp_path, PYTHONPATH=TESTS)
    first.wait_until(reached(opens).exists)
    new = flags(bindings(total_steps=8))
    busy = "another process is training in run: wait for it or take another directory"
    for arguments, words in [
        (new, "run already holds a run"),
        (["--resume", "--trust=envs_for_tests", *gin("train.total_steps = 8")], busy),
        (["--overwrite", *new], busy),
    ]:
        done = run("tfsac.train", "--logdir=run", *arguments, cwd=tmp_path, PYTHONPATH=TESTS)
        assert done.status == 2 and words in done.err and done.err.count("\n") == 1
    assert first.alive() and checkpoint.steps(tmp_path / "run" / "checkpoints") == [0]
    first.kill()
    assert first.wait().status == -9
    opens.touch()
    again = ["--resume", "--trust=envs_for_tests", *gin("train.total_steps = 8")]
    done = run("tfsac.train", "--logdir=run", *again, cwd=tmp_path, PYTHONPATH=TESTS)
    assert done.status == 0 and "resumed at step 0" in done.out


@pytest.mark.slow
def test_pendulum_is_learned_in_8000_steps(tmp_path):
    # Optimal control reaches -139, a random policy -1,200; the mean of 50 episodes has a standard error of about 12.
    params = [(ROOT / "gin" / "pendulum.gin").read_text(), "train.total_steps = 8000", "train.eval_episodes = 50"]
    run_here(tmp_path, [*params, "train.eval_every = 8000"])
    returns = [float(row["return"]) for row in rows(tmp_path / "evaluations.csv")]
    assert len(returns) == 50 and np.mean(returns) > -200
