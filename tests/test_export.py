"""The export: a complete directory or none, and a report that tells the truth."""

import hashlib
import io
import json
import math
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from random_policy import random_policy
from runs import bindings, run_here
from tqdm import tqdm

from tfsac import evaluate
from tfsac.data.envs import EnvSettings, make_env
from tfsac.data.rollout import rollout
from tfsac.deploy import artefact, facts, ladder, pipeline, report
from tfsac.deploy.device_kit import run_policy
from tfsac.deploy.formats.c_header import CHeader
from tfsac.deploy.formats.format import Format, guard_limit, round_inward
from tfsac.errors import UserError
from tfsac.export import export_run
from tfsac.policy import Layer, Policy
from tfsac.statistics import confidence_interval

TFLITE = [form.file for form in pipeline.FORMATS if form.file.endswith(".tflite")]


@pytest.fixture(scope="module", autouse=True)
def few_timed_calls():
    """Latencies are no matter here, and thousands of calls each would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "WARM_UP", 1)
        patch.setattr(ladder, "TIMED", 10)
        yield


@pytest.fixture(scope="module")
def env():
    return make_env("Pendulum-v1", unit_actions=False)


@pytest.fixture(scope="module")
def policy():
    return random_policy([3, 16, 16, 1], seed=0)


@pytest.fixture(scope="module")
def states(env):
    """What a run's replay would hold, [N, O]."""
    rng, seen = np.random.default_rng(0), []

    def act(observation):
        seen.append(observation)
        return rng.uniform(-2, 2, 1).astype(np.float32)

    rollout(act, env, 2)
    return np.array(seen)


def export(policy, states, env, out, settings=None, **options):
    training = {"steps": 300, "gin": "train.total_steps = 300\n"}
    return pipeline.export(policy, states, env, settings, training, out, **{"episodes": 2, **options})


@pytest.fixture(scope="module")
def bars():
    """The progress bars of `out`, as they were at its end."""
    return []


@pytest.fixture(scope="module")
def out(policy, states, env, bars, tmp_path_factory):
    def bar(**options):
        bars.append(tqdm(**options | {"disable": False, "file": io.StringIO()}))
        return bars[-1]

    path = tmp_path_factory.mktemp("export") / "pendulum"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "tqdm", bar)
        result = export(policy, states, env, path, EnvSettings("Pendulum-v1"), episodes=4, stress=False)
    assert result["passed"] is True and result["stress"] is None and result["left_out"] == []
    return path


@pytest.fixture(scope="module")
def written(out):
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def reference(policy, states, env):
    made = pipeline.prepare(policy, states[:50], env, EnvSettings("Pendulum-v1"), {})
    return ladder.make_reference(made, env, 3)


def test_every_artefact_and_the_kit_are_there(out):
    names = {path.name for path in out.iterdir()}
    assert {*(form.file for form in pipeline.FORMATS), "report.json", "report.md", "report.png"} <= names
    assert {"run_policy.py", "requirements.txt", "README.md", "c"} <= names


@pytest.mark.parametrize("name", TFLITE)
def test_every_file_describes_itself_and_the_report_names_its_sum(name, out, written):
    content = (out / name).read_bytes()
    assert written["artefacts"][name]["sha256"] == hashlib.sha256(content).hexdigest()
    said = run_policy.Policy(out / name).facts
    assert said["environment"]["id"] == "Pendulum-v1" and said["environment"]["control_rate_hz"] == 20
    assert said["observation"]["names"] == ["cos(theta)", "sin(theta)", "theta_dot"]
    assert said["action"] | {"low": [-2.0], "high": [2.0]} == said["action"]
    assert "train.total_steps = 300" in said["training"]["gin"]
    assert said["return"]["episodes"] == 4
    error, tolerance = run_policy.selftest(run_policy.Policy(out / name))
    assert error <= tolerance


def test_a_progress_bar_counts_every_episode_to_its_end(out, bars):
    (bar,) = bars
    assert bar.n == bar.total == 4 * 10  # random actions, the policy and its samples, and the seven files


