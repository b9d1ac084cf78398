"""The rotary pendulum: its equations against energy and a second simulator, its encoders, its motor, its demo."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tfsac.data.envs import EnvSettings
from tfsac.data.furuta import Furuta
from tfsac.deploy import artefact, facts
from tfsac.deploy.device_kit import run_policy
from tfsac.deploy.stress import device_log

ID = "tfsac.data.furuta:Furuta-v0"
FOLDER = Path(__file__).parent.parent / "export" / "furuta"
RELEASED = FOLDER.parent / "policies" / "furuta" / "policy.tflite"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # demo.py imports simulator by this name
    spec.loader.exec_module(module)
    return module


simulator = load("simulator")
demo = load("demo")


def placed(*state, **parameters):
    """A pendulum with other parameters in a state (arm, pendulum from hanging, their velocities)."""
    env = Furuta()
    for name, value in parameters.items():
        assert isinstance(getattr(env, name), float)
        setattr(env, name, value)
    env.reset(seed=0)
    env.state = np.array(state, float)
    return env


def moved(env, *volts):
    """The states after each of these commands."""
    states = []
    for x in volts:
        env.step(np.float32([x]))
        states.append(env.state)
    return np.array(states)


@pytest.mark.parametrize(
    "arm, pendulum, counts",
    [
        (0, 0, (0, -1024)),  # it hangs
        (0, np.pi, (0, 0)),
        (np.pi / 2, -np.pi, (512, 0)),
        (-np.pi / 2, 3 * np.pi + 10 * 2 * np.pi / 2048, (-512, 10)),
        (0.4 * 2 * np.pi / 2048, np.pi / 2, (0, -512)),
        (0.6 * 2 * np.pi / 2048, -np.pi / 2, (1, 512)),
        (0, -2 * np.pi / 2048, (0, 1023)),  # just behind the jump
    ],
)
def test_counts_are_those_of_the_angles(arm, pendulum, counts):
    env = placed(arm, pendulum, 0, 0)
    assert tuple(env._counts()) == counts
    assert env.observation_space.contains(env._counts())


def test_energy_is_conserved_without_friction_and_motor():
    """By the formula of a thin rod on a turning arm, which is worked out in the second simulator's module."""
    env = placed(-1.0, 2.0, 1.0, -4.0, arm_damping=0.0, pendulum_damping=0.0, motor_constant=0.0)
    states = np.array([env.state, *moved(env, *[5.0] * 60)])
    assert np.ptp(states[:, 1]) > 2 and np.abs(states[:, 0]).max() < 2.2  # it moves, and meets no stop
    second = simulator.Simulator()
    energies = []
    for x in states:
        second.start(x)
        energies.append(second.energy())
    assert np.ptp(energies) < 1e-5 * 2 * 0.024 * 9.81 * 0.0645  # of what it takes to swing it up


def test_the_first_acceleration_by_hand():
    """At rest, hanging: (K - (P R)^2 / J) b'' = k volts / resistance, and a'' = -P R / J b''."""
    k = 0.095 * 0.085**2 / 3 + 4.6e-6 + 0.024 * 0.085**2
    j, p_r = 0.024 * 0.129**2 / 3, 0.024 * 0.129 / 2 * 0.085
    arm = 0.042 * 3.0 / 8.4 / (k - p_r**2 / j)
    env = placed(0, 0, 0, 0)
    env._data.ctrl[0] = 3.0
    env._mujoco.mj_forward(env._model, env._data)
    np.testing.assert_allclose(env._data.qacc, [arm, -p_r / j * arm], rtol=1e-4)


def test_the_dead_zone_and_the_limit_of_the_motor():
    assert np.all(moved(placed(0, 0, 0, 0), 0.64, -0.64) == 0)
    assert moved(placed(0, 0, 0, 0), 0.66)[0, 0] > 0 > moved(placed(0, 0, 0, 0), -0.66)[0, 0]
    np.testing.assert_array_equal(moved(placed(0, 0, 0, 0), 50, -50), moved(placed(0, 0, 0, 0), 5, -5))


def test_the_arm_is_stopped():
    assert np.rad2deg(np.abs(moved(placed(0, 0, 0, 0), *[5.0] * 100)[:, 0]).max()) == pytest.approx(135, abs=6)


@pytest.mark.parametrize(
    "state, volts, reward",
    [
        ((0, np.pi, 0, 0), 0.0, 1.0),
        ((0, 0, 0, 0), 0.0, 0.0),
        ((0, 0, 0, 0), 0.6, -0.05 * 0.12**2),  # in the dead zone, and still asked for
        ((np.deg2rad(67.5), -np.pi, 0, 0), 0.0, 1.0 - 0.25 / 4),
    ],
)
def test_rewards_by_hand(state, volts, reward):
    assert placed(*state).step(np.float32([volts]))[1] == pytest.approx(reward, abs=1e-6)


