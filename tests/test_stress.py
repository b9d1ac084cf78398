"""The stress test: what it measures by hand, what it calls tolerated, and every file measured by its own answers."""

import hashlib
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
from commands import run
from gymnasium.spaces import Box
from random_policy import deployable, expected_actions, random_policy

import tfsac
from tfsac.data.envs import EnvSettings
from tfsac.deploy.formats.c_header import CHeader
from tfsac.deploy.formats.saved_model import SavedModel
from tfsac.deploy.formats.tflite import TFLite
from tfsac.deploy.stress import measure, policies, report, stress
from tfsac.deploy.stress.short import ShortStress
from tfsac.deploy.stress.worlds import Disturbance, World, menu
from tfsac.errors import UserError
from tfsac.policy import Layer, Policy


class Pays(gym.Env):
    """Pays what arrives, for 20 steps; `unused` changes nothing, `price` does."""

    observation_space = Box(-8.0, 8.0, [2], np.float32)
    action_space = Box(-1.0, 3.0, [1], np.float32)  # the middle is 1

    def __init__(self):
        self.price, self.unused = 1.0, 2.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = np.float32([self.np_random.random(), 0])
        return self.state.copy(), {}

    def step(self, action):
        self.state[1] += 1
        return self.state.copy(), self.price * float(action[0]), False, bool(self.state[1] == 20), {}


gym.register("Pays-v0", Pays, max_episode_steps=20, disable_env_checker=True)


@pytest.fixture
def result(monkeypatch):
    """What is found of a policy that always commands 3, beside one that commands 2."""
    acts = {"three": 3.0, "two": 2.0}
    env = EnvSettings("Pays-v0")
    monkeypatch.setattr(
        policies, "load", lambda path: policies.Subject(path, lambda rows: np.full([len(rows), 1], acts[path]), env)
    )
    return stress.stress("three", "two", episodes=4)


def levels(result, name):
    return {row["level"]: row for entry in result["disturbances"] if entry["name"] == name for row in entry["levels"]}


def test_returns_by_hand(result):
    assert result["baseline"]["return"] == 60 and result["baseline"]["other"]["return"] == 40
    assert result["baseline"]["other"]["ahead"] == {"mean": -20, "low": -20, "high": -20}
    for steps, row in levels(result, "action_delay").items():
        assert row["return"] == 60 - 2 * steps  # the middle, 1, in the first steps
        assert row["difference"] == {"mean": -2 * steps, "low": -2 * steps, "high": -2 * steps}
        assert row["reference"] == row["return"]  # nothing to predict
        assert row["other"]["return"] == 40 - steps
    assert levels(result, "weak_actuator")[0.6]["return"] == pytest.approx(20 * (1 + 0.6 * 2))
    assert levels(result, "action_slew")[0.2]["return"] == pytest.approx(60 - 1.2 - 0.4)  # 0.8 a step: 1.8, 2.6, 3
    assert levels(result, "price")[0.8]["return"] == pytest.approx(48)
    aimless = result["random_return"]
    assert 10 < aimless < 30  # 20 steps of 1 on average
    assert levels(result, "price")[0.8]["retention"] == pytest.approx((48 - aimless) / (60 - aimless))


def test_what_is_tolerated_and_what_has_no_effect(result):
    found = {entry["name"]: entry for entry in result["disturbances"]}
    assert found["unused"]["no_effect"] and not found["price"]["no_effect"]
    assert "unused" not in result["tolerates"]
    # A tenth may be lost of what is gained on random actions, which are worth about 20; a step costs 2.
    assert result["tolerates"]["action_delay"]["largest"] == (60 - result["random_return"]) / 10 // 2
    assert not found["observation_noise"]["no_effect"] and result["tolerates"]["observation_noise"]["all_levels"]
    lines = report.tolerates(result)
    assert lines[0].startswith("action delay: ") and lines[0].endswith((" step", " steps"))
    assert "unused: no effect on this task, so nothing is known about it" in lines


def rows(*pairs):
    return [{"level": level, "label": f"{level:g}", "retention": kept} for level, kept in pairs]


def test_tolerated_levels_are_those_that_no_harm_lies_before():
    def tolerated(neutral, *pairs):
        return stress.tolerated(Disturbance("", "", neutral, []), rows(*pairs))

    assert tolerated(0, (1, 0.99), (2, 0.91), (3, 0.5), (4, 0.95))["largest"] == 2  # 4 is luck
    assert tolerated(0, (1, 0.5), (2, 0.9)) is None
    assert tolerated(0, (1, 1.0), (2, 0.9))["all_levels"]
    both = tolerated(1, (0.5, 0.2), (0.8, 0.95), (1.25, 0.9), (2.0, 0.95))
    assert (both["least"], both["largest"], both["label"]) == (0.8, 2.0, "0.8 to 2")
    assert tolerated(64, (6, 0.1), (8, 0.95), (10, 1.0))["label"] == "8"


