"""How large the observations of the benchmark's tasks are: python benchmarks/study/observation_sizes.py

Writes results/observations.csv: root mean square and standard deviation of every observation over 3,000 steps of
uniform actions, in the environment's units. All of these tasks are learned with their observations as they are.
"""

import gymnasium
import numpy as np
import results
import runs

STEPS = 3_000
OUT = results.FOLDER / "observations.csv"


def observations(env_id):
    """-> [STEPS, O]"""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    seen, (observation, _) = [], env.reset(seed=0)
    for _ in range(STEPS):
        seen.append(observation)
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            observation, _ = env.reset()
    return np.array(seen, np.float64)


def main():
    rows = []
    for task, env_id in runs.ENV_IDS.items():
        seen = observations(env_id)
        sizes = np.sqrt(np.mean(seen**2, axis=0)), np.where(np.ptp(seen, axis=0) == 0, 0.0, np.std(seen, axis=0))
        rows += [(task, i, f"{rms:.4g}", f"{std:.4g}") for i, (rms, std) in enumerate(zip(*sizes, strict=True))]
    runs.write(OUT, ("task", "observation", "rms", "std"), rows)
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
