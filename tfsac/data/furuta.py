"""A rotary (Furuta) pendulum as people build it: two encoders, a motor with a dead zone, and nobody tells velocities.

`tfsac.data.furuta:Furuta-v0` is its id for Gymnasium and for env.id.

Parameters are the nominal ones of Quanser's QUBE-Servo 2: motor, arm, pendulum and encoders of its user manual (the
same mechanics stand in table 2.2 of the Qube-Servo 3's, from which the amplifier's default dead band of 0.65 V is),
viscous damping as identified in BlueRiverTech's quanser-openai-driver.
"""

from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

COUNTS = 2048  # a turn: 512 lines in quadrature
VOLTS = 5.0  # at most: a choice, half of what the amplifier is recommended for
STOP = np.deg2rad(135.0)  # of the arm, to either side; as in furuta.xml
SPIN = 20.0  # rad/s; hanging, 21 carry it just over the top
ROTOR = 4.0e-6 + 0.6e-6  # kg m^2, with the hub


class Furuta(gym.Env):
    """Swing the pendulum up and hold it there, within the arm's stops.

    Observation [2], whole numbers: counts of the arm's encoder from the middle, and of the pendulum's from upright,
    -1024 to 1023. The pendulum's counts jump where it hangs, since a jump does the least harm there.

    Action [1]: volts at the motor, -5 to 5; less than the dead zone does nothing, and the motor then brakes.

    Reward, 1 for upright and still in the middle:
    0.25 (1 + cos t) + 0.5 exp(-(t / 0.3)^2 - (t' / 6 rad/s)^2) - 0.25 (b / stop)^2 - 0.05 (volts / 5)^2, for the
    pendulum's angle t from upright and the arm's b. The cosine leads up from anywhere, but is too flat at the top to
    hold the pendulum there: with it alone, policies swung to and fro by 30 degrees. The exponential rewards a slow
    pendulum near the top, so that policies do not spin it.

    Its float attributes are the machine's parameters, in SI units; a change takes effect at the next reset.
    `env.randomize` takes their names.

    Args:
        render_mode: 'rgb_array', 'human' or None.
        hanging: share of the episodes that begin near rest, as a machine does; the others begin anywhere at any speed,
            most of them slowly near upright, so that balancing is met before swinging up is learned. Some spin: a
            policy that never met it may go on turning over for ever.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 50}  # noqa: RUF012 (Gymnasium's)
    dt = 0.02  # s
    xml = Path(__file__).with_suffix(".xml")
    observation_space = Box(np.float32([-1024, -COUNTS // 2]), np.float32([1024, COUNTS // 2 - 1]))
    action_space = Box(-VOLTS, VOLTS, [1], np.float32)

    def __init__(self, render_mode=None, hanging=1.0):
        import mujoco  # here: not everyone who imports this needs it

        self.render_mode, self._hanging, self._renderer = render_mode, hanging, None
        self.arm_mass, self.arm_length, self.arm_damping = 0.095, 0.085, 2.7e-4
        self.pendulum_mass, self.pendulum_length, self.pendulum_damping = 0.024, 0.129, 5e-5
        self.motor_constant, self.motor_resistance = 0.042, 8.4  # N m/A or V s/rad, ohm
        self.dead_zone = 0.65  # V
        self._mujoco = mujoco
        self._model = mujoco.MjModel.from_xml_path(str(self.xml))
        self._data = mujoco.MjData(self._model)
        self._substeps = round(self.dt / self._model.opt.timestep)

    @property
    def state(self):
        """Angles [rad] of the arm and of the pendulum, 0 hanging, and their velocities [rad/s]: [4], a copy."""
        return np.concatenate([self._data.qpos, self._data.qvel])

    @state.setter
    def state(self, state):
        self._data.qpos[:], self._data.qvel[:] = state[:2], state[2:]
        self._mujoco.mj_forward(self._model, self._data)

    def reset(self, *, seed=None, options=None):
        """As of any environment."""
        super().reset(seed=seed)
        self._write_parameters()
        self._mujoco.mj_resetData(self._model, self._data)
        rng = self.np_random
        if rng.random() < self._hanging:
            self.state = rng.uniform(-1, 1, 4) * (0.2, 0.1, 0.1, 0.1)
        else:
            arm, tilt, arm_speed, speed = rng.uniform(-1, 1, 4)
            self.state = np.array([arm, np.pi * (1 + tilt**3), arm_speed, SPIN * speed**3])
        return self._counts(), {}

    def step(self, action):
        """As of any environment."""
        volts = float(np.clip(action[0], -VOLTS, VOLTS))
        self._data.ctrl[0] = volts if abs(volts) >= self.dead_zone else 0.0
        self._mujoco.mj_step(self._model, self._data, self._substeps)
        arm, pendulum, _, speed = self.state
        tilt = pendulum % (2 * np.pi) - np.pi
        reward = 0.25 * (1 + np.cos(tilt)) + 0.5 * np.exp(-((tilt / 0.3) ** 2) - (speed / 6) ** 2)
        reward -= 0.25 * (arm / STOP) ** 2 + 0.05 * (volts / VOLTS) ** 2
        if self.render_mode == "human":
            self.render()
        return self._counts(), float(reward), False, False, {}

    def render(self):
        """As of any environment."""
        if self._renderer is None:
            from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

            camera = {"distance": 0.55, "azimuth": 130.0, "elevation": -20.0, "lookat": np.zeros(3)}
            self._renderer = MujocoRenderer(self._model, self._data, camera, 480, 480)
        return self._renderer.render(self.render_mode)

    def close(self):
        """As of any environment."""
        if self._renderer is not None:
            self._renderer.close()

    def _counts(self):
        arm, pendulum = np.round(self._data.qpos * COUNTS / (2 * np.pi))
        return np.float32([arm, pendulum % COUNTS - COUNTS // 2])

    def _write_parameters(self):
        """Both are thin rods. The motor's current is in balance at once: its back-EMF is a damping."""
        model, strength = self._model, self.motor_constant / self.motor_resistance  # N m/V
        arm, pendulum = (model.body(name).id for name in ("arm", "pendulum"))
        for body, mass, length, centre, across in (
            (arm, self.arm_mass, self.arm_length, (0.5, 0, 0), (0, 1, 1)),
            (pendulum, self.pendulum_mass, self.pendulum_length, (0, 0, -0.5), (1, 1, 0)),
        ):
            model.body_mass[body] = mass
            model.body_ipos[body] = np.multiply(centre, length)
            model.body_inertia[body] = np.maximum(np.multiply(across, mass * length**2 / 12), 1e-10)
        model.body_pos[pendulum] = self.arm_length, 0, 0
        model.dof_armature[0] = ROTOR
        model.dof_damping[:] = self.arm_damping + strength * self.motor_constant, self.pendulum_damping
        model.actuator_gear[0, 0] = strength
        self._mujoco.mj_setConst(model, self._data)


gym.register("Furuta-v0", Furuta, max_episode_steps=400, disable_env_checker=True)
