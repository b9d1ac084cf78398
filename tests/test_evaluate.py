"""The evaluate command: what it says of a policy whose returns are known."""

import json
import re
import subprocess
import sys

import envs_for_tests  # registers the environments
import gymnasium as gym
import numpy as np
import pytest
from commands import run
from runs import bindings, rows, run_here

from tfsac.data.envs import require_bounds
from tfsac.data.replay import Replay
from tfsac.deploy import pipeline
from tfsac.deploy.stress.stress import stress
from tfsac.errors import UserError
from tfsac.evaluate import load
from tfsac.export import export_run
from tfsac.run import checkpoint


def write_run(logdir, env_id, action, step=10, sizes=(3, 1)):
    """A run whose policy takes the same action everywhere, given in the agent's units."""
    o, a = sizes
    weights = {
        "hidden_0/kernel": np.zeros([o, 4]), "hidden_0/bias": np.zeros(4),
        "mu/kernel": np.zeros([4, a]), "mu/bias": np.arctanh(np.full(a, action)),
        "log_std/kernel": np.zeros([4, a]), "log_std/bias": np.zeros(a),
    }  # fmt: skip
    arrays = {f"policy/{name}": np.float32(array) for name, array in weights.items()}
    replay = Replay(10, o, a, seed=0)
    facts = {"settings": {"env": {"id": env_id}}, "replay": replay.get_state()}
    checkpoint.save(logdir / "checkpoints", step, facts, arrays, replay)
    return logdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run in Pendulum-v1 and one in an environment of the user's own."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "pendulum", "Pendulum-v1", 0.0)
    write_run(folder / "walk", "envs_for_tests:Walk-v0", 0.25)
    write_run(folder / "prints", "envs_for_tests:Prints-v0", 0.0)
    return folder


WALK = "--env_id=envs_for_tests:Walk-v0"
WALK_RETURN = 7 * -(1.5**2)  # seven steps; 0.25 is 1.5 in the environment's units, and the reward is -a^2


def test_json_is_one_object_and_nothing_else(folder):
    done = run("tfsac.evaluate", "--logdir=walk", "--episodes=3", "--json", WALK, cwd=folder)
    assert (done.status, done.err) == (0, "") and done.out.count("\n") == 1
    found = json.loads(done.out)
    assert set(found) == {"return_mean", "return_std", "episodes", "returns"}
    assert found["episodes"] == 3 and found["returns"] == [pytest.approx(WALK_RETURN, rel=1e-6)] * 3
    assert found["return_mean"] == pytest.approx(WALK_RETURN, rel=1e-6) and found["return_std"] == pytest.approx(0)


def test_json_is_one_object_beside_an_environment_that_prints(folder):
    arguments = "--logdir=prints", "--episodes=2", "--json", "--video=clip.webp", "--trust=envs_for_tests"
    done = run("tfsac.evaluate", *arguments, cwd=folder)
    assert done.status == 0 and done.out.count("\n") == 1 and len(json.loads(done.out)["returns"]) == 2
    assert done.err.count("from Python") == done.err.count("from C") > 2
    assert (folder / "clip.webp").exists()


def test_the_line_says_mean_interval_and_spread(folder):
    values = json.loads(run("tfsac.evaluate", "--logdir=pendulum", "--episodes=5", "--json", cwd=folder).out)
    done = run("tfsac.evaluate", "--logdir=pendulum", "--episodes=5", cwd=folder)
    pattern = (
        r"return (\S+), 95 % interval of the mean (\S+) to (\S+), standard deviation (\S+), 5 episodes of Pendulum-v1\n"
    )
    mean, low, high, std = map(float, re.fullmatch(pattern, done.out).groups())
    returns = values["returns"]
    half = 2.776445 * np.std(returns, ddof=1) / 5**0.5  # from the table of Student's t, four degrees of freedom
    expected = [np.mean(returns), np.mean(returns) - half, np.mean(returns) + half, np.std(returns, ddof=1)]
    np.testing.assert_allclose([mean, low, high, std], expected, atol=6e-4)
    assert values["return_mean"] == pytest.approx(expected[0]) and values["return_std"] == pytest.approx(expected[3])
    assert std > 100  # Pendulum's starts differ


def test_equal_seeds_give_equal_starts(folder):
    def returns(seed):
        done = run("tfsac.evaluate", "--logdir=pendulum", "--episodes=3", f"--seed={seed}", "--json", cwd=folder)
        return json.loads(done.out)["returns"]

    assert returns(5) == returns(5) and not set(returns(5)) & set(returns(100))


def test_the_last_checkpoint_is_taken(tmp_path):
    write_run(tmp_path / "run", "Walk-v0", 0.25, step=10)
    write_run(tmp_path / "run", "Walk-v0", -0.5, step=20)
    act, _ = load(tmp_path / "run", None)
    np.testing.assert_allclose(act(np.zeros(3, np.float32)), [-0.5], rtol=1e-6)


@pytest.mark.parametrize(
    "algorithm, scaled",
    [("sac", []), ("sac_v1", ["SACv1.observation_scale = (4.0, 0.3, 0.1)"])],
    ids=["plain", "scaled"],
)
def test_it_repeats_the_trainers_own_evaluation(tmp_path, algorithm, scaled):
    params = [*bindings(algorithm, total_steps=8, eval_episodes=3), *scaled]
    run_here(tmp_path / "run", params)  # nothing is learned in so few steps
    expected = [float(row["return"]) for row in rows(tmp_path / "run" / "evaluations.csv")]
    done = run("tfsac.evaluate", "--logdir=run", "--episodes=3", "--json", cwd=tmp_path)
    assert json.loads(done.out)["returns"] == expected and len(set(expected)) == 3


