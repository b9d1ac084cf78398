"""A policy that remembers, on the device: the runner and policy.h give what the network gives in its environment."""

import ctypes
import io
import os
import re
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
from random_policy import deployable, random_policy

from tfsac.data.envs import EnvSettings, to_bounds
from tfsac.deploy.device_kit import copy_to, run_policy
from tfsac.deploy.facts import describe, environment
from tfsac.deploy.formats.c_header import CHeader
from tfsac.deploy.formats.tflite import TFLite

SETTINGS = EnvSettings("Pendulum-v1", action_delay=2, observation_history=3, action_slew=0.5)
LOW, HIGH = [-2.0], [2.0]


@pytest.fixture(scope="module")
def policy():
    return random_policy((3 * 3 + 2 * 1, 8, 1), 4)


@pytest.fixture(scope="module")
def made(policy):
    """What is exported of it, with the facts that describe its environment."""
    env = SETTINGS.make(unit_actions=False)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    rows = np.array([env.step(rng.uniform(-2, 2, 1))[0] for _ in range(150)])
    facts = describe(env, SETTINGS)
    facts["observation"] |= {"low": rows.min(axis=0).tolist(), "high": rows.max(axis=0).tolist(), "limit": 1e6}
    return deployable(policy, LOW, HIGH, rows, **facts)


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    form = TFLite("float32")
    form.write(folder / form.file, made)
    act = form.load(folder / form.file)
    checks, _ = form.finish(folder / form.file, act, made, {"return": None})
    CHeader().write(folder / "policy.h", made)
    return folder, checks


@pytest.fixture
def device(files):
    return run_policy.Policy(files[0] / "policy.tflite")


SOURCE = """
#define TFSAC_POLICY_GOLDEN
#include "policy.h"
static tfsac_policy_state state;
void reset(void) { tfsac_policy_reset(&state); }
void stale(unsigned steps) { state.stale_steps = steps; }
void latest(float seconds) { state.latest = seconds; }
int step(const float *sensors, float seconds, float *action)
{ return (int)tfsac_policy_step(&state, sensors, seconds, action); }
int selftest(void) { return tfsac_policy_selftest(); }
int state_bytes(void) { return (int)sizeof state; }
"""
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wdouble-promotion", "-Wconversion", "-Wshadow"]


class Compiled:
    """policy.h with its memory: the same methods as the runner's."""

    STATUS = (run_policy.OK, run_policy.NOT_FINITE, run_policy.OUT_OF_RANGE, run_policy.STALE, run_policy.LATE)

    def __init__(self, folder):
        (folder / "step.c").write_text(SOURCE)
        command = ["cc", "-std=c99", "-O2", *WARNINGS, "-shared", "-fPIC", "-I", folder, folder / "step.c"]
        command[5:5] = ["-Wno-missing-prototypes"]
        subprocess.run([*map(str, command), "-o", str(folder / "step.so"), "-lm"], check=True)
        self.library = ctypes.CDLL(str(folder / "step.so"))
        self.library.latest.argtypes = [ctypes.c_float]
        self.library.step.argtypes = [ctypes.c_void_p, ctypes.c_float, ctypes.c_void_p]
        self.reset()

    def reset(self):
        self.library.reset()

    def stale(self, steps):
        self.library.stale(steps)

    def latest(self, seconds):
        self.library.latest(seconds)

    def step(self, observation, elapsed=None):
        observation, action = np.array(observation, np.float32), np.zeros(1, np.float32)
        seconds = 0.0 if elapsed is None else elapsed
        status = self.library.step(observation.ctypes.data, seconds, action.ctypes.data)
        return action, self.STATUS[status]


@pytest.fixture
def compiled(files):
    return Compiled(files[0])


@pytest.fixture(params=["run_policy", "policy.h"])
def runner(request, files):
    if request.param == "policy.h":
        return Compiled(files[0])
    policy = run_policy.Policy(files[0] / "policy.tflite")
    policy.stale = lambda steps: setattr(policy, "safety", policy.safety._replace(stale_steps=steps))
    policy.latest = lambda seconds: setattr(policy, "safety", policy.safety._replace(latest=seconds))
    return policy


