"""The best return known on Reacher-v5 from the starts of evaluations: python benchmarks/reacher_optimum.py

The starts (arm and goal) are those of seeds 0 to 99. For each, trajectory optimisation on the simulator itself: the
torques of the 50 steps are the variables, the return of the environment's own steps the objective, its gradient that of
finite differences of the dynamics along the trajectory, chained backwards. L-BFGS-B starts from feedback control to the
goal with the elbow on either side; the distance to the goal, which has a kink where it is nought, is rounded off at
first. The return written is that of the environment run with the torques found: it was reached, and is a lower bound of
the true optimum. Writes benchmarks/reacher_optimum.csv (episode, return). Twenty minutes on two cores.
"""

import csv
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from scipy.optimize import minimize

STEPS, DELTA = 50, 1e-5
UPPER_ARM, FOREARM = 0.1, 0.11  # metres
GAINS = (1.0, 2.0, 4.0, 8.0)  # of the feedback that the first guesses come from
ROUNDING = (1e-2, 1e-3, 1e-4)  # metres


class Problem:
    """One episode as an optimisation problem: torques [50, 2] -> return and its gradient."""

    def __init__(self, episode):
        self.env = gymnasium.make("Reacher-v5").unwrapped
        self.env.reset(seed=episode)
        self.model, self.data = self.env.model, self.env.data
        self.start = np.concatenate([self.data.qpos, self.data.qvel])
        self.rounding = 0.0  # the reward is -|(distance, rounding)|

    def feedback(self, elbow, gain):
        """Torques [50, 2] that steer to the goal with the elbow on one side (1 or -1)."""
        x, y = self.start[2:4]
        cosine = (x**2 + y**2 - UPPER_ARM**2 - FOREARM**2) / (2 * UPPER_ARM * FOREARM)
        bend = elbow * np.arccos(np.clip(cosine, -1, 1))
        shoulder = np.arctan2(y, x) - np.arctan2(FOREARM * np.sin(bend), UPPER_ARM + FOREARM * np.cos(bend))
        shoulder = (shoulder + np.pi) % (2 * np.pi) - np.pi
        state, torques = self.start, []
        for _ in range(STEPS):
            error = np.array([shoulder, bend]) - state[:2]
            torques.append(np.clip(gain * error - gain / 10 * state[4:6], -1, 1))
            state, _ = self.step(state, torques[-1])
        return np.array(torques)

    def step(self, state, torque):
        """The environment's step from a state of our choice: next state [8], reward."""
        self.env.set_state(state[:4], state[4:])
        self.env.do_simulation(torque, self.env.frame_skip)
        after = np.concatenate([self.data.qpos, self.data.qvel])
        way = np.linalg.norm(self.env.get_body_com("fingertip") - self.env.get_body_com("target"))
        return after, -np.sum(torque**2) * self.env._reward_control_weight - np.hypot(way, self.rounding)

    def value_and_gradient(self, torques):
        """Minus the return, and its gradient, both for a minimiser."""
        torques = torques.reshape(STEPS, 2)
        state, total, jacobians = self.start, 0.0, []
        for torque in torques:
            after, reward = self.step(state, torque)
            jacobians.append(self._jacobian(state, torque, after, reward))
            state, total = after, total + reward
        to_go, gradient = np.zeros(8), np.zeros([STEPS, 2])
        for t in reversed(range(STEPS)):
            dynamics, rewards = jacobians[t]  # [8, 10], [10]: by state, then by torque
            whole = rewards + to_go @ dynamics
            to_go, gradient[t] = whole[:8], whole[8:]
        return -total, -gradient.ravel()

    def _jacobian(self, state, torque, after, reward):
        columns = np.zeros([9, 10])
        for i in [0, 1, 4, 5, 8, 9]:  # the goal's own coordinates (2, 3, 6, 7) do not move
            x = np.concatenate([state, torque])
            x[i] += DELTA
            other, other_reward = self.step(x[:8], x[8:])
            columns[:, i] = np.append(other - after, other_reward - reward) / DELTA
        return columns[:8], columns[8]

    def total(self, torques):
        """The return of a fresh episode with these torques, through Gymnasium's own step."""
        return sum(float(self.env.step(torque.astype(np.float32))[1]) for torque in torques)


def best(episode):
    """The best return found for that start."""
    problem, found = Problem(episode), []
    for elbow in (1, -1):
        guesses = [problem.feedback(elbow, gain) for gain in GAINS]
        torques = min(guesses, key=lambda x: problem.value_and_gradient(x)[0]).ravel()
        for problem.rounding in ROUNDING:
            torques = minimize(
                problem.value_and_gradient, torques, jac=True, method="L-BFGS-B", bounds=[(-1, 1)] * 2 * STEPS,
                options={"maxiter": 100, "ftol": 1e-6},  # the default's 2e-9 gives 0.002 more, in twice the time
            ).x  # fmt: skip
        problem.env.reset(seed=episode)
        found.append(problem.total(torques.reshape(STEPS, 2)))
    return max(found)


def main(episodes):
    with ProcessPoolExecutor(2) as pool:
        returns = list(pool.map(best, range(episodes)))
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("episode", "return"), *enumerate(returns)])
    print(f"mean {np.mean(returns):.4f}, standard error {np.std(returns) / episodes**0.5:.4f}, {episodes} episodes")


if __name__ == "__main__":
    print(f"MuJoCo {mujoco.__version__}")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
