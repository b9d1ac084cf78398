"""Environments in processes of their own, stepped beside the learner: train.env_processes = True.

For slow simulators, on one machine. All environments take their next step at once, with actions from one batch, and
the next block of steps is taken while the learner updates.
"""

import contextlib
import copy
import functools
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import signal
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import _async_worker

from tfsac.data.collector import BehaviourPolicy
from tfsac.data.envs import episode_seed
from tfsac.data.replay import Transition
from tfsac.errors import RunError, UserError
from tfsac.policy import Policy


class ProcessCollector:
    """Replaces a `Collector`: the same methods, seeds, order of steps and noise.

    # Deviation: a block is collected while the learner updates on the block before it, so that its actions are those
    # of the policy from before that update; 2018b acts with the newest. Which policy acts never depends on the clock:
    # two runs are the same bit for bit, and so is one that was stopped and resumed.

    An unfinished block changes nothing until `collect` returns it. `get_state` returns the state before that block, and
    the policy that acts in it, so that a resumed run takes the same block again.

    Attributes:
        steps: returned so far, of all environments together.

    Args:
        env: an `EnvSettings`.
        num_envs: environments, each in a process of its own.
        seed: of the run.

    Raises:
        UserError: an environment cannot be made in a process of its own.
        RunError: as `make_env` at the first reset, or a process that dies.
    """

    def __init__(self, env, num_envs, seed):
        self.seed, self.num_envs = seed, num_envs
        self._vector = None
        # forkserver: a fork of this process would inherit TensorFlow's locks, but not its threads.
        faults, before = multiprocessing.get_context("forkserver").SimpleQueue(), set(multiprocessing.active_children())
        try:
            with _as_if_without_main():
                self._vector = AsyncVectorEnv(
                    [functools.partial(_make, env)] * num_envs,
                    context="forkserver",
                    worker=functools.partial(_work, faults),
                    autoreset_mode=AutoresetMode.DISABLED,  # a finished episode's last transition keeps its own s'
                )
        except (EOFError, OSError) as error:  # a process has ended instead of answering
            for process in set(multiprocessing.active_children()) - before:  # the others ignore SIGTERM, and would stay
                process.kill()
                process.join()
            if not faults.empty():
                raise UserError(faults.get()) from error
            raise RunError("the process of an environment ended as it began: did its simulator crash?") from error
        self._end = multiprocessing.util.Finalize(self, _end, [self._vector], exitpriority=10)  # also if never closed
        self._thread, self._stopped = ThreadPoolExecutor(1), False
        self._pending = self._policy = None
        episodes = [_Episode(0, [], 0.0)] * num_envs
        self._now = _Now(0, self._reset(episodes, np.ones(num_envs, bool)), episodes)

    @property
    def steps(self):
        return self._now.steps

    def begin(self, steps, act):
        """Begins the next block, of `steps` steps, with the present policy of act, a `BehaviourPolicy`."""
        self._policy = act.policy
        if steps:
            self._pending = self._submit(steps, act)

    def collect(self, steps, act):
        """Returns the block that `begin` has begun, or takes one now.

        Args:
            steps: of all environments together; as many as `begin` was told.
            act: a `BehaviourPolicy`.

        Returns:
            As `Collector.collect`.

        Raises:
            NonFiniteError, RunError: as `Collector.collect`, or a process that died.
        """
        pending, self._pending = self._pending or self._submit(steps, act), None
        self._now, rng, transitions, ended = pending.result()
        assert len(transitions.reward) == steps
        act.rng.bit_generator.state = rng.bit_generator.state
        return transitions, ended

    def metrics(self):
        """Columns of metrics.csv that a collector adds: none here, since the policy is always one block old."""
        return {}

    def close(self):
        """Ends the processes after their current environment step."""
        self._stopped = True
        self._thread.shutdown()
        self._end()

    def get_state(self):
        """As `Collector.get_state`, and the policy that acts next."""
        arrays = {}
        for i, episode in enumerate(self._now.episodes):
            arrays[f"environment_{i}/observation"] = self._now.observations[i]
            arrays[f"environment_{i}/actions"] = np.asarray(episode.actions, np.float32)
        if self._policy is not None:
            arrays |= {f"policy/{name}": array for name, array in self._policy.arrays().items()}
        return {"steps": self.steps, "episodes": [episode.number for episode in self._now.episodes]}, arrays

    def set_state(self, numbers, arrays):
        """As `Collector.set_state`; all environments take their recorded actions at once."""
        actions = [arrays[f"environment_{i}/actions"] for i in range(self.num_envs)]
        episodes = [_Episode(number, [], 0.0) for number in numbers["episodes"]]
        observations = self._reset(episodes, np.ones(self.num_envs, bool))
        strayed = np.zeros(self.num_envs, bool)
        for t in range(max(map(len, actions))):
            row = np.full(self._vector.action_space.shape, np.nan, np.float32)
            for i, recorded in enumerate(actions):
                row[i] = recorded[t] if t < len(recorded) and not strayed[i] else np.nan
            observations, rewards, terminated, truncated = self._step(row)
            episodes = [episodes[i].after(row[i], rewards[i]) for i in range(self.num_envs)]
            strayed |= (terminated != 0) | truncated
        recorded = np.array([arrays[f"environment_{i}/observation"] for i in range(self.num_envs)])
        strayed |= np.any(observations != recorded, axis=1)
        if strayed.any():
            episodes = [
                _Episode(e.number + 1, [], 0.0) if gone else e for e, gone in zip(episodes, strayed, strict=True)
            ]
            observations = self._reset(episodes, strayed)
        self._now = _Now(numbers["steps"], observations, episodes)
        policy = {name.removeprefix("policy/"): x for name, x in arrays.items() if name.startswith("policy/")}
        self._policy = Policy.from_arrays(policy) if policy else None
        return np.flatnonzero(strayed).tolist()

    def _submit(self, steps, act):
        policy = act.policy if self._policy is None else self._policy
        acting = BehaviourPolicy(policy, act.action_dim, act.start_steps, copy.deepcopy(act.rng))
        return self._thread.submit(self._take, steps, acting)

    def _take(self, steps, act):
        """In the thread: -> where the environments stand then, act's random generator, transitions, ended."""
        (at, observations, episodes), last = self._now, self.steps + steps
        rounds, ended = [], []
        while at < last and not self._stopped:
            first = at % self.num_envs
            turn = range(first, min(self.num_envs, first + last - at))  # all, unless the block ends within a round
            mine = slice(turn.start, turn.stop)
            actions = np.full(self._vector.action_space.shape, np.nan, np.float32)
            actions[mine] = act.batch(observations[mine], at)
            next_observations, rewards, terminated, truncated = self._step(actions)
            taken = observations, actions, rewards, next_observations, terminated
            rounds.append([x[mine] for x in taken])
            observations, episodes = next_observations, list(episodes)
            over = (terminated != 0) | truncated
            for i in turn:
                at += 1
                episodes[i] = episodes[i].after(actions[i], rewards[i])
                if over[i]:
                    ended.append((at, episodes[i].total_reward, len(episodes[i].actions)))
                    episodes[i] = _Episode(episodes[i].number + 1, [], 0.0)
            if over.any():
                observations = self._reset(episodes, over)
        if self._stopped:
            return None  # nobody asks for it any more
        transitions = Transition(*(np.concatenate(x).astype(np.float32) for x in zip(*rounds, strict=True)))
        return _Now(at, observations, episodes), act.rng, transitions, ended

    def _reset(self, episodes, which):
        """Resets the environments of the mask to the beginning of their episodes; -> observations of all, [N, O]."""
        seeds = [episode_seed(self.seed, i, episode.number) for i, episode in enumerate(episodes)]
        return self._ask(self._vector.reset, seed=seeds, options={"reset_mask": which})[0]

    def _step(self, actions):
        """[N, A], NaN where an environment rests -> observations, rewards, terminated as a number, truncated."""
        observations, rewards, terminated, truncated, _ = self._ask(self._vector.step, actions)
        return observations, rewards, terminated.astype(np.float32), truncated

    def _ask(self, method, *args, **kwargs):
        try:
            *results, infos = method(*args, **kwargs)
        except (EOFError, OSError) as error:
            processes = self._vector.processes
            multiprocessing.connection.wait([process.sentinel for process in processes], timeout=5)  # it is told late
            ended = [f"{i} (exit code {x.exitcode})" for i, x in enumerate(processes) if x.exitcode is not None]
            _kill(self._vector)
            raise RunError(
                f"the process of environment {' and '.join(ended) or '?'} ended: did its simulator crash?"
            ) from error
        for error in infos.get("error", ()):
            if error is not None:
                raise error
        return (*results, infos)