def in_its_environment(policy, seed, steps):
    """Sensors and commands of an episode: the environment's wrappers remember, not the runner."""
    env = SETTINGS._replace(action_slew=None).make(unit_actions=False)
    row, _ = env.reset(seed=seed)
    sensors, commands = [], []
    for _ in range(steps):
        sensors.append(row[:3])
        commands.append(to_bounds(policy.deterministic(row), np.float32(LOW), np.float32(HIGH)))
        row, *_ = env.step(commands[-1])
    return sensors, commands


def test_it_commands_what_the_network_commands_in_its_environment(policy, runner):
    for seed in range(2):
        runner.reset()
        for sensors, command in zip(*in_its_environment(policy, seed, 40), strict=True):
            action, status = runner.step(sensors, 0.05)
            assert status == run_policy.OK
            np.testing.assert_allclose(action, command, atol=1e-4)


def test_the_facts_say_what_is_remembered_and_rebuild_the_environment(made, device):
    assert made.facts["history"] == {"observations": 3, "actions": 2, "order": "newest first", "fill": [0.0]}
    names = made.facts["observation"]["names"]
    assert names[0] == "cos(theta)" and names[3] == "cos(theta), 1 before" and names[-1] == "torque commanded, 2 before"
    assert made.facts["observation"]["units"][5] == "rad/s" and made.facts["observation"]["units"][-2:] == ["N m"] * 2
    assert device.sensors == 3
    assert environment(device.facts, "the file") == SETTINGS


def test_an_environment_without_imperfections_has_no_facts_of_any():
    facts = describe(EnvSettings("Pendulum-v1").make(unit_actions=False), EnvSettings("Pendulum-v1"))
    assert facts.keys() == {"environment", "observation", "action"}
    assert facts["environment"].keys() == {
        "id", "kwargs", "wrappers", "max_episode_steps", "time_limit", "control_rate_hz", "versions"
    }  # fmt: skip


def test_an_environment_that_was_an_object_has_its_memory_in_the_facts_too():
    settings = EnvSettings(None, history=2)
    facts = describe(settings.with_imperfections(gym.make("Pendulum-v1"), unit_actions=False), settings)
    assert facts["environment"]["id"] is None and facts["history"]["actions"] == 2
    assert len(facts["observation"]["names"]) == 5


def test_golden_sequences_pass_and_notice_a_wrong_order(files, device, compiled):
    assert files[1]["golden vectors"] and compiled.library.selftest() == 0
    error, tolerance = run_policy.selftest(device)
    assert error <= tolerance
    device.row = lambda observation: run_policy.Policy.row(device, observation)[::-1]
    assert run_policy.selftest(device)[0] > tolerance
    text = (files[0] / "policy.h").read_text()
    swapped = text.replace("state->row[i] = state->row[i - TFSAC_ACTION_DIM];", "(void)i;")
    assert swapped != text
    (files[0] / "wrong").mkdir(exist_ok=True)
    (files[0] / "wrong" / "policy.h").write_text(swapped)
    assert Compiled(files[0] / "wrong").library.selftest() > 0


@pytest.mark.parametrize("off, passes", [(5, True), (20, False)])
def test_a_golden_sequence_is_held_to_ten_tolerances_in_both(files, device, off, passes):
    """Each command builds on the last, and so does its rounding; the span is 4."""
    golden = device.facts["golden"]
    right = golden["sequence"]["action"][3][0]
    golden["sequence"]["action"][3][0] += 4 * off * golden["tolerance"]
    error, tolerance = run_policy.selftest(device)
    assert (error <= tolerance) == passes
    text = (files[0] / "policy.h").read_text()
    table = text[text.index("tfsac_policy_golden_commands") :]
    literal = re.findall(r"\{([^{}]+)\}", table)[3]
    assert float(literal.rstrip("f")) == pytest.approx(right, abs=1e-6)
    moved = table.replace(literal, f"{right + 4 * off * golden['tolerance']:.9g}f", 1)
    folder = files[0] / f"off{off}"
    folder.mkdir(exist_ok=True)
    (folder / "policy.h").write_text(text.replace(table, moved))
    assert (Compiled(folder).library.selftest() == 0) == passes


