"""The gradient step of `crossq` beside that of `sac`, by turns in one process.

    python benchmarks/any_task/gradient_step.py

Both with 256x256 networks and batches of 256, one thread, sizes of HalfCheetah-v5. A window is so many steps in one
compiled call; times are the process' own, so that what else the machine does counts less. Prints the ratio of the
medians over all windows.
"""

import os
import time

import numpy as np

WINDOWS, STEPS = 200, 8
O, A, B = 17, 6, 256  # noqa: E741 (the sizes' names everywhere)

os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main():
    from tfsac.algorithms import registry  # after the threads are set

    agents = {name: registry.find(name)(O, A, seed=0) for name in ("sac", "crossq")}
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
    medians = {name: np.median(values) for name, values in times.items()}
    for name, values in times.items():
        quartiles = np.quantile(values, [0.25, 0.5, 0.75]) * 1e3
        print(f"{name:8s} {', '.join(f'{x:.2f}' for x in quartiles)} ms a gradient step (quartiles)")
    print(f"crossq / sac: {medians['crossq'] / medians['sac']:.3f}")


if __name__ == "__main__":
    main()