def test_action_metrics_by_hand():
    def metrics(*signal):
        return measure.action_metrics(np.float32(signal)[:, None, None])

    assert metrics(1, -1, 1, -1) == {"total_variation": 2, "high_frequency": 1, "saturation": 1}
    slow = metrics(*np.sin(2 * np.pi * np.arange(40) / 20))  # a twentieth of the control rate
    assert slow["high_frequency"] < 1e-6 and slow["saturation"] == 0.1  # two of 20 at each end
    # A sine and an alternation of equal energy: half is high.
    steps = np.arange(40)
    both = metrics(*np.sqrt(2) * np.sin(2 * np.pi * steps / 20) + (-1.0) ** steps)
    assert both["high_frequency"] == pytest.approx(0.5, rel=1e-6)
    assert metrics(0.5, 0.5, 0.5)["total_variation"] == 0 == metrics(0.5, 0.5, 0.5)["high_frequency"]
    # An episode that ended early counts until then, and as much as another.
    two = np.float32([[[1.0], [0.0]], [[-1.0], [0.5]], [[np.nan], [1.0]]])
    assert measure.action_metrics(two)["total_variation"] == (2 + 0.5) / 2


def test_the_worst_twentieth():
    assert measure.worst(np.arange(100.0)) == 2 and measure.worst(np.array([3.0, 1.0])) == 1


def test_every_level_changes_its_world_and_none_the_width_of_the_policys_row():
    env = EnvSettings("Pendulum-v1", action_delay=(0, 2), observation_history=2)
    plain = env.make_plain()
    world = World(env, plain, np.float32([0.5, 0.5, 1.0]), np.float32([1, 1, 8]), 20.0)
    disturbances = menu(world)
    names = [x.name for x in disturbances]
    assert len(set(names)) == len(names) and names[-1] == "all_at_once"
    assert {"m", "l", "max_torque", "actuator_lag", "backlash"} < set(names) and "dt" not in names
    width = env.make().observation_space.shape
    for disturbance in disturbances:
        assert [x.value for x in disturbance.levels] == sorted(x.value for x in disturbance.levels)
        for level in disturbance.levels:
            made = level.env.with_imperfections(EnvSettings(None, wrappers=level.wrappers).wrapped(plain))
            assert made.observation_space.shape == width, level
            assert level.wrappers or level.env._replace(history=None) != env
    assert disturbances[0].levels[1].label == "2 steps (100 ms)"
    assert disturbances[3].levels[2].env.observation_noise == pytest.approx((0.025, 0.025, 0.05))


def test_a_machine_that_one_world_changed_is_itself_again_in_the_next():
    bench = measure.Bench(EnvSettings("Pendulum-v1", max_episode_steps=5), [0, 1])
    env = EnvSettings("Pendulum-v1", max_episode_steps=5)

    def push(rows):
        return np.full([len(rows), 1], 2.0)

    before = bench.run(push, env)
    heavy = bench.run(push, env._replace(randomize={"m": 2.0}))
    after = bench.run(push, env)
    np.testing.assert_array_equal(before.returns, after.returns)
    assert np.all(before.returns != heavy.returns)


def test_what_was_measured_before_an_interrupt_is_kept(monkeypatch, tmp_path):
    env = EnvSettings("Pays-v0")
    monkeypatch.setattr(policies, "load", lambda path: policies.Subject(path, lambda x: np.full([len(x), 1], 3.0), env))
    left = iter([False] * 150)
    found = stress.stress("three", episodes=2, is_over=lambda: next(left, True))
    assert found["interrupted"] and 0 < len(levels(found, "action_delay")) < 5
    report.write(tmp_path, found)
    assert "Interrupted" in (tmp_path / "stress.md").read_text()
    assert json.loads((tmp_path / "stress.json").read_text())["baseline"]["return"] == 60


def commands_three():
    """A policy that always commands 3, the upper bound of Pays."""
    head = Layer(np.zeros([2, 1], np.float32), np.float32([20]))
    return Policy((), head, head)


