"""The gradient step of `crossq` beside that of `sac`, by turns in one process.

    python benchmarks/any_task/gradient_step.py

Networks of 256x256 but where it says so, batches of 256, one thread, sizes of HalfCheetah-v5. A window is so many steps
in one compiled call, a multiple of the policy's delay; times are the process' own, so that what else the machine does
counts less. Prints each one's ratio to `sac`, of the medians over all windows.
"""

import os
import time

import numpy as np

WINDOWS, STEPS = 200, 9
O, A, B = 17, 6, 256  # noqa: E741 (the sizes' names everywhere)

os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main():
    from tfsac.algorithms import registry  # after the threads are set

    crossq, narrow = registry.find("crossq"), dict(policy_hidden_units=(128, 128), critic_hidden_units=(128, 128))
    agents = {
        "sac": registry.find("sac")(O, A, seed=0),
        "crossq": crossq(O, A, seed=0),
        "crossq, policy_delay = 3": crossq(O, A, seed=0, policy_delay=3),
        "crossq of 128 units": crossq(O, A, seed=0, **narrow),
        "crossq of 128 units, policy_delay = 3": crossq(O, A, seed=0, policy_delay=3, **narrow),
    }
    rng = np.random.default_rng(0)
    rows = rng.normal(size=[STEPS, B, 2 * O + A + 2]).astype(np.float32)
    rows[..., O : O + A] = np.tanh(rows[..., O : O + A])
    rows[..., -1] = 0
    times = {name: [] for name in agents}
    for window in range(-5, WINDOWS):
        for name, agent in agents.items():
            begin = time.process_time()
            agent.update(rows)
            if window >= 0:  # before that it is traced and warms up
                times[name].append((time.process_time() - begin) / STEPS)
    for name, values in times.items():
        quartiles = ", ".join(f"{x:.2f}" for x in np.quantile(values, [0.25, 0.5, 0.75]) * 1e3)
        ratio = np.median(values) / np.median(times["sac"])
        print(f"{name:37s} {quartiles} ms a gradient step (quartiles), {ratio:.2f} of sac's")


if __name__ == "__main__":
    main()
