"""A second rotary pendulum, written apart from the one that policies are trained on, to stand in for the machine.

It shares no code with that one: its equations of motion are derived by hand, it is integrated with another method and
another step, and it needs numpy only. By default it also differs as a machine would: friction 20 % up, commands that
come into force late, encoders that cut off instead of rounding.

The arm turns by b about the vertical axis; the pendulum, a thin rod of length L and mass m at the arm's end, R from the
axis, hangs at a = 0. With J = m L^2 / 3, P = m L / 2, and K for the arm, the rotor and m R^2:

    (K + J sin^2 a) b'' + P R cos a a'' + J sin 2a a' b' - P R sin a a'^2 = torque - Db b'
    P R cos a b'' + J a'' - J sin a cos a b'^2 + P g sin a               =        - Da a'

    torque = k (volts - k b') / resistance
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np

COUNTS = 2048  # a turn
STOP = math.radians(135)


class Machine(NamedTuple):
    """What there is to know of one, in SI units."""

    arm_mass: float = 0.095
    arm_length: float = 0.085
    arm_damping: float = 2.7e-4
    pendulum_mass: float = 0.024
    pendulum_length: float = 0.129
    pendulum_damping: float = 5e-5
    rotor: float = 4.6e-6
    motor_constant: float = 0.042
    resistance: float = 8.4
    dead_zone: float = 0.65
    gravity: float = 9.81
    delay: float = 0.025  # s from a command to its effect; the policy was trained with 0.02

    def with_friction(self, factor):
        """The same, with other damping."""
        return self._replace(arm_damping=self.arm_damping * factor, pendulum_damping=self.pendulum_damping * factor)


class Simulator:
    """One machine in motion.

    Args:
        machine: a `Machine`; default one with friction 20 % up.
        step: of the integrator, s.

    Attributes:
        state: b, a, b', a' in rad and rad/s; [4].
        time: s since the start.
    """

    def __init__(self, machine=None, step=0.0025):
        self.machine = machine or Machine().with_friction(1.2)
        self._step = step
        self.start(np.zeros(4))

    def start(self, state):
        """Puts it there, with no command under way."""
        self.state, self.time = np.array(state, float), 0.0
        self._volts, self._under_way = 0.0, deque()

    def counts(self):
        """What the encoders read: of the arm, and of the pendulum from upright, -1024 to 1023."""
        arm, pendulum = (math.floor(angle * COUNTS / (2 * math.pi)) for angle in self.state[:2])
        return arm, pendulum % COUNTS - COUNTS // 2

    def tilt(self):
        """Radians between the pendulum and upright."""
        return abs((self.state[1] % (2 * math.pi)) - math.pi)

    def command(self, volts):
        """Sends a command, which comes into force after the machine's delay."""
        self._under_way.append((self.time + self.machine.delay, volts))

    def run(self, seconds):
        """Lets time pass."""
        for _ in range(round(seconds / self._step)):
            while self._under_way and self._under_way[0][0] <= self.time + 1e-9:
                self._volts = self._under_way.popleft()[1]
            self.state = self._integrated(self.state, self._step)
            if abs(self.state[0]) > STOP:  # it does not bounce
                self.state[0] = math.copysign(STOP, self.state[0])
                self.state[2] = 0.0
            self.time += self._step

    def energy(self):
        """Kinetic and potential, J; conserved without damping and motor."""
        m = self.machine
        _, a, arm_speed, speed = self.state
        inertia, first, whole = self._moments()
        kinetic = 0.5 * (whole + inertia * math.sin(a) ** 2) * arm_speed**2 + 0.5 * inertia * speed**2
        kinetic += first * m.arm_length * math.cos(a) * arm_speed * speed
        return kinetic - first * m.gravity * math.cos(a)

    def _integrated(self, x, h):
        """Runge and Kutta's fourth order."""
        k1 = self._derivative(x)
        k2 = self._derivative(x + 0.5 * h * k1)
        k3 = self._derivative(x + 0.5 * h * k2)
        k4 = self._derivative(x + h * k3)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def _derivative(self, x):
        m = self.machine
        _, a, arm_speed, speed = x.tolist()
        sine, cosine = math.sin(a), math.cos(a)
        inertia, first, whole = self._moments()
        volts = self._volts if abs(self._volts) >= m.dead_zone else 0.0
        torque = m.motor_constant * (volts - m.motor_constant * arm_speed) / m.resistance
        # [p q; q r] [b''; a''] = [s; t]
        p, q, r = whole + inertia * sine**2, first * m.arm_length * cosine, inertia
        s = torque - m.arm_damping * arm_speed - 2 * inertia * sine * cosine * speed * arm_speed
        s += first * m.arm_length * sine * speed**2
        t = inertia * sine * cosine * arm_speed**2 - first * m.gravity * sine - m.pendulum_damping * speed
        determinant = p * r - q * q
        return np.array([arm_speed, speed, (r * s - q * t) / determinant, (p * t - q * s) / determinant])

    def _moments(self):
        """J, P and K of the module's docstring."""
        m = self.machine
        whole = m.arm_mass * m.arm_length**2 / 3 + m.rotor + m.pendulum_mass * m.arm_length**2
        return m.pendulum_mass * m.pendulum_length**2 / 3, m.pendulum_mass * m.pendulum_length / 2, whole
