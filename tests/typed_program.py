"""A user's program that mypy holds to the annotations of the public names; nobody runs it."""

import gymnasium
import numpy as np

import tfsac


def program(observation: np.ndarray) -> float:
    agent: tfsac.Learner = tfsac.SAC(gymnasium.make("Pendulum-v1"), seed=0, discount=0.98)
    history = agent.fit(1_000, evaluate_every=500)
    returns: list[float] = agent.evaluate(episodes=3)
    action: np.ndarray = agent.predict(observation)
    agent.save("pendulum")
    again = tfsac.load("pendulum", env=lambda: gymnasium.make("Pendulum-v1"))
    again.fit(100, progress=False)
    policy = tfsac.load_policy("pendulum")
    report: dict = tfsac.export_policy(again, "artifacts/pendulum")
    return float(action[0] + policy(observation)[0] + returns[0] + history.episodes[0]["return"] + len(report))
