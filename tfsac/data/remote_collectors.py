"""Environments stepped by Ray actors, for simulators slower than the learner: train.collectors = N.

The learner asks each collector for blocks of transitions and takes whichever is ready first. A collector has at most
IN_FLIGHT requests, so it cannot run ahead of the learner; the learner takes its gradient steps block by block, so it
cannot run ahead of the collectors.
"""

import os
import socket
import sys

import numpy as np
import ray
from ray import exceptions

from tfsac.data.collector import BehaviourPolicy, Collector
from tfsac.errors import RunError, UserError

IN_FLIGHT = 2  # requests to a collector: it works on one while the answer to the other travels
WEIGHTS_EVERY = 32  # environment steps between two copies of the policy that go out
DEATHS = 5  # of collectors, with no block received between them, after which the run gives up
OBJECT_STORE = 100_000_000  # bytes, of a Ray started here: it holds a few copies of the policy, never the replay


class RemoteCollectors:
    """Replaces a `Collector`: the same methods.

    If a collector dies, another one takes its place and its requests. A block is inserted once or never: the unfinished
    blocks of a dead collector are lost and do not count as steps.

    Attributes:
        steps: received, of all environments together.
        policy_age: age of the policy that took the last block's actions: the environment steps that the learner
            received between copying the weights and receiving the block.

    Args:
        number: N, how many collectors.
        env, num_envs: each collector has num_envs environments that EnvSettings make.
        start_steps: see `BehaviourPolicy`.
        seed: of the run.
        block: transitions in a request.
        ray_address: of the Ray to join; None starts one here, which ends with `close`.

    Raises:
        UserError: see `connect`.
    """

    def __init__(self, number, env, num_envs, start_steps, seed, block, ray_address=None):
        self._started_ray = connect(ray_address)
        self._number, self._block, self._seed = number, block, seed
        self._arguments = env, num_envs, start_steps
        self._actors, self._pending = [], {}  # ref of a block under way: its actor, and the step of its policy
        self._begun = 0  # collectors ever begun: each has episodes and noise of its own, also after a resume
        self._policy = self._policy_step = None
        self._deaths = 0
        self.steps = self.policy_age = 0

    def collect(self, steps, act):
        """Takes the next block that is ready; of act, a `BehaviourPolicy`, only the policy is used.

        Args:
            steps: at most a block; the rest of the block is dropped, at the end of a run only.

        Returns:
            As `Collector.collect`.

        Raises:
            NonFiniteError, RunError: as `Collector.collect`, and if no collector stays alive.
        """
        if self._policy is None or self.steps - self._policy_step >= WEIGHTS_EVERY:
            self._policy, self._policy_step = ray.put(act.policy), self.steps
        transitions, episodes = self._next_block()
        ended = [(self.steps + at, total, length) for at, total, length in episodes if at <= steps]
        self.steps += steps
        return type(transitions)(*(array[:steps] for array in transitions)), ended

    def begin(self, steps, act):
        """As `Collector.begin`; collectors have begun their next blocks already."""

    def metrics(self):
        """Columns of metrics.csv that a collector adds, arrays by name."""
        return {"policy_age": [self.policy_age]}

    def get_state(self):
        """Counters only: a resumed run begins new episodes, so it is not the same bit for bit."""
        return {"steps": self.steps, "begun": self._begun}, {}

    def set_state(self, numbers, arrays):
        """Goes on counting where `get_state` stood; -> []: no episode is taken up, so none strays."""
        self.steps, self._begun = numbers["steps"], numbers["begun"]
        return []

    def close(self):
        """Ends the collectors, and Ray if it was started here."""
        for actor in self._actors:
            ray.kill(actor)
        if self._started_ray:
            ray.shutdown()

    def _next_block(self):
        while True:
            self._request()
            (ref,), _ = ray.wait(list(self._pending), num_returns=1)
            actor, policy_step = self._pending.pop(ref)
            try:
                block = ray.get(ref)
            except exceptions.RayTaskError as error:
                raise error.cause from None  # the environment's fault, or a mistake in it
            except exceptions.RayError as error:  # the actor, its node or the block is gone
                self._bury(actor, error)
                continue
            self._deaths, self.policy_age = 0, self.steps - policy_step
            return block

    def _request(self):
        """Sees to it that there are N collectors with IN_FLIGHT requests each."""
        while len(self._actors) < self._number:
            seed = int(np.random.SeedSequence([self._seed, 3, self._begun]).generate_state(1)[0])
            self._actors.append(_RemoteCollector.remote(*self._arguments, seed))
            self._begun += 1
        for actor in self._actors:
            for _ in range(IN_FLIGHT - sum(actor is other for other, _ in self._pending.values())):
                step = self.steps + self._block * len(self._pending)  # that the block will begin with
                self._pending[actor.collect.remote(self._block, step, self._policy)] = actor, self._policy_step

    def _bury(self, actor, error):
        self._deaths += 1
        if self._deaths > DEATHS:
            raise RunError(f"collectors die before their first block: {str(error).splitlines()[0]}") from error
        print(f"a collector died ({type(error).__name__}) and is replaced", file=sys.stderr)
        ray.kill(actor)  # where only the way to it is cut, it would live on
        self._actors.remove(actor)
        self._pending = {ref: request for ref, request in self._pending.items() if request[0] is not actor}


# SPREAD: over the nodes of a cluster. An actor reserves no core while it runs, as a simulator may well wait or sleep.
@ray.remote(max_restarts=0, scheduling_strategy="SPREAD")
class _RemoteCollector:
    """Runs in a process of its own, which imports no TensorFlow."""

    def __init__(self, *arguments):
        self._arguments, self._collector = arguments, None

    def _begin(self, env, num_envs, start_steps, seed):
        envs = [env.make() for _ in range(num_envs)]
        self._collector = Collector(envs, seed)
        rng = np.random.default_rng([seed, 2])
        self._act = BehaviourPolicy(None, envs[0].action_space.shape[0], start_steps, rng)

    def collect(self, steps, step, policy):
        """-> Transition of that many steps, and (place in the block from 1, return, length) of finished episodes.

        Args:
            step: of the run, that the block begins with.
            policy: a `tfsac.policy.Policy`.
        """
        if self._collector is None:  # here and not in __init__, where an error would look like the actor's death
            self._begin(*self._arguments)
        self._act.policy, begin = policy, self._collector.steps
        transitions, episodes = self._collector.collect(steps, lambda s, at: self._act(s, step + at - begin))
        return transitions, [(at - begin, total, length) for at, total, length in episodes]


def connect(ray_address=None):
    """Joins a Ray, or starts one on this machine that ends with this process.

    Args:
        ray_address: 'auto' or HOST:PORT; None for one of our own.

    Returns:
        Whether this call connected; inside a Ray task, and on a second call, there is nothing to do.

    Raises:
        UserError: there is no Ray at the address.
        RunError: none could be started here.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone unless the user wants it
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets a busy learner starve its collectors
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if ray_address:
            host, _, port = ray_address.rpartition(":")
            if host and "/" not in host:  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(ray_address, **quiet)
        else:
            ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE, **quiet)
    except Exception as error:  # Ray's own, that its start took too long for instance, is just that
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if not ray_address:
            raise RunError(f"Ray could not be started on this machine: {reason}") from error
        raise UserError(
            f"no Ray at --ray_address={ray_address} ({reason}): start one with `ray start --head`, "
            "or leave the flag out for one of your own"
        ) from error
    return True