def test_the_short_menu_by_hand():
    short = ShortStress(commands_three(), EnvSettings("Pays-v0"), episodes=4)
    aimless = short.results["random_return"]
    assert 10 < aimless < 30 and short.results["return"] == 60 and short.results["gain"] == 60 - aimless
    # A tenth may be lost of what is gained; a step of delay costs 2, a tenth of the command's way from the middle 4.
    steps = int((60 - aimless) / 10 // 2)
    delays = short.results["turned_up"]["action_delay"]
    assert [row["return"] for row in delays["levels"]] == [60 - 2 * d for d in range(1, steps + 2)]  # and no further
    assert delays["tolerated"]["largest"] == steps
    loss = "10 % loss" if 60 - aimless >= 40 else "less than 10 % loss"
    words = f"{stress_time(steps)} of delay, at least 10 % sensor noise, {loss} of actuator strength"
    assert short.tolerates == words and short.left_out == []
    assert short.results["worlds"]["action_delay"] == {"label": "action delay: 2 steps", "return": 56}

    same, two = short.compare(lambda row: np.float32([3])), short.compare(lambda row: np.float32([2]))
    assert same == dict.fromkeys(short.results["worlds"], {"mean": 0, "low": 0, "high": 0, "far_end": 0})
    assert two["action_delay"] == {"mean": -18, "low": -18, "high": -18, "far_end": 18 / (60 - aimless)}  # 38 for 56
    assert two["observation_noise"]["mean"] == -20 and set(two) == {"action_delay", "observation_noise", "all_at_once"}
    short.close()


def stress_time(steps):
    return "1 step" if steps == 1 else f"{steps} steps"


def test_a_file_that_takes_all_rows_at_once_is_given_them():
    short = ShortStress(commands_three(), EnvSettings("Pays-v0"), episodes=3)

    def act(row):
        raise AssertionError("not one by one")

    act.batch = lambda rows: np.full([len(rows), 1], 3)
    assert short.compare(act)["action_delay"]["mean"] == 0
    short.close()


class Fragile(Pays):
    """Raises where its price has been changed, or once a command of 2 arrives."""

    def step(self, action):
        if self.price != 1 or action[0] == 2:
            raise KeyError("the motor\nburns")
        return super().step(action)


gym.register("Fragile-v0", Fragile, max_episode_steps=20, disable_env_checker=True)


@pytest.mark.parametrize(
    "env, line",
    [
        (None, "no stress test: the environment was passed as an object"),
        (EnvSettings(None), "no stress test: the environment was passed as an object"),
        (EnvSettings("Missing-v0"), "no stress test: cannot make environment 'Missing-v0'"),
        (EnvSettings("Fragile-v0"), "no stress test: the environment Fragile-v0 raised KeyError: 'the motor"),
    ],
)
def test_what_cannot_be_put_under_stress_is_said_in_a_line(env, line):
    short = ShortStress(commands_three(), env, episodes=2)
    assert short.tolerates is short.results is short.compare(lambda row: np.float32([3])) is None
    (said,) = short.left_out
    assert said.startswith(line) and "\n" not in said
    short.close()


def test_a_stress_test_that_breaks_off_keeps_what_was_measured():
    short = ShortStress(commands_three(), EnvSettings("Pays-v0"), episodes=2)
    tolerates = short.tolerates

    def act(row):
        raise ValueError("of no file")

    assert short.compare(act) is None and short.left_out == ["the stress test stopped early: of no file"]
    assert short.compare(lambda row: np.float32([3])) is None and len(short.left_out) == 1
    assert short.tolerates == tolerates and short.results
    short.close()


def test_a_policy_that_gains_nothing_is_said_to_tolerate_nothing():
    head = Layer(np.zeros([2, 1], np.float32), np.float32([-20]))  # commands -1, which pays least
    short = ShortStress(Policy((), head, head), EnvSettings("Pays-v0"), episodes=2)
    assert short.tolerates is None and "gains nothing on random actions" in short.left_out[0]
    assert short.compare(lambda row: np.float32([-1]))["action_delay"]["far_end"] is None
    short.close()


def test_lag_and_backlash_together_by_hand():
    """The command lags, then crosses the play: the machine stays half of it behind."""
    world = World(EnvSettings("Pays-v0"), Pays(), np.float32([1, 1]), np.float32([1, 1]), None)
    (unforeseen,) = (x for x in menu(world) if x.name == "unforeseen")
    bench = measure.Bench(world.env, [0])
    for level, lag, play in zip(unforeseen.levels, (0.3, 0.6, 0.8), (0.05, 0.1, 0.2), strict=True):
        found = bench.run(lambda rows: np.full([len(rows), 1], 3.0), level.env, level.wrappers)
        # From the middle, 1, the lag lets 1 + 2 (1 - lag^t) through at step t; half of a play of 2 play is play.
        expected = sum(1 + max(0, 2 * (1 - lag**t) - play) for t in range(1, 21))
        assert found.returns[0] == pytest.approx(expected, rel=1e-5)
    bench.close()


FACTS = {"environment": {"id": "Pays-v0"}}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One policy in three formats; with it, what it must answer to some observations."""
    folder = tmp_path_factory.mktemp("files")
    policy = random_policy((2, 4, 1), 0)
    observations = np.random.default_rng(0).normal(size=[7, 2]).astype(np.float32)
    made = deployable(policy, [-1.0], [3.0], observations, **FACTS)
    paths = []
    for form in (TFLite("float32"), SavedModel(), CHeader()):
        form.write(folder / form.file, made)
        paths.append(folder / form.file)
    digest = hashlib.sha256(paths[-1].read_bytes()).hexdigest()
    (folder / "report.json").write_text(
        json.dumps({"facts": made.facts, "artefacts": {"policy.h": {"sha256": digest}}})
    )
    # A file of tfsac.export holds golden vectors, too; this one is taken as it was first written.
    return paths, observations, expected_actions(policy, observations, [-1.0], [3.0])


@pytest.mark.parametrize("number", range(3), ids=["tflite", "SavedModel", "policy.h"])
def test_each_file_answers_for_all_starts_at_once(files, number):
    paths, observations, expected = files
    subject = policies.load(paths[number])
    assert subject.env == EnvSettings("Pays-v0")
    np.testing.assert_allclose(subject.act(observations), expected, atol=1e-5)
    np.testing.assert_allclose(subject.act(observations[:3]), expected[:3], atol=1e-5)


def test_a_header_alone_is_refused_with_what_is_missing(files, tmp_path):
    (tmp_path / "policy.h").write_text(files[0][2].read_text())
    with pytest.raises(UserError, match="no .*report.json: policy.h does not say enough"):
        policies.load(tmp_path / "policy.h")


def test_a_header_that_another_report_is_about_is_refused(files, tmp_path):
    for path in (files[0][2], files[0][2].with_name("report.json")):
        shutil.copy(path, tmp_path)
    with open(tmp_path / "policy.h", "a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="policy.h is not the one that .*report.json is about"):
        policies.load(tmp_path / "policy.h")


def test_a_header_of_someone_elses_is_refused(tmp_path):
    (tmp_path / "policy.h").write_bytes(b"\xff int x;\n")
    digest = hashlib.sha256(b"\xff int x;\n").hexdigest()
    (tmp_path / "report.json").write_text(json.dumps({"facts": FACTS, "artefacts": {"policy.h": {"sha256": digest}}}))
    with pytest.raises(UserError, match="is no policy.h of tfsac"):
        policies.load(tmp_path / "policy.h")


def test_policies_that_see_something_else_are_not_compared(monkeypatch):
    envs = {"one": EnvSettings("Pays-v0"), "two": EnvSettings("Pays-v0", history=1)}
    monkeypatch.setattr(
        policies, "load", lambda path: policies.Subject(path, lambda rows: np.full([len(rows), 1], 1.0), envs[path])
    )
    with pytest.raises(UserError, match=r"two takes observations of shape \(3,\), one of shape \(2,\)"):
        stress.stress("one", "two", episodes=2)


def test_a_run_is_measured_too_and_in_the_same_way_by_two_processes(tmp_path):
    small = {"policy_hidden_units": (4,), "critic_hidden_units": (4,), "start_steps": 8, "batch_size": 8}
    agent = tfsac.SAC("Pendulum-v1", max_episode_steps=5, action_delay=1, **small)
    agent.fit(16, progress=False)
    agent.save(tmp_path / "run")
    alone, shared = (stress.stress(tmp_path / "run", episodes=3, workers=n) for n in (1, 2))
    assert alone == shared
    assert alone["baseline"]["return"] == pytest.approx(np.mean(agent.evaluate(3)), rel=1e-5)
    report.write(tmp_path / "out", alone)
    refused = run("tfsac.stress", "--logdir=run", "--out=out/stress.md", cwd=tmp_path)
    assert (refused.status, refused.err.split(": ", 2)[1]) == (2, "cannot write to --out=out/stress.md")
    assert (tmp_path / "out" / "stress.md").read_text().splitlines()[2].startswith("- action delay: ")
    assert (tmp_path / "out" / "stress.png").read_bytes().startswith(b"\x89PNG")
    assert "reference" not in levels(alone, "action_delay")[1]  # its world has a delay: nothing to compare with