def test_without_stress_no_file_speaks_of_it(out):
    assert "tolerates" not in run_policy.Policy(out / "policy.tflite").facts
    for name in ("policy.h", "report.md"):
        assert "olerates" not in (out / name).read_text()


def test_the_float_file_is_as_small_as_promised(written):
    entry = written["artefacts"]["policy.tflite"]
    metadata = entry["bytes"] - entry["bytes_without_metadata"]
    assert entry["bytes"] <= 1.05 * (4 * written["parameters"] + metadata + 6000)
    assert written["parameters"] == 3 * 16 + 16 + 16 * 16 + 16 + 16 + 1
    assert written["multiply_adds"] == 3 * 16 + 16 * 16 + 16


@pytest.mark.parametrize("name", ["policy.tflite", "saved_model"])
def test_an_artefact_acts_to_the_return_of_the_policy(name, policy, env, out, written):
    expected = rollout(lambda observation: 2 * policy.deterministic(observation), env, 4)[0]
    act, said = artefact.load(out / name)
    assert facts.environment(said, name) == EnvSettings("Pendulum-v1")
    np.testing.assert_allclose(rollout(act, env, 4)[0], expected, rtol=1e-4)
    assert written["artefacts"][name]["return"]["mean"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_runner_in_the_exported_directory_reaches_the_same_return(out, written):
    done = subprocess.run(
        [sys.executable, "run_policy.py", "policy.tflite", "--env=Pendulum-v1", "--episodes=4"],
        cwd=out, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = float(done.stdout.split()[1].rstrip(","))
    assert found == pytest.approx(written["artefacts"]["policy.tflite"]["return"]["mean"], rel=1e-4)


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


def test_an_export_that_fails_half_way_leaves_nothing(policy, states, env, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(pipeline.FORMATS[1], "write", fails, raising=False)  # by then the SavedModel has been written
    with pytest.raises(OSError, match="disk full"):
        export(policy, states, env, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_no_format_knows_is_refused(policy, states, env, tmp_path):
    class Recurrent(type(policy)):
        """May hold more than the formats write."""

    with pytest.raises(UserError, match="expected a tfsac.policy.Policy, received Recurrent"):
        export(Recurrent(*policy), states, env, tmp_path / "out")


def guarded(reference):
    """The trained policy behind the guard that every file has."""
    return lambda x: reference.deterministic.act(np.nan_to_num(x).clip(-1e6, 1e6))


def test_a_policy_that_is_off_fails_the_ladder(reference):
    """The checks can fail: a file whose actions are wrong by a thousandth of the span does."""
    act = guarded(reference)
    exact = pipeline.FORMATS[1]
    assert all(ladder.check(exact, ladder.measure(act, reference), reference).values())
    off = ladder.measure(lambda x: np.clip(act(x) + 4e-3, -2, 2), reference)
    assert not ladder.check(exact, off, reference)["action error"]
    outside = ladder.measure(lambda x: act(x) * 2, reference)
    assert not ladder.check(exact, outside, reference)["finite and inside the bounds"]


def test_a_guard_that_is_another_or_gone_fails_the_ladder(policy, states, env, reference, tmp_path):
    def failing(act):
        checks = ladder.check(pipeline.FORMATS[1], ladder.measure(act, reference), reference)
        return [check for check, passed in checks.items() if not passed]

    act, known = guarded(reference), np.nan_to_num
    assert failing(lambda x: act(known(x, nan=1e6))) == ["guard"]  # NaN is to count as 0
    header = CHeader()
    header.write(tmp_path / "policy.h", pipeline.prepare(policy, states[:50], env, EnvSettings("Pendulum-v1"), {}))
    assert failing(header.load(tmp_path / "policy.h")) == []
    text = (tmp_path / "policy.h").read_text()
    without = text.replace("x = x > 1000000.0f ? 1000000.0f : x;", "").replace("x < -1000000.0f ? -1000000.0f : ", "")
    assert len(text) - len(without) > 50
    (tmp_path / "policy.h").write_text(without)
    assert "guard" in failing(header.load(tmp_path / "policy.h"))


def test_a_format_is_one_object(policy, states, tmp_path, monkeypatch):
    """Another format needs no other file changed: the pipeline, the ladder and the report take it as it is."""

    class Numbers(Format):
        file, purpose, oldest_runtime = "policy.npz", "a toy", "numpy"

        def write(self, path, deployable):
            np.savez(path, **deployable.policy.arrays(), low=deployable.low, high=deployable.high)

        def load(self, path):
            arrays = dict(np.load(path, allow_pickle=False))
            low, high = arrays.pop("low"), arrays.pop("high")
            restored = type(policy).from_arrays(arrays)

            def act(observation):
                known = np.clip(np.nan_to_num(observation, nan=0), -1e6, 1e6)
                return np.clip(restored.deterministic(known) * (high - low) / 2, low, high)

            return act

        def describe(self, entry):
            return ["a note of its own"]

    monkeypatch.setattr(pipeline, "FORMATS", (Numbers(),))
    settings = EnvSettings("Pendulum-v1", wrappers=(("MaxAndSkipObservation", {"skip": 4}),))
    skipping = settings.make(unit_actions=False)
    result = export(policy, states, skipping, tmp_path / "out", settings, stress=False)
    assert result["passed"] and result["artefacts"]["policy.npz"]["verdict"] == "passed"
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| `policy.npz` | a toy | numpy |" in text and "- a note of its own" in text
    rate = "Control rate in training: unknown, since MaxAndSkipObservation may take several steps for one action."
    assert rate in text


def test_a_header_that_no_compiler_checked_has_not_passed(policy, states, env, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "FORMATS", pipeline.FORMATS[-1:])
    monkeypatch.setenv("PATH", "")
    result = export(policy, states, env, tmp_path / "out")
    assert result["passed"] is None and result["artefacts"]["policy.h"]["verdict"] == "not checked"
    assert report.summary(result).endswith("| not checked: no C compiler here |")
    assert "passed where checked, but not all files were" in (tmp_path / "out" / "report.md").read_text()


def test_confidence_intervals_are_students():
    # t(0.975) is 4.303 for 2 degrees of freedom and 12.706 for 1; by hand 2 -/+ 4.303 / sqrt(3) and 1 -/+ 12.706.
    mean, low, high = confidence_interval([1, 2, 3])
    assert mean == 2 and high - mean == mean - low == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert confidence_interval([0, 2]) == pytest.approx((1, 1 - 12.7062, 1 + 12.7062), rel=1e-5)
    assert confidence_interval([7]) == (7, -math.inf, math.inf)


def test_importing_what_exports_changes_nothing_and_needs_no_tensorflow():
    script = """
import sys, matplotlib
import tfsac.deploy.pipeline, tfsac.deploy.report, tfsac.export
assert matplotlib.get_backend(auto_select=False) is None and "matplotlib.pyplot" not in sys.modules
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


class Task(gym.Env):
    """Whoever chooses the mean of the two hidden numbers loses nothing; an episode is 20 steps long.

    Args:
        scale: of the observations of the hidden numbers.
        low, high: bounds of the action.
        seeded: whether a reset obeys its seed.
        chaotic: whether the hidden numbers follow from each other and the action, so that any rounding grows.
    """

    def __init__(self, scale=1.0, low=(-1.0,), high=(1.0,), dtype=np.float32, seeded=True, chaotic=False):
        self.observation_space = Box(-np.inf, np.inf, [2], np.float32)
        self.action_space = Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
        self.scale, self.seeded, self.chaotic = scale, seeded, chaotic

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed if self.seeded else None)
        self.steps, self.hidden = 0, self.np_random.uniform(-1, 1, 2)
        return self.observe(), {}

    def step(self, action):
        reward = -float((np.mean(action) - self.hidden.mean()) ** 2)
        if self.chaotic:
            self.hidden = 1 - 2 * np.clip(self.hidden + 0.01 * action[0], -1, 1) ** 2
        else:
            self.hidden = self.np_random.uniform(-1, 1, 2)
        self.steps += 1
        return self.observe(), reward, False, self.steps == 20, {}

    def observe(self):
        return (self.scale * self.hidden).astype(np.float32)


def replay(scale=1.0, count=500):
    return (scale * np.random.default_rng(0).uniform(-1, 1, [count, 2])).astype(np.float32)


def formats(*files):
    return tuple(form for form in pipeline.FORMATS if form.file in files)


def failed(result):
    return {
        (name, check) for name, x in result["artefacts"].items() for check, passed in x["checks"].items() if not passed
    }


def test_every_file_says_what_the_policy_tolerates_and_is_compared_under_stress(tmp_path, monkeypatch):
    gym.register("Guess-v0", Task, max_episode_steps=20, disable_env_checker=True)
    monkeypatch.setattr(
        pipeline,
        "FORMATS",
        formats("saved_model", "policy.tflite", "policy_int8.tflite", "policy_sample.tflite", "policy.h"),
    )
    # relu(x) - relu(-x), of x the mean of the two numbers.
    hidden = Layer(np.float32([[0.5, -0.5], [0.5, -0.5]]), np.zeros(2, np.float32))
    head = Layer(np.float32([[1], [-1]]), np.zeros(1, np.float32))
    result = export(Policy((hidden,), head, head), replay(), Task(), tmp_path / "out", EnvSettings("Guess-v0"))
    out, line = tmp_path / "out", result["facts"]["tolerates"]
    # The next two numbers are drawn anew: an answer that comes a step late is as good as one by chance.
    assert line.startswith("less than 1 step of delay, at least 10 % sensor noise, ")
    for name in ("policy.tflite", "policy_int8.tflite", "policy_sample.tflite"):
        assert run_policy.Policy(out / name).facts["tolerates"] == line
        assert result["artefacts"][name]["sha256"] == hashlib.sha256((out / name).read_bytes()).hexdigest()
    assert artefact.load(out / "saved_model")[1]["tolerates"] == line
    assert f" * tolerates: {line}\n" in (out / "policy.h").read_text()
    text = (out / "report.md").read_text()
    assert text.splitlines()[2] == f"Tolerates **{line}**." and "\n| action delay: 2 steps | -" in text
    assert "policy_sample.tflite" not in text[text.index("## Under stress") : text.index("## Each file")]
    compared = {name: entry["stress"] for name, entry in result["artefacts"].items() if "stress" in entry}
    assert compared.keys() == result["artefacts"].keys() - {"policy_sample.tflite"}
    for exact in ("saved_model", "policy.tflite", "policy.h"):
        assert all(0 <= change["far_end"] < 1e-4 for change in compared[exact].values())
    assert 1e-5 < compared["policy_int8.tflite"]["observation_noise"]["far_end"] < 0.03


def test_an_environment_that_cannot_be_made_again_is_exported_without_stress(
    policy, states, env, tmp_path, monkeypatch
):
    monkeypatch.setattr(pipeline, "FORMATS", formats("policy.h"))
    result = export(policy, states, env, tmp_path / "out", EnvSettings("Missing-v0"))
    assert result["passed"] and result["left_out"][0].startswith("no stress test: cannot make environment 'Missing-v0'")


def test_observations_beyond_a_million_are_exported_as_they_were_trained(tmp_path, monkeypatch):
    """Encoder counts: all files but int8 used to clip them, and so did what they were compared with."""
    scale = 3e7
    policy = random_policy([2, 16, 1], seed=3).scaled_input([1 / scale] * 2)
    monkeypatch.setattr(
        pipeline, "FORMATS", formats("policy.tflite", "policy_float16.tflite", "policy_int8.tflite", "policy.h")
    )
    env = Task(scale)
    result = export(policy, replay(scale), env, tmp_path / "out", episodes=4)
    assert not failed(result)
    assert result["guard_limit"] == 1e11
    assert "clip observations to +/-1e+11" in (tmp_path / "out" / "report.md").read_text()
    trained = np.mean(rollout(policy.deterministic, env, 4)[0])
    assert result["policy_return"]["mean"] == pytest.approx(trained, rel=1e-6)
    for name in ("policy.tflite", "policy_float16.tflite", "policy.h"):
        assert result["artefacts"][name]["return"]["mean"] == pytest.approx(trained, rel=1e-3)


def test_what_the_guard_changes_on_states_of_the_replay_is_a_failed_check(tmp_path):
    scale = 3e7
    policy = random_policy([2, 16, 1], seed=3).scaled_input([1 / scale] * 2)
    made = pipeline.prepare(policy, replay(scale), Task(scale), None, {})
    reference = ladder.make_reference(made, Task(scale), 3)
    for form in formats("policy.tflite", "policy.h"):
        form.write(tmp_path / form.file, made._replace(limit=1e6))
        found = ladder.check(form, ladder.measure(form.load(tmp_path / form.file), reference), reference)
        assert not found["action error"]


def test_weights_that_could_overflow_are_refused():
    policy = random_policy([2, 8, 1], seed=0)
    guard_limit(policy, replay())
    for value in (np.nan, np.inf, 1e34):
        policy.mu.kernel[3, 0] = value
        with pytest.raises(UserError, match="layer 1 of the policy holds NaN, infinity or weights that could overflow"):
            guard_limit(policy, replay())


def test_rounding_that_grows_in_an_episode_is_no_fault(tmp_path, monkeypatch):
    """As where contacts multiply it: the actions agree, the episodes do not, and neither is the better one."""
    monkeypatch.setattr(pipeline, "FORMATS", formats("policy_float16.tflite", "policy.h"))
    env = Task(chaotic=True)
    result = export(random_policy([2, 16, 1], seed=3), replay(), env, tmp_path / "out", episodes=20)
    assert not failed(result)
    half = result["artefacts"]["policy_float16.tflite"]
    assert half["error"]["max"] < 0.2 and half["return_difference"]["high"] - half["return_difference"]["low"] > 0.02


def test_an_environment_that_ignores_its_seed_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "FORMATS", formats("policy.h"))
    result = export(random_policy([2, 16, 1], seed=3), replay(), Task(seeded=False), tmp_path / "out", episodes=20)
    assert result["repeats_starts"] is False and not failed(result)
    assert "**This environment ignores its seed**" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    "low, high, passed",
    [
        (-88, 26, True),  # a HalfCheetah's policy.h: no difference that 20 episodes could tell
        (-103, -10, True),  # its float16: worse, by less than 1 % of 4,278
        (-300, -40, True),
        (-300, -43, False),
        (10, 20, True),
    ],
)
def test_the_return_fails_where_the_whole_interval_lies_below_the_allowed_loss(reference, low, high, passed):
    measured = ladder.measure(guarded(reference), reference)
    measured["return_difference"] = {"mean": (low + high) / 2, "low": low, "high": high}
    found = ladder.check(pipeline.FORMATS[1], measured, reference._replace(worth=4278))
    assert found["return"] is passed


def bang_bang(towards=(1.0, 0.37)):
    """Full torque one way or the other, by the sign of towards . s; in layers large enough to be quantised.

    relu(x) - relu(-x) = x, so pairs of units hold 32 directions of s, and the next pairs towards . s 32 times over.
    """
    rng = np.random.default_rng(0)
    directions = rng.normal(size=[2, 32])
    back = np.linalg.pinv(directions)
    mixed = back @ np.outer(towards, np.ones(32)) + (np.eye(32) - back @ directions) @ rng.normal(size=[32, 32])
    assert np.allclose(directions @ mixed, np.outer(towards, np.ones(32)))
    kernels = np.hstack([directions, -directions]), np.block([[mixed, -mixed], [-mixed, mixed]])
    full = 100 * np.repeat([[1.0], [-1.0]], 32, axis=0)
    layers = [Layer(np.float32(x), np.zeros(x.shape[1], np.float32)) for x in (*kernels, full, 0 * full)]
    return Policy(tuple(layers[:2]), *layers[2:])


QUANTISED = ("policy_float16.tflite", "policy_dynamic.tflite", "policy_int8.tflite")


def test_a_policy_that_switches_is_sound_though_rounding_moves_states_across_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "FORMATS", formats(*QUANTISED))
    result = export(bang_bang(), replay(count=10_000), Task(), tmp_path / "out", episodes=20)
    assert not failed(result)
    error = result["artefacts"]["policy_dynamic.tflite"]["error"]
    assert error["max"] > 25 and error["mean"] < 1  # some answers become the opposite


@pytest.mark.parametrize("file", QUANTISED)
def test_a_wrong_file_of_a_policy_that_switches_fails(file, tmp_path):
    """Its line is turned by 25 degrees, and the task happens to pay more for it."""
    right, wrong = (pipeline.prepare(bang_bang(x), replay(), Task(), None, {}) for x in ((1.0, 0.37), (0.8, 0.8)))
    reference = ladder.make_reference(right, Task(), 3)
    (form,) = formats(file)
    form.write(tmp_path / file, wrong)
    assert not ladder.check(form, ladder.measure(form.load(tmp_path / file), reference), reference)["action error"]


@pytest.mark.parametrize("file", QUANTISED[:2])
def test_a_smooth_policy_is_held_to_the_largest_error(file, reference):
    (form,) = formats(file)
    assert ladder.allowed_error(form, reference)["max"] == 100 * form.largest_error
    act, states = guarded(reference), reference.states
    once = ladder.measure(lambda x: np.clip(act(x) + 2 * np.all(x == states[7]), -2, 2), reference)  # in one state
    assert not ladder.check(form, once, reference)["action error"]


def test_the_returns_worth_does_not_change_with_a_constant_in_the_reward(policy, states, env):
    made = pipeline.prepare(policy, states, env, None, {})
    plain = ladder.make_reference(made, env, 3)
    better = ladder.make_reference(made, gym.wrappers.TransformReward(env, lambda reward: reward + 8), 3)
    assert plain.worth == pytest.approx(better.worth, rel=1e-6)
    assert np.mean(better.deterministic.returns) == pytest.approx(np.mean(plain.deterministic.returns) + 200 * 8)


def test_bounds_that_float32_lacks_are_kept_by_every_file(tmp_path):
    low, high = np.array([-0.001, -0.8, 0.3, -1e-9, 0.25]), np.array([0.001, 0.8, 0.7, 1e9, 0.25])
    policy = random_policy([2, 2, 5], seed=0)
    policy.hidden[0].kernel[:] = [[1, -1], [0, 0]]
    policy.mu.kernel[:] = [[100] * 5, [-100] * 5]  # it saturates, on either side
    made = pipeline.prepare(policy, replay(), Task(low=low, high=high, dtype=np.float64), None, {})
    assert np.all(made.low >= low) and np.all(made.high <= high)
    for form in pipeline.FORMATS:
        form.write(tmp_path / form.file, made)
        act = form.load(tmp_path / form.file)
        noise = [np.zeros(5, np.float32)] if form.samples else []
        actions = np.array([act(x, *noise) for x in replay()], np.float64)
        assert np.all(actions >= low) and np.all(actions <= high), form.file
        assert np.all(actions[:, 4] == 0.25), form.file
        ends = np.concatenate([actions.max(axis=0) - high, actions.min(axis=0) - low]) / np.tile(high - low + 1e-9, 2)
        assert np.abs(ends).max() < (1e-2 if "int8" in form.file else 1e-4)  # int8 knows tanh up to 127 / 128


@pytest.mark.parametrize("bound", [0.1, 0.8, -0.3, 1e-3, 1 / 3])
def test_bounds_are_rounded_inward_and_one_that_is_a_point_stays_one(bound):
    low, high = round_inward([bound, bound], [bound, bound + 1])
    assert low.dtype == high.dtype == np.float32
    assert low[0] == high[0] == np.float32(bound)
    assert float(low[1]) >= bound and float(high[1]) <= bound + 1
    assert float(np.nextafter(low[1], np.float32(-9))) < bound
    assert float(np.nextafter(high[1], np.float32(9))) > bound + 1


def test_an_action_that_is_a_constant_has_no_error_and_the_report_is_json(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "FORMATS", formats("policy.tflite", "policy.h"))
    env = Task(low=(-1.0, 0.1), high=(1.0, 0.1), dtype=np.float64)
    result = export(random_policy([2, 8, 2], seed=0), replay(), env, tmp_path / "out")
    assert not failed(result)

    def refused(constant):
        raise AssertionError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "out" / "report.json").read_text(), parse_constant=refused)
    assert written["artefacts"]["policy.h"]["error"]["max"] < 1e-4
    assert run_policy.selftest(run_policy.Policy(tmp_path / "out" / "policy.tflite"))[0] < 1e-6


class Answering(Format):
    """An empty file, for which a function answers: observation [O] -> action [A]."""

    def __init__(self, file, act):
        self.file, self._act = file, act

    def write(self, path, deployable):
        path.write_text("")

    def load(self, path):
        return self._act


def test_a_file_that_answers_nan_fails_and_the_report_is_json_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "FORMATS", (Answering("broken", lambda observation: np.full(1, np.nan)),))
    result = export(random_policy([2, 8, 1], seed=0), replay(), Task(), tmp_path / "out")
    assert result["passed"] is False
    wrong = ("finite and inside the bounds", "guard", "action error", "return")
    assert failed(result) == {("broken", check) for check in wrong}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["artefacts"]["broken"]["error"]["max"] is None
    assert "not finite" in (tmp_path / "out" / "report.md").read_text()


def test_a_file_that_is_not_finite_at_extremes_only_is_reported(tmp_path, monkeypatch):
    unguarded = Answering("unguarded", lambda observation: np.float32([np.mean(observation)]))
    monkeypatch.setattr(pipeline, "FORMATS", (unguarded,))
    result = export(random_policy([2, 8, 1], seed=0), replay(), Task(), tmp_path / "out", stress=False)
    assert result["passed"] is False and result["artefacts"]["unguarded"]["return"]
    assert "extreme observations: not finite, at (nan, nan)" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize("value", [np.inf, np.float32(1), object()])
def test_settings_that_json_cannot_hold_are_refused(value):
    settings = EnvSettings("Mine-v0", {"gain": value})
    with pytest.raises(UserError, match="expected settings of the environment that JSON can hold"):
        pipeline.prepare(random_policy([2, 8, 1], seed=0), replay(), Task(), settings, {})


def test_a_runs_policy_is_exported_and_evaluated_to_the_same_return(tmp_path, monkeypatch):
    """Of a module of the user's, with arguments: both files keep them, and evaluate needs the module said again."""
    monkeypatch.setattr(pipeline, "FORMATS", formats("policy.tflite", "policy.h"))
    name = "envs_for_tests:Walk-v0"
    run_here(tmp_path / "run", [*bindings(env_id=name, total_steps=60, start_steps=100), "env.kwargs = {'length': 9}"])
    with pytest.raises(UserError, match="would import the module 'envs_for_tests'"):
        export_run(tmp_path / "run", tmp_path / "out")
    result = export_run(tmp_path / "run", tmp_path / "out", episodes=3, trusted=[name], name="walk")
    assert not failed(result) and result["facts"]["training"]["steps"] == 60
    assert "env.kwargs = {'length': 9}" in result["facts"]["training"]["gin"]
    assert "walk_act" in (tmp_path / "out" / "policy.h").read_text()

    expected = rollout(*evaluate.load(str(tmp_path / "run"), None, name), 3)
    for options in ({"env_id": name}, {"trusted": ["envs_for_tests"]}):
        act, env = evaluate.load(None, str(tmp_path / "out" / "policy.tflite"), **options)
        returns, lengths = rollout(act, env, 3)
        assert lengths == expected[1] == [9, 9, 9]
        np.testing.assert_allclose(returns, expected[0], rtol=1e-4)
    with pytest.raises(UserError, match="would import the module 'envs_for_tests'"):
        evaluate.load(None, str(tmp_path / "out" / "policy.tflite"))


def test_where_git_refuses_the_revision_is_unknown(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()  # no repository
    monkeypatch.setattr(pipeline, "__file__", str(tmp_path / "tfsac" / "deploy" / "pipeline.py"))
    assert pipeline._git_revision() == "unknown"


def test_a_run_without_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="no checkpoint"):
        export_run(tmp_path / "none", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
