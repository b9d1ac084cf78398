"""Algorithm 1's outer loop, as a generator of blocks of steps: for each environment step, for each gradient step."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfsac.algorithms import registry
from tfsac.data.collector import BehaviourPolicy, Collector
from tfsac.data.envs import EnvSettings, action_bounds, require_bounds, say_time_limit, time_limit
from tfsac.data.process_collector import ProcessCollector
from tfsac.data.replay import Replay, Transition
from tfsac.errors import NonFiniteError, require, require_ray
from tfsac.run import checkpoint
from tfsac.setting_types import Count, CountOrZero, Seed

METRICS_EVERY = 250  # environment steps between two rows of metrics


class TrainSettings(NamedTuple):
    """Scope `train` of gin files. Every number of steps counts environment steps, all environments together.

    Attributes:
        algorithm: a name of `algorithms.registry`, or `module:Class`, an `Agent` of the user's own. If not given: the
            algorithm whose settings are given, or else crossq.
        seed: of weights, noise, replay, exploration and episodes.
        total_steps: of the whole run.
        start_steps: number of first actions that are uniform in [-1, 1]^A; learning begins after them.
        batch_size: transitions in a gradient step.
        replay_capacity: transitions kept.
        num_envs: environments side by side, of each collector if there are collectors.
        env_processes: whether each environment has a process of its own and steps while the learner updates: for slow
            simulators. The acting policy is then one block older.
        collectors: Ray actors that step the environments beside the learner; 0 steps them in this process.
        updates_per_step: gradient steps for each environment step.
        steps_per_call: environment steps between two compiled calls.
        eval_every, checkpoint_every: steps between two evaluations, two checkpoints; eval_every = None makes neither
            evaluations nor an environment for them.
        eval_episodes: episodes of an evaluation, with the deterministic policy.
        init_from: a run directory; this run begins with its networks, temperature and optimisers, and acts with its
            policy from the first step on. None begins with random weights.
        init_replay: whether this run also begins with the transitions of that run.
    """

    algorithm: str = "crossq"
    seed: Seed = 0
    total_steps: Count = 1_000_000
    start_steps: CountOrZero = 1_000
    batch_size: Count = 256
    replay_capacity: Count = 1_000_000
    num_envs: Count = 1
    env_processes: bool = False
    collectors: CountOrZero = 0
    updates_per_step: Count = 1
    steps_per_call: Count = 8
    eval_every: Count | None = 5_000
    eval_episodes: Count = 10
    checkpoint_every: Count = 10_000
    init_from: str | None = None
    init_replay: bool = False

    @property
    def random_steps(self):
        """How many of the first actions are uniform."""
        return 0 if self.init_from else self.start_steps


class Block(NamedTuple):
    """The result of one block of environment steps.

    Attributes:
        before, step: the steps taken before it and after it.
        last: whether it is the last.
        episodes: (step, return, length) of each finished episode.
        metrics: numpy arrays by name, one number for each gradient step; None while nothing is learned yet.
    """

    before: int
    step: int
    last: bool
    episodes: list
    metrics: dict[str, Any] | None

    def is_due(self, every):
        """Whether this block is the last, or the first to reach a multiple of `every` steps; never for None."""
        return every is not None and (self.step // every > self.before // every or self.last)


class Loop:
    """An agent, its replay and its environments.

    # Deviation: steps_per_call environment steps, then as many gradient steps (times updates_per_step) in one
    # compiled call; 2018b, appendix D, alternates one and one; because every call of TensorFlow costs time. The policy
    # that acts is therefore up to steps_per_call steps old.

    Attributes:
        step: environment steps taken.
        policy: the agent's deployed policy after the last gradient step that went well, a `tfsac.policy.Policy`.
        action_bounds: least and largest action in the environment's own units, [A] each.

    Args:
        agent: an `Agent`.
        replay: a `Replay`.
        collector: a `Collector`, or what replaces one.
        options: `TrainSettings`.
        env: one of the environments.
    """

    def __init__(self, agent, replay, collector, options, env):
        self.agent, self.replay, self.collector, self.options = agent, replay, collector, options
        self.action_bounds, self._env = action_bounds(env), env
        self.step = 0
        rng = np.random.default_rng([options.seed, 2])
        self._behaviour = BehaviourPolicy(agent.behaviour_policy(), agent.action_dim, options.random_steps, rng)
        self.policy = agent.deployed_policy()

    def block_at(self, total_steps):
        """The `Block` that has just ended, without its results."""
        before = max(0, self.step - 1) // self.options.steps_per_call * self.options.steps_per_call
        return Block(before, self.step, self.step == total_steps, [], None)

    def blocks(self, total_steps):
        """Yields a `Block` for each block of steps, until total_steps have been taken in all.

        Raises:
            NonFiniteError: NaN or infinity in an observation, a reward or a metric.
            RunError: see `envs.wrap`.
        """
        while self.step < total_steps:
            before, block = self.step, self.options.steps_per_call
            step = min(total_steps, (before // block + 1) * block)
            transitions, episodes = self.collector.collect(step - before, self._behaviour)
            self.replay.insert(transitions)
            self.collector.begin(min(total_steps, step + block) - step, self._behaviour)
            metrics = None
            if step >= self.options.start_steps:
                metrics = self._learn((step - before) * self.options.updates_per_step) | self.collector.metrics()
            self.step = step
            yield Block(before, step, step == total_steps, episodes, metrics)

    def _learn(self, gradient_steps):
        rows = self.replay.sample(gradient_steps, self.options.batch_size)
        metrics, behaviour, deployed = self.agent.update_policies(rows)
        for name, values in metrics.items():
            finite = np.isfinite(values)
            if not np.all(finite):
                first = int(np.argmin(finite))
                batch = Transition.split(rows[first], self.agent.observation_dim, self.agent.action_dim)
                raise NonFiniteError(
                    f"{name} is {values[first]}: the losses left the range of numbers", batch._asdict()
                )
        self._behaviour.policy, self.policy = behaviour, deployed
        return metrics

    def _take_policies(self):
        """Goes on with those of the agent, whose weights were set."""
        self._behaviour.policy, self.policy = self.agent.behaviour_policy(), self.agent.deployed_policy()

    def get_state(self):
        """-> facts that JSON can hold, by part, and numpy arrays by 'part/name'; without the rows of the replay."""
        episodes, observations = self.collector.get_state()
        low, high = self.action_bounds
        facts = {
            "replay": self.replay.get_state(),
            "collector": episodes,
            "behaviour": {"rng": self._behaviour.rng.bit_generator.state},
            "action": {"low": low.tolist(), "high": high.tolist(), "dtype": str(low.dtype)},
            "time_limit": time_limit(self._env),
        }
        parts = {"agent": self.agent.get_state(), "collector": observations, "policy": self.policy.arrays()}
        return facts, {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}

    def set_state(self, step, facts, arrays, replay_segments):
        """Takes back what `get_state` gave, and the replay's rows as matrices, oldest first.

        Returns:
            The numbers of the environments that are not deterministic: they begin new episodes.

        Raises:
            UserError: it is the state of another network.
        """
        named = [(name.partition("/"), array) for name, array in arrays.items()]
        parts = {
            part: {name: array for (first, _, name), array in named if first == part} for part in ("agent", "collector")
        }
        require_bounds(facts.get("action"), *self.action_bounds)
        say_time_limit(facts.get("time_limit"), self._env)
        self.agent.set_state(parts["agent"])
        self.replay.set_state(facts["replay"], replay_segments)
        self._behaviour.rng.bit_generator.state = facts["behaviour"]["rng"]
        self._take_policies()
        self.step = step
        return self.collector.set_state(facts["collector"], parts["collector"])

    def begin_from_other_run(self):
        """Takes over the networks of `init_from` and the replay of `init_replay`, where these are set.

        Raises:
            UserError: no sound checkpoint there, or one of other networks or other factors of the observations. The
                environment may be another, as long as the sizes are the same.
        """
        if not self.options.init_from:
            require(not self.options.init_replay, "train.init_replay needs train.init_from, the run whose replay it is")
            return
        restored = checkpoint.restore(Path(self.options.init_from) / "checkpoints")
        with checkpoint.reading(f"train.init_from = {self.options.init_from!r}"):
            self.agent.set_state(restored.part("agent"))
            self._take_policies()
            before, now = restored.part("policy"), self.policy.arrays()
            require(
                not before or all(np.allclose(before[name], x, rtol=1e-5, atol=0) for name, x in now.items()),
                f"train.init_from = {self.options.init_from!r}: expected that run's factors of observations (its "
                "observation_scale, and the bounds of actions that are remembered), received others, with which its "
                "weights are another policy: take those of its config.gin",
            )
            if self.options.init_replay:
                for rows in checkpoint.replay_segments(restored):
                    self.replay.insert_rows(rows)


def make_agent(settings, env):
    """The agent that settings {scope: {parameter: value}} describe, for an environment from `EnvSettings.make`."""
    options = TrainSettings(**settings["train"])
    algorithm = registry.find(options.algorithm)
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    chosen = dict(settings[algorithm.scope])
    scale = EnvSettings(**settings["env"]).input_scale(chosen.get("observation_scale"), env)
    if scale is not None:
        chosen["observation_scale"] = scale
    return algorithm(*sizes, options.seed, **chosen)


def make_loop(settings, envs=None, ray_address=None):
    """Builds the loop that the settings describe.

    Args:
        settings: {scope: {parameter: value}}, from `run.settings.read`.
        envs: the environments to step, from `envs.wrap`, if they are objects of the user's own; None makes those that
            the settings name.
        ray_address: for collectors, see `remote_collectors.connect`.

    Raises:
        UserError: settings that cannot work.
    """
    options, env = TrainSettings(**settings["train"]), EnvSettings(**settings["env"])
    require(
        options.batch_size <= options.replay_capacity,
        f"train.batch_size = {options.batch_size} is larger than train.replay_capacity = {options.replay_capacity}",
    )
    elsewhere = options.collectors or options.env_processes
    require(
        not (options.collectors and options.env_processes),
        "train.env_processes and train.collectors exclude each other: processes of this machine, or Ray's",
    )
    # If the environments are stepped elsewhere, one is made here, too: it tells the sizes.
    envs = envs or env.make_for_training(1 if elsewhere else options.num_envs)
    agent = make_agent(settings, envs[0])
    rows = min(options.replay_capacity, options.total_steps)
    replay = Replay(options.replay_capacity, agent.observation_dim, agent.action_dim, [options.seed, 1], rows)
    if not elsewhere:
        return Loop(agent, replay, Collector(envs, options.seed), options, envs[0])
    envs[0].close()
    if options.env_processes:
        return Loop(agent, replay, ProcessCollector(env.for_training, options.num_envs, options.seed), options, envs[0])
    require_ray("train.collectors")
    from tfsac.data.remote_collectors import RemoteCollectors  # here, so that nothing of Ray is imported without need

    acting = env.for_training, options.num_envs, options.random_steps, options.seed
    collector = RemoteCollectors(options.collectors, *acting, options.steps_per_call, ray_address)
    return Loop(agent, replay, collector, options, envs[0])