REFUSALS = {
    "neither run nor artefact": ([], "expected either --logdir=RUN_DIRECTORY or --policy=ARTEFACT"),
    "both": (["--logdir=pendulum", "--policy=x.tflite"], "expected either"),
    "no run": (["--logdir=nothing"], "no checkpoint in nothing/checkpoints"),
    "no artefact": (["--policy=nothing.tflite"], "nothing.tflite"),
    "no episodes": (["--logdir=pendulum", "--episodes=0"], "--episodes: expected a positive number, received 0"),
    "negative seed": (["--logdir=pendulum", "--seed=-1"], "--seed: expected 0 or more, received -1"),
    "seed that is no number": (["--logdir=pendulum", "--seed=x"], "--seed"),
    "module": (
        ["--logdir=walk"],
        "walk would import the module 'envs_for_tests': if you trust it, add --trust=envs_for_tests",
    ),
    "another environment": (["--logdir=pendulum", "--env_id=Reacher-v5"], "trained in 'Pendulum-v1', received"),
}


@pytest.mark.parametrize("arguments, words", REFUSALS.values(), ids=REFUSALS)
def test_refused_with_one_line(folder, arguments, words):
    done = run("tfsac.evaluate", *arguments, cwd=folder)
    assert (done.status, done.out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", done.err) and words in done.err


def test_a_damaged_checkpoint_is_refused(tmp_path):
    logdir = write_run(tmp_path, "Walk-v0", 0.25)
    (logdir / "checkpoints" / "step-000000010" / "state.npz").write_bytes(b"half of it")
    with pytest.raises(UserError, match="step 10 is damaged: state.npz"):
        load(logdir, None)


@pytest.mark.parametrize("name, words", [("NanReward", "reward is nan"), ("Raises", "raised KeyError")])
def test_an_environment_that_breaks_down_ends_it_with_one_line(tmp_path, name, words):
    write_run(tmp_path / "run", f"envs_for_tests:{name}-v0", 0.25)
    arguments = ["--logdir=run", f"--env_id=envs_for_tests:{name}-v0", "--json"]
    done = run("tfsac.evaluate", *arguments, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert re.fullmatch(r"error: [^\n]+\n", done.err) and words in done.err


def test_it_starts_without_tensorflow():
    code = "import sys, tfsac.evaluate; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_other_bounds_of_actions_than_it_was_trained_with_are_refused(tmp_path, monkeypatch):
    params = bindings(env_id="envs_for_tests:Walk-v0", total_steps=24, start_steps=16)
    run_here(tmp_path, params)
    load(tmp_path, None, "envs_for_tests:Walk-v0")
    monkeypatch.setattr(envs_for_tests.Walk, "action_space", gym.spaces.Box(-2.0, 6.0, [1], np.float32))
    said = re.escape("its actions had low = [-1.0], and the environment has [-2.0] now")
    with pytest.raises(UserError, match=said):
        load(tmp_path, None, "envs_for_tests:Walk-v0")
    with pytest.raises(UserError, match=said):
        run_here(tmp_path, [*params, "train.total_steps = 32"], resume=True)
    with pytest.raises(UserError, match=said):
        export_run(tmp_path, tmp_path / "out", trusted=["envs_for_tests"])
    with pytest.raises(UserError, match=said):
        stress(tmp_path, episodes=2)


def test_another_time_limit_than_in_training_is_said(tmp_path, monkeypatch, capsys):
    params = bindings(env_id="envs_for_tests:Walk-v0", total_steps=24, start_steps=100, eval_every=None)
    run_here(tmp_path, params)
    monkeypatch.setattr(pipeline, "FORMATS", [form for form in pipeline.FORMATS if form.file == "policy.tflite"])

    def notes(limit, call, *arguments, **options):
        monkeypatch.setattr(gym.spec("Walk-v0"), "max_episode_steps", limit)
        call(*arguments, **options)
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]

    def note(now, before):
        words = f"note: the time limit of episodes is {now} steps, it was {before} in training: "
        return [words + "returns are not comparable"]

    longer, name = [*params, "train.total_steps = 32"], "envs_for_tests:Walk-v0"
    assert notes(1000, load, tmp_path, None, name) == []
    assert notes(500, load, tmp_path, None, name) == note(500, 1000)
    assert notes(500, run_here, tmp_path, longer, resume=True) == note(500, 1000)
    out = tmp_path / "out"
    assert notes(600, export_run, tmp_path, out, episodes=2, trusted=[name], stress=False) == note(600, 500)
    assert notes(700, load, None, out / "policy.tflite", name) == note(700, 600)


def test_bounds_that_a_file_rounded_to_float32_are_the_same():
    require_bounds({"low": [-0.8, -1.0], "high": [0.8, 1.0]}, np.float64([-0.8, -1]), np.float64([0.8, 1]))
    require_bounds(
        {"low": [float(np.float32(-0.8))], "high": [float(np.float32(0.8))]}, np.array([-0.8]), np.array([0.8])
    )
    require_bounds(None, np.array([-0.8]), np.array([0.8]))  # what kept none
    for action in ({"low": [-0.8], "high": [0.81]}, {"low": [-0.8, 0.0], "high": [0.8, 1.0]}):
        with pytest.raises(UserError, match="its actions had"):
            require_bounds(action, np.array([-0.8]), np.array([0.8]))