def test_a_delayed_command_moves_it_one_step_later():
    env = EnvSettings(ID, action_delay=1).make(unit_actions=False)
    env.reset(seed=0)
    env.unwrapped.state = np.zeros(4)
    first, second = moved_through(env, 5.0, 0.0)
    assert np.all(first == 0) and second[0] > 0


def moved_through(env, *volts):
    states = []
    for x in volts:
        env.step(np.float32([x]))
        states.append(env.unwrapped.state)
    return states


def test_starts_hang_near_rest_unless_they_are_anywhere():
    env, anywhere = Furuta(), Furuta(hanging=0.0)
    hanging = np.array([(env.reset(seed=seed), env.state)[1] for seed in range(20)])
    others = np.array([(anywhere.reset(seed=seed), anywhere.state)[1] for seed in range(20)])
    assert np.all(np.abs(hanging) <= (0.2, 0.1, 0.1, 0.1)) and np.ptp(hanging[:, 1]) > 0.1
    assert np.ptp(others[:, 1]) > 4
    np.testing.assert_array_equal((env.reset(seed=3), env.state)[1], hanging[3])


@pytest.mark.parametrize("factors", [{}, {"pendulum_length": 1.2, "arm_mass": 0.8, "motor_resistance": 1.3}])
def test_the_second_simulator_moves_as_mujoco_does(factors):
    """Two derivations, two integrators; also of machines that `env.randomize` drew."""
    env = EnvSettings(ID, randomize=factors, action_delay=1).make(unit_actions=False)
    env.reset(seed=0)
    names = {"motor_resistance": "resistance"}
    nominal = simulator.Machine(delay=0.02)
    changed = {names.get(name, name): getattr(nominal, names.get(name, name)) * x for name, x in factors.items()}
    second = simulator.Simulator(nominal._replace(**changed), step=0.001)
    start = np.array([0.1, 0.5, 0, 0])
    env.unwrapped.state = start
    second.start(start)
    for volts in 3 * np.sin(np.arange(50) / 2):
        env.step(np.float32([volts]))
        second.command(float(np.float32(volts)))
        second.run(0.02)
        np.testing.assert_allclose(second.state, env.unwrapped.state, atol=2e-3)
    assert np.abs(second.state).max() > 0.5  # it moved


def test_the_second_simulator_delays_and_cuts_off():
    second = simulator.Simulator(simulator.Machine(delay=0.03))
    second.command(5.0)
    second.run(0.03)
    assert second.state[0] == 0
    second.run(0.01)
    assert second.state[0] > 0
    second.start([-0.1 * 2 * np.pi / 2048, np.pi + 0.9 * 2 * np.pi / 2048, 0, 0])
    assert second.counts() == (-1, 0)
    assert second.tilt() == pytest.approx(0.9 * 2 * np.pi / 2048)


def test_the_released_policy_holds_the_second_machine_upright():
    """In Python; on the emulated processor it is demo.py that shows it."""
    policy = run_policy.Policy(RELEASED)

    class Board:
        def reset(self):
            policy.reset()

        def step(self, *counts):
            action, status = policy.step(counts, 0.02)
            return status != run_policy.OK, float(action[0])

    assert sum(demo.is_held(demo.run(Board(), simulator.Simulator(), start)) for start in demo.starts(5)) == 5


def test_the_released_policy_is_small_and_says_what_it_is():
    _, said = artefact.load(RELEASED)
    assert facts.environment(said, RELEASED).id == ID
    assert said["environment"]["control_rate_hz"] == 50
    assert said["observation"]["names"][:2] == ["arm", "pendulum from upright"]
    report = json.loads(RELEASED.with_name("report.json").read_text())
    # Only what passed is released: a policy of such gain does not bear the rounding of float16 and dynamic.
    assert all(report["artefacts"][name]["verdict"] == "passed" for name in ("policy.tflite", "policy.h"))
    sizes = report["artefacts"]["policy.h"]["cortex_m4_bytes"]
    assert sizes["flash"] <= 8_192 and sizes["ram"] + sizes["stack"] <= 1_000


@pytest.mark.skipif(bool(demo.missing()), reason=f"not here: {', '.join(demo.missing())}: install_cross_tools.sh")
def test_the_demonstration_in_c_under_emulation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo.py", "--starts=2", f"--log={tmp_path / 'log.csv'}"])
    assert demo.main() == 0
    said = capsys.readouterr().out
    assert "upright to 12 degrees from 5 s to the end in 2 of 2\n" in said
    found = device_log.examine(tmp_path / "log.csv", RELEASED)
    # It holds the last second only: what came before it is not known to the first five steps, for six are shown.
    assert found["steps"] == 50 and found["not_judged"] == 5 and found["disagreed"] == 0
    assert found["rate_hz"] == pytest.approx(50, rel=1e-4)
