"""Episodes in one world after another, distributed over processes."""

import multiprocessing
import signal
from typing import NamedTuple

from tfsac.data.envs import EnvSettings
from tfsac.deploy.stress import policies
from tfsac.deploy.stress.measure import Bench

LOOK_EVERY = 0.2  # seconds between two looks at whether to break off


class Job(NamedTuple):
    """Episodes of one policy in one world.

    Attributes:
        policy: its place in the track's list; None acts uniformly at random.
        env, wrappers, idle, keep: see `Bench.run`.
    """

    policy: int | None
    env: EnvSettings
    wrappers: tuple = ()
    idle: int = 0
    keep: bool = False


class Track:
    """Runs jobs, in this process or in several.

    Args:
        paths: of the policies, see `policies.load`.
        env: `EnvSettings` of the environments.
        seeds: of the starts.
        workers: processes; 1 stands for this one.
        is_over: called now and then; if it returns True, `run` raises KeyboardInterrupt.
    """

    def __init__(self, paths, env, seeds, workers=1, is_over=None):
        self._is_over = is_over or (lambda: False)
        self._pool = self._runner = None
        if workers == 1:
            self._runner = _Runner(paths, env, seeds, self._is_over)
        else:
            # Processes of their own from the start: what TensorFlow has begun here would not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._pool = context.Pool(workers, _begin, [list(map(str, paths)), env, seeds])

    def run(self, jobs):
        """Yields the `Episodes` of each job, in order."""
        if self._runner is not None:
            yield from map(self._runner, jobs)
            return
        results = self._pool.imap(_run, jobs)
        for _ in jobs:
            while True:
                if self._is_over():
                    raise KeyboardInterrupt
                try:
                    yield results.next(LOOK_EVERY)
                    break
                except multiprocessing.TimeoutError:
                    continue

    def close(self):
        """Ends the processes, whatever they are doing."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
        else:
            self._runner.bench.close()


class _Runner:
    def __init__(self, paths, env, seeds, is_over=None):
        self._acts = [policies.load(path).act for path in paths]
        self.bench = Bench(env, seeds, is_over)

    def __call__(self, job):
        act = self.bench.aimless() if job.policy is None else self._acts[job.policy]
        return self.bench.run(act, job.env, job.wrappers, job.idle, job.keep)


_runner = None  # of a process that the pool began


def _begin(paths, env, seeds):
    global _runner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; whoever began this one ends it
    _runner = _Runner(paths, env, seeds)


def _run(job):
    return _runner(job)
