"""What a device's log tells: agreement, rate, delay, ranges."""

import io

import numpy as np
import pytest
from random_policy import deployable, random_policy

from tfsac.data.envs import EnvSettings
from tfsac.deploy.device_kit import run_policy
from tfsac.deploy.facts import describe
from tfsac.deploy.formats.tflite import TFLite
from tfsac.deploy.stress import device_log
from tfsac.errors import UserError
from tfsac.policy import Layer

SETTINGS = EnvSettings("Pendulum-v1", history=2, observation_history=3)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A policy that remembers three observations and two commands, as a .tflite file for Pendulum."""
    env = SETTINGS.make(unit_actions=False)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    rows = np.array([env.step(rng.uniform(-2, 2, 1))[0] for _ in range(200)])
    facts = describe(env, SETTINGS)
    low, high = rows.min(axis=0), rows.max(axis=0)
    low[:3], high[:3] = [-1.1, -1.1, -9], [1.1, 1.1, 9]
    facts["observation"] |= {"low": low.tolist(), "high": high.tolist(), "limit": 1e6}
    policy = random_policy((3 * 3 + 2, 8, 1), 2)
    policy = policy._replace(mu=Layer(8 * policy.mu.kernel, policy.mu.bias))  # a lively one
    made = deployable(policy, [-2.0], [2.0], rows, **facts)
    form = TFLite("float32")
    path = tmp_path_factory.mktemp("file") / form.file
    form.write(path, made)
    form.finish(path, form.load(path), made, {"return": None})
    return path


def drive(file, delay, steps=150, period=0.05, excite=1.0, failed=None, late=()):
    """Runs the file on a Pendulum with a delay -> the text of its log. Failed: by step, the line of failed sensors."""
    policy = run_policy.Policy(file)
    env = EnvSettings("Pendulum-v1", action_delay=delay, history=0, max_episode_steps=10_000).make(unit_actions=False)
    now, log = [0.0], io.StringIO()
    observation = [env.reset(seed=1)[0]]
    rng = np.random.default_rng(3)

    def lines():
        for step in range(steps):
            now[0] += 3 * period * (step in late)
            yield (failed or {}).get(step, " ".join(f"{x:.9g}" for x in observation[0]))
            command = policy._commands[0]
            observation[0] = env.step(np.float32(command))[0] + excite * rng.normal(0, 1e-3, 3).astype(np.float32)
            now[0] += period

    run_policy.run_lines(policy, lines(), log=log, clock=lambda: now[0])
    return log.getvalue()


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_a_log_agrees_with_its_file_and_shows_rate_and_delay(file, tmp_path, capsys, delay):
    (tmp_path / "log.csv").write_text(drive(file, delay))
    found = device_log.examine(tmp_path / "log.csv", file)
    assert found["steps"] == 150 and found["disagreed"] == 0
    assert found["rate_hz"] == pytest.approx(20) and found["trained_rate_hz"] == pytest.approx(20)
    assert found["odd_periods"] == 0
    assert found["delay_steps"] == delay
    text = "\n".join(device_log.lines(found))
    assert "150 of 150 commands are the file's" in text and f"took effect {delay} steps late" in text


def test_a_command_that_is_not_the_files_is_counted(file, tmp_path):
    rows = drive(file, 0, steps=40).splitlines()
    cells = rows[20].split(",")
    rows[20] = ",".join([*cells[:-1], f"{float(cells[-1]) + 0.1:.9g}"])
    (tmp_path / "log.csv").write_text("\n".join(rows))
    found = device_log.examine(tmp_path / "log.csv", file)
    assert 1 <= found["disagreed"] <= 3  # the step itself, and those that remember it: two commands
    assert found["largest_error"] >= 0.99 * 0.1 / 4


def test_after_failed_sensors_and_late_steps_the_commands_are_the_files_again(file, tmp_path):
    failed = {20: "0 1 100", 60: "nan nan nan"} | {step: "0 1 nan" for step in range(40, 44)}
    (tmp_path / "log.csv").write_text(drive(file, 0, failed=failed, late=[80]))
    assert device_log.examine(tmp_path / "log.csv", file)["disagreed"] == len(failed) + 1  # the safe actions


def test_a_log_of_the_last_rows_is_judged_where_the_past_is_known(file, tmp_path):
    names, *rows = drive(file, 0, failed={101: "nan 0 0"}).splitlines()
    (tmp_path / "log.csv").write_text("\n".join([names, *rows[-50:]]))
    found = device_log.examine(tmp_path / "log.csv", file)
    # Two observations before the present one, and two commands; the second reading has failed.
    assert (found["steps"], found["not_judged"], found["disagreed"]) == (50, 3, 0)
    said = list(device_log.lines(found))
    assert said[0].startswith("47 of 47 commands are the file's")
    assert said[1] == "not judged: the first 3 commands, which rest on readings from before the log"
    (tmp_path / "log.csv").write_text("\n".join([names, *rows]))
    assert device_log.examine(tmp_path / "log.csv", file)["not_judged"] == 0


def test_slow_periods_and_ranges_are_told(file, tmp_path):
    rows = drive(file, 0, steps=40, period=0.1).splitlines()
    cells = rows[7].split(",")
    rows[7] = ",".join([*cells[:3], "9.5", *cells[4:]])
    (tmp_path / "log.csv").write_text("\n".join(rows))
    found = device_log.examine(tmp_path / "log.csv", file)
    assert found["odd_periods"] == 1 and found["rate_hz"] == pytest.approx(10)
    assert found["outside"] == {"theta_dot": pytest.approx(1 / 40)}


def test_a_log_that_was_broken_off_is_read_and_another_files_is_refused(file, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(drive(file, 0, steps=20)[:-12])
    assert device_log.examine(path, file)["steps"] in (19, 20)
    for text, words in (
        ("time_s,a\n0,1\n1,2\n", "expected at least 2 rows of 5 numbers"),
        ("x\nabc\nd\n", "not a log"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            device_log.examine(path, file)
    sampling = tmp_path / "policy_sample.tflite"
    TFLite("sample").write(sampling, deployable(random_policy((3, 4, 1), 0), [-2.0], [2.0], np.zeros([4, 3])))
    with pytest.raises(UserError, match="policy_sample.tflite draws noise, which no log holds"):
        device_log.examine(path, sampling)
    with pytest.raises(UserError, match="no .*missing.csv"):
        device_log.examine(tmp_path / "missing.csv", file)