GOOD = [0.5, 0.5, 1.0]
# sensors, seconds, status: each of eight faults
FAULTS = {
    "NaN": ([0.5, np.nan, 1.0], 0.05, run_policy.NOT_FINITE),
    "all NaN": ([np.nan] * 3, 0.05, run_policy.NOT_FINITE),
    "infinity": ([0.5, 0.5, np.inf], 0.05, run_policy.NOT_FINITE),
    "minus infinity": ([-np.inf, 0.5, 1.0], 0.05, run_policy.NOT_FINITE),
    "above its range": ([0.5, 0.5, 100.0], 0.05, run_policy.OUT_OF_RANGE),
    "below its range": ([-9.0, 0.5, 1.0], 0.05, run_policy.OUT_OF_RANGE),
    "stale": (GOOD, 0.05, run_policy.STALE),
    "late": ([0.5, 0.6, 1.0], 0.2, run_policy.LATE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_safe_within_one_period_and_over_with_it(runner, fault):
    sensors, seconds, expected = FAULTS[fault]
    runner.reset()
    runner.stale(3)
    for velocity in (-4.0, -3.9):
        before, status = runner.step([0.0, 1.0, velocity], 0.05)
        assert status == run_policy.OK
    if expected == run_policy.STALE:
        for _ in range(2):
            before, status = runner.step(sensors, seconds)
            assert status == run_policy.OK
    assert abs(before[0]) > 0.05
    action, status = runner.step(sensors, seconds)
    # The middle of the bounds is 0; half of the span, 2, is the most in one step.
    assert status == expected and action[0] == 0
    action, status = runner.step([0.1, 0.9, -3.8], 0.05)
    assert status == run_policy.OK and np.all(np.isfinite(action))


@pytest.mark.parametrize("latest, late", [(0.0, []), (0.3, [0.4, 1e9]), (1.0, [1e9])])
def test_a_step_is_late_after_the_time_that_was_set_and_never_with_0(runner, latest, late):
    runner.latest(latest)
    seconds = [0.05, 0.2, 0.4, 1e9]
    statuses = [runner.step([0.0, 1.0, -4.0 + 0.1 * i], x)[1] for i, x in enumerate(seconds)]
    assert statuses == [run_policy.LATE if x in late else run_policy.OK for x in seconds]


def test_a_safe_action_far_away_is_reached_with_the_slew_limit(device):
    device.safety = device.safety._replace(action=np.float32([2.0]), slew=0.25)  # 1 a step
    device.step([0.0, 1.0, -4.0])
    start = device._commands[0][0]
    reached = [device.step([np.nan] * 3)[0][0] for _ in range(5)]
    expected = [min(2.0, start + n) for n in range(1, 6)]
    np.testing.assert_allclose(reached, expected, atol=1e-6)


def test_a_fault_leaves_the_last_good_observation_and_the_safe_commands_in_memory(device):
    device.step([0.0, 1.0, -4.0])
    device.step([np.nan] * 3)
    row = device.row(np.float32(GOOD))
    np.testing.assert_array_equal(row[:9], [*GOOD, 0, 1, -4, 0, 1, -4])
    assert row[9] == 0  # the safe action


LOST, FAR = [np.nan] * 3, [0, 1, 100]
# steps between three good readings and two more, as (sensors, seconds); what is then remembered, the newest 0
OUTAGES = {
    "one lost": ([(LOST, 0.05)], [(0, "c", "b"), (1, 0, "c")]),
    "two lost": ([(LOST, 0.05), (FAR, 0.05)], [(0, "c", "b"), (1, 0, "c")]),
    "two lost, one read, two lost": (
        [(LOST, 0.05), (LOST, 0.05), ([0, 1, -3.0], 0.05), (LOST, 0.05), (LOST, 0.05)],
        [(0, "d", "c"), (1, 0, "d")],
    ),
    "as many as it remembers": ([(LOST, 0.05), (FAR, 0.05), (LOST, 0.05)], [(0, 0, 0), (1, 0, 0)]),
    "a long one": ([(FAR, 0.05)] * 20, [(0, 0, 0), (1, 0, 0)]),
    "late": ([([0, 1, -3.0], 0.2)], [(0, "d", "d"), (1, 0, "d")]),
    "late and lost": ([(LOST, 0.2)], [(0, 0, 0), (1, 0, 0)]),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_after_an_outage_no_false_velocity_is_remembered(policy, runner, outage):
    between, remembered = OUTAGES[outage]
    runner.reset()
    velocities = {"a": -4.0, "b": -3.9, "c": -3.8, "d": -3.0, 0: 1.0, 1: 1.1}
    for name in "abc":
        last = runner.step([0, 1, velocities[name]], 0.05)[0]
    commands = [last]
    for sensors, seconds in between:
        commands.insert(0, runner.step(sensors, seconds)[0])
    for step, names in enumerate(remembered):
        action, status = runner.step([0, 1, velocities[step]], 0.05)
        row = np.float32([*(x for name in names for x in (0, 1, velocities[name])), commands[0][0], commands[1][0]])
        expected = to_bounds(policy.deterministic(row), np.float32(LOW), np.float32(HIGH))
        assert status == run_policy.OK
        np.testing.assert_allclose(action, expected, atol=1e-5)
        commands.insert(0, action)


def test_the_callers_arrays_are_copied(device):
    """A loop that reads into one array, and changes what it was answered."""
    device.safety = device.safety._replace(stale_steps=2)
    buffer, commands = np.zeros(3, np.float32), []
    for velocity in (-4.0, -3.9, -3.8):
        buffer[:] = [0, 1, velocity]
        action, status = device.step(buffer)
        assert status == run_policy.OK and action[0] != 0
        commands.append(action[0])
        action *= 0
    buffer[:] = GOOD
    row = device.row(buffer)
    np.testing.assert_array_equal(row, np.float32([*GOOD, 0, 1, -3.8, 0, 1, -3.9, *commands[:0:-1]]))
    command = np.ones(1, np.float32)
    device.commanded(command)
    buffer[:], command[:] = 7, 7
    row = device.row([0, 0, 0])
    np.testing.assert_array_equal(row[3:6], np.float32(GOOD))
    assert row[9] == 1


def test_the_header_without_a_memory_has_none(tmp_path):
    plain = deployable(random_policy((3, 4, 1), 0), LOW, HIGH, np.zeros([20, 3]))
    CHeader().write(tmp_path / "policy.h", plain)
    text = (tmp_path / "policy.h").read_text()
    assert "state" not in text and "sequence" not in text and "_step" not in text


TWO = """
#define ONE_GOLDEN
#define TWO_GOLDEN
#define TWO_LOG_STEPS 1
#include "one/policy.h"
#include "two/policy.h"
#include "one/c/log.h"
#include "two/c/log.h"
int main(void)
{
    static one_log first;
    static two_log second;
    for (int n = 0; n < 2; n++) {
        const float sensors[ONE_SENSOR_DIM] = {0.0f};
        const float action[ONE_ACTION_DIM] = {0.0f};
        one_log_add(&first, (float)n, sensors, action);
        two_log_add(&second, (float)n, sensors, action);
    }
    if (one_log_size(&first) != 2 || two_log_size(&second) != 1) return 1;
    if (one_log_get(&first, 0)->seconds > 0.0f || two_log_get(&second, 0)->seconds < 1.0f) return 1;
    return one_selftest() + two_selftest();
}
"""


def test_two_headers_with_memories_of_their_own_in_one_program(made, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        CHeader().write(tmp_path / name / "policy.h", made._replace(name=name))
        copy_to(tmp_path / name, name)
    for compiler, suffix, standard in (("cc", "c", "c99"), ("c++", "cc", "c++11")):
        (tmp_path / f"main.{suffix}").write_text(TWO)
        command = [compiler, f"-std={standard}", *WARNINGS, "-Ione", f"main.{suffix}", "-o", "main", "-lm"]
        subprocess.run(command, cwd=tmp_path, check=True)
        assert subprocess.run([tmp_path / "main"]).returncode == 0


def lines(sensors):
    return [" ".join(f"{x:.9g}" for x in row) + "\n" for row in sensors]


def test_lines_are_answered_with_the_memory(policy, device, capsys):
    sensors, commands = in_its_environment(policy, 3, 10)
    assert run_policy.run_lines(device, lines(sensors)) == 0
    answers = [float(line) for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose(answers, np.array(commands)[:, 0], atol=1e-4)


class Clock:
    """Seconds that pass as they are told to."""

    def __init__(self, work):
        self.now, self.work, self.slept = 0.0, iter(work), []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_a_rate_is_held_and_odd_periods_are_told(policy, device, capsys):
    sensors, _ = in_its_environment(policy, 3, 6)
    clock = Clock([])
    work = iter([0.01, 0.01, 0.08, 0.01, 0.01])  # the third takes longer than a period of 50 ms

    def slow_lines():
        for i, line in enumerate(lines(sensors)):
            if i:
                clock.now += next(work)
            yield line

    log = io.StringIO()
    run_policy.run_lines(device, slow_lines(), rate=20, log=log, clock=clock, sleep=clock.sleep)
    captured = capsys.readouterr()
    times = [float(row.split(",")[0]) for row in log.getvalue().splitlines()[1:]]
    np.testing.assert_allclose(times, [0, 0.05, 0.1, 0.18, 0.2, 0.25], atol=1e-6)
    assert "a period of 80 ms, trained for 50 ms" in captured.err
    assert "2 of 5 periods lay outside 0.8 to 1.2" in captured.err  # 80 and 20 ms
    assert log.getvalue().splitlines()[0] == "time_s,cos(theta),sin(theta),theta_dot,torque"
    assert len(log.getvalue().splitlines()) == 7


def test_at_the_tick_the_newest_complete_line_is_answered(device, capsys):
    reading, writing = os.pipe()
    clock = Clock([])
    last = b"0 1 -3.5"  # without an end
    answered = iter([b"0 1 -3.9\n", b"3.6\r\n", last])  # what comes after each answer
    meanwhile = iter([b"0 1 -3.8\n0 1 -3.7\n0 1 -"])  # and while the runner waits for the tick

    class Peer(io.StringIO):
        def write(self, row):
            if row[0].isdigit():
                content = next(answered, b"")
                if content:
                    os.write(writing, content)
                if content == last:
                    os.close(writing)
            return super().write(row)

    def sleep(seconds):
        clock.sleep(seconds)
        for content in meanwhile:
            os.write(writing, content)
            break

    os.write(writing, "\ufeff0 1 -4\n".encode())
    log = Peer()
    assert run_policy.run_lines(device, run_policy.Live(reading), rate=20, log=log, clock=clock, sleep=sleep) == 0
    os.close(reading)
    rows = [row.split(",") for row in log.getvalue().splitlines()[1:]]
    assert [row[3] for row in rows] == ["-4", "-3.70000005", "-3.5999999", "-3.5"]
    np.testing.assert_allclose([float(row[0]) for row in rows], [0, 0.05, 0.1, 0.15])
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == [row[4] for row in rows]
    assert "2 of 6 lines were skipped: a newer one had come at the tick" in captured.err


@pytest.mark.parametrize(
    "sent, newest",
    [("4 5 6\n7 8", "4 5 6"), ("4 5 6\n7 8 9\n", "7 8 9"), ("4 5 6\n\n", "4 5 6"), ("4 5 6", "4 5 6")],
)
def test_what_a_peer_sent_last_counts_if_it_is_a_whole_line(sent, newest):
    """It may have gone in the middle of a number; alone, a line needs no end."""
    reading, writing = os.pipe()
    os.write(writing, f"1 2 3\n{sent}".encode())
    os.close(writing)
    live = run_policy.Live(reading)
    line = next(live)
    assert line == "1 2 3"
    assert live.newest(line)[0] == newest
    os.close(reading)


def test_a_connection_that_breaks_is_the_end():
    def broken(*_):
        raise ConnectionResetError

    with mock.patch.object(run_policy.os, "read", broken):
        assert list(run_policy.Live(0)) == []


def test_a_file_is_answered_line_by_line_at_a_rate(tmp_path):
    (tmp_path / "lines").write_text("0 1 -4\n0 1 -3\n")
    with open(tmp_path / "lines") as file:
        assert list(run_policy._source(file, 20)) == ["0 1 -4\n", "0 1 -3\n"]


def test_lines_of_failed_sensors_get_the_safe_action_and_a_word(device, capsys):
    assert run_policy.run_lines(device, ["0 1 -4\n", "nan 1 -4\n", "0 1 100\n", "0 1 -3\n"]) == 2
    captured = capsys.readouterr()
    assert [float(x) for x in captured.out.split()][1:3] == [0, 0]
    assert "line 2: the observation is not finite" in captured.err and "line 3: the observation is out of range" in (
        captured.err
    )


def test_a_line_that_is_no_observation_is_answered_as_failed_sensors_are(device, capsys):
    log = io.StringIO()
    given = ["0 1 -4\n", "0 1\n", "0 x -3\n", "\n", "0 1 -3\n"]
    clock = Clock([])
    assert run_policy.run_lines(device, given, rate=20, log=log, clock=clock, sleep=clock.sleep) == 3
    captured = capsys.readouterr()
    answers = [float(x) for x in captured.out.split()]
    assert len(answers) == 5 and answers[1:4] == [0, 0, 0] and answers[4] != 0
    rows = [row.split(",") for row in log.getvalue().splitlines()[1:]]
    assert [row[1:4] for row in rows] == [["0", "1", "-4"], *[["nan"] * 3] * 3, ["0", "1", "-3"]]
    np.testing.assert_allclose([float(row[0]) for row in rows], [0, 0.05, 0.1, 0.15, 0.2])
    errors = [line for line in captured.err.splitlines() if line.startswith("line")]
    assert errors == [
        "line 2: expected 3 numbers, received 2: the safe action is commanded",
        "line 3: 'x' is no number: expected numbers with spaces between them: the safe action is commanded",
        "line 4: expected 3 numbers, received 0: the safe action is commanded",
    ]


def test_episodes_run_in_the_plain_environment_with_the_memory(policy, device):
    env = gym.make("Pendulum-v1")
    total = 0.0
    memory = EnvSettings("Pendulum-v1", history=2, observation_history=3).make(unit_actions=False)
    row, over = memory.reset(seed=0)[0], False
    while not over:
        row, reward, _, over, _ = memory.step(to_bounds(policy.deterministic(row), np.float32(LOW), np.float32(HIGH)))
        total += reward
    assert run_policy.run_episodes(device, "Pendulum-v1", 1) == [pytest.approx(total, rel=1e-3)]
    env.close()


KIT = Path(__file__).parents[1] / "export" / "c"


def test_run_header_steps_as_the_runner_does(policy, files, device, capsys, tmp_path):
    sensors, _ = in_its_environment(policy, 3, 4)
    good = lines(sensors)
    # Failed sensors, garbled and short lines, an outage as long as the memory, and one that is shorter.
    given = [*good, "nan 1 0\n", good[0], "0 1 100\n", "0 x\n", "0 1\n", *good, "\n", *good]
    program = tmp_path / "run_header"
    command = ["cc", "-std=c99", *WARNINGS, "-I", files[0], KIT / "run_header.c", "-o", program, "-lm"]
    subprocess.run([*map(str, command)], check=True)
    done = subprocess.run([program], input="".join(given), capture_output=True, text=True)
    clock = Clock([])  # stands still: no line is late
    assert run_policy.run_lines(device, given, clock=clock, sleep=clock.sleep) == 5
    answers = [float(line) for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose([float(line) for line in done.stdout.splitlines()], answers, atol=1e-4)
    assert done.returncode == 1 and len(answers) == len(given)
    assert done.stderr.splitlines() == [
        "line 5: number 1 is none, or not finite: the safe action is commanded",
        "line 7: the sensors failed, status 2: the safe action is commanded",
        "line 8: number 2 is none, or not finite: the safe action is commanded",
        "line 9: expected 3 numbers, received 2: the safe action is commanded",
        "line 14: expected 3 numbers, received 0: the safe action is commanded",
    ]


RING = """
#include <stdio.h>
#define TFSAC_LOG_STEPS 3
#include "faults.h"
#include "log.h"
int main(void)
{
    static tfsac_policy_log log;
    for (int n = 0; n < 5; n++) {
        const float sensors[TFSAC_SENSOR_DIM] = {(float)n};
        const float action[TFSAC_ACTION_DIM] = {(float)(10 * n)};
        tfsac_policy_log_add(&log, 0.5f * (float)n, sensors, action);
        if (n == 1) printf("%lu ", tfsac_policy_log_size(&log));
    }
    for (unsigned long i = 0; i < tfsac_policy_log_size(&log); i++) {
        const tfsac_policy_log_row *row = tfsac_policy_log_get(&log, i);
        printf("%g:%g:%g ", (double)row->seconds, (double)row->sensors[0], (double)row->action[0]);
    }
    printf("unsafe %d\\n", tfsac_policy_unsafe_faults());
    return 0;
}
"""


def ring_and_faults(folder, header):
    (folder / "policy.h").write_text(header)
    (folder / "ring.c").write_text(RING)
    command = ["cc", "-std=c99", *WARNINGS, "-I", folder, "-I", KIT, folder / "ring.c", "-o", folder / "ring", "-lm"]
    subprocess.run(list(map(str, command)), check=True)
    return subprocess.run([folder / "ring"], capture_output=True, text=True, check=True).stdout


def test_the_ring_keeps_the_last_steps_and_every_fault_is_safe(files, tmp_path):
    header = (files[0] / "policy.h").read_text()
    assert ring_and_faults(tmp_path, header) == "2 1:2:20 1.5:3:30 2:4:40 unsafe 0\n"


@pytest.mark.parametrize(
    "guard, unsafe",
    [
        ("if (!(x - x <= 0.0f)) finite = 0;", 3),  # NaN and both infinities are then told as out of range at most
        ("if (!(x >= state->low[i] && x <= state->high[i])) inside = 0;", 2),
        ("state->equal = same ? state->equal + 1 : 1;", 1),
        ("!(seconds <= state->latest)", 2),
    ],
)
def test_the_faults_find_a_guard_that_is_missing(files, tmp_path, guard, unsafe):
    header = (files[0] / "policy.h").read_text()
    assert guard in header
    header = header.replace(
        guard, "seconds < -1.0f" if guard.startswith("!") else "(void)same;" if "same" in guard else ""
    )
    assert ring_and_faults(tmp_path, header).endswith(f"unsafe {unsafe}\n")


@pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="no arm-none-eabi-gcc or qemu-system-arm: export/c/install_cross_tools.sh installs them",
)
def test_the_emulated_processor_is_safe_too(files, tmp_path):
    shutil.copytree(KIT, tmp_path / "c", ignore=shutil.ignore_patterns("build"))
    shutil.copy(files[0] / "policy.h", tmp_path)
    command = ["make", "-s", "-C", str(tmp_path / "c"), "check_cortex_m4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "passed: 8 faults, not safe within one period: 0" in done.stdout + done.stderr
