"""The best return on Pendulum-v1 from the start states of evaluations: python benchmarks/pendulum_optimum.py

The start states are those of seeds 0 to 99. Dynamic programming over the 200 steps of an episode on a grid of angle and
angular velocity with linear interpolation, then the greedy policy of those values run in the environment itself, so
that the figure is a return that was reached. Writes benchmarks/pendulum_optimum.csv (episode, return).
"""

import csv
import sys
from pathlib import Path

import gymnasium
import numpy as np

ANGLES, SPEEDS, TORQUES = 240, 161, 41
STEPS, DT, MAX_SPEED, MAX_TORQUE = 200, 0.05, 8.0, 2.0  # Gymnasium's Pendulum-v1: g = 10, m = l = 1


def step(angle, speed, torque):
    """The environment's own step: next angle, next speed, reward."""
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    reward = -(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * DT, -MAX_SPEED, MAX_SPEED)
    return angle + speed * DT, speed, reward


def interpolate(value, angle, speed):
    """Bilinear, periodic in the angle."""
    x = (angle % (2 * np.pi)) / (2 * np.pi) * ANGLES
    y = (speed + MAX_SPEED) / (2 * MAX_SPEED) * (SPEEDS - 1)
    i, j = np.floor(x).astype(int), np.minimum(np.floor(y).astype(int), SPEEDS - 2)
    x, y = x - i, y - j
    i, k = i % ANGLES, (i + 1) % ANGLES
    below, above = value[i, j] * (1 - x) + value[k, j] * x, value[i, j + 1] * (1 - x) + value[k, j + 1] * x
    return below * (1 - y) + above * y


def values():
    """V_t on the grid for t = 0 to STEPS, from the end backwards."""
    angle = np.arange(ANGLES)[:, None] * 2 * np.pi / ANGLES
    speed = np.linspace(-MAX_SPEED, MAX_SPEED, SPEEDS)[None, :]
    found = [np.zeros([ANGLES, SPEEDS])]
    moves = [step(angle, speed, torque) for torque in np.linspace(-MAX_TORQUE, MAX_TORQUE, TORQUES)]
    for _ in range(STEPS):
        found.append(np.max([reward + interpolate(found[-1], a, s) for a, s, reward in moves], axis=0))
    return found[::-1]


def main(episodes):
    value, torques = values(), np.linspace(-MAX_TORQUE, MAX_TORQUE, 401)
    env = gymnasium.make("Pendulum-v1")
    returns = []
    for episode in range(episodes):
        env.reset(seed=episode)
        total = 0.0
        for t in range(STEPS):
            angle, speed, reward = step(*env.unwrapped.state, torques)
            torque = torques[np.argmax(reward + interpolate(value[t + 1], angle, speed))]
            total += float(env.step(np.array([torque], np.float32))[1])
        returns.append(total)
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        rows = [("episode", "return"), *enumerate(returns)]
        csv.writer(file, lineterminator="\n").writerows(rows)
    by_hundred = [round(float(np.mean(returns[i : i + 100])), 1) for i in range(0, episodes, 100)]
    print(f"mean {np.mean(returns):.1f}, of each hundred {by_hundred}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