class _Episode(NamedTuple):
    """How far the episode of one environment has come; a block under way works on values of its own."""

    number: int
    actions: list
    total_reward: float

    def after(self, action, reward):
        """After one more step; an action of NaN is none."""
        if np.isnan(action[0]):
            return self
        return self._replace(actions=[*self.actions, action], total_reward=self.total_reward + float(reward))


class _Now(NamedTuple):
    """Where the environments stand between two blocks."""

    steps: int
    observations: np.ndarray  # [N, O]
    episodes: list  # of _Episode


class _Resting(gym.Wrapper):
    """In an environment's process: rests if the action is NaN, and returns errors whole, as AsyncVectorEnv cannot.

    An environment rests while others take a block's last steps, and after it has repeated its own recorded actions.
    """

    def reset(self, **kwargs):
        try:
            self._observation, _ = self.env.reset(**kwargs)
        except RunError as error:
            return np.zeros(self.observation_space.shape, np.float32), {"error": error}
        return self._observation, {}

    def step(self, action):
        if np.isnan(action[0]):
            return self._observation, 0.0, False, False, {}
        try:
            self._observation, reward, terminated, truncated, _ = self.env.step(action)
        except RunError as error:
            return self._observation, 0.0, False, False, {"error": error}
        return self._observation, reward, terminated, truncated, {}


def _make(env):
    return _Resting(env.make())


def _work(faults, index, make, *arguments):
    """Gymnasium's worker, for which the learner alone decides when it ends.

    Args:
        faults: a SimpleQueue for the line that says why the environment cannot be made.
        index, make, *arguments: as Gymnasium's.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # both may come to the whole group, and a block is under way
        signal.signal(number, signal.SIG_IGN)
    try:
        env = make()
    except (UserError, RunError) as error:
        faults.put(
            f"train.env_processes: environment {index}, in a process of its own: {error}; train.env_processes = False "
            "makes all in one process"
        )
        return
    with contextlib.suppress(EOFError, OSError):  # the learner is gone
        _async_worker(index, lambda: env, *arguments)


def _end(vector):
    if not vector.closed:
        try:
            vector.close()
        except (EOFError, OSError):
            _kill(vector)


def _kill(vector):
    for process in vector.processes:
        process.kill()
        process.join()
    vector.closed = True


@contextlib.contextmanager
def _as_if_without_main():
    """multiprocessing would import the command, and TensorFlow with it, into every process that begins meanwhile."""
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
