"""Agents in Python, in a notebook or a program of your own.

env = gymnasium.make("Pendulum-v1")
agent = tfsac.SAC(env, seed=0)
agent.fit(10_000, evaluate_every=1_000)
action = agent.predict(observation)
agent.save("pendulum")
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from tqdm import tqdm

import tfsac
from tfsac.algorithms import registry
from tfsac.data.envs import EnvSettings, flatten_dict, require_same_spaces, require_time_limit, time_limit, to_bounds
from tfsac.data.rollout import rollout
from tfsac.errors import require
from tfsac.policy import Policy
from tfsac.run import checkpoint, config, directory
from tfsac.run import settings as run_settings
from tfsac.run.interrupts import Interrupts
from tfsac.run.log import LogState
from tfsac.run.loop import METRICS_EVERY, TrainSettings, make_loop
from tfsac.setting_types import Count, checked, parameters
from tfsac.trust import check_trusted

Env = gym.Env | str | Callable[[], gym.Env]


class History(NamedTuple):
    """The record of training so far: tables as lists of rows.

    Attributes:
        episodes: step, return and length of each finished training episode.
        metrics: step and the means of the metrics over a block of gradient steps, every 250 environment steps.
        evaluations: step and returns of the deterministic policy, a list.
    """

    episodes: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]

    def __repr__(self) -> str:  # a notebook shows it after each fit: thousands of rows are no use there
        return f"History({', '.join(f'{len(rows)} {name}' for name, rows in self._asdict().items())})"


class Learner:
    """An agent and the environment that it learns in.

    Args:
        env: a gymnasium.Env, the id of one, or a function that makes one. An object also serves for evaluations,
            between training episodes; for them an id or a function makes a second environment. max_episode_steps and
            wrappers of `settings` are put around each.
        seed: of weights, noise, replay, exploration and episodes.
        algorithm: a name, as `train.algorithm` in gin files.
        settings: of the algorithm, of `train` and of `env`, by keyword, as in gin files: discount=0.98,
            batch_size=128, action_delay=1.

    Attributes:
        history: a `History`.

    Raises:
        UserError: an environment that the agents cannot act in, an unknown setting, or one that cannot work.
    """

    algorithm = TrainSettings().algorithm

    def __init__(self, env: Env, seed: int = 0, *, algorithm: str | None = None, **settings: Any):
        name = algorithm or self.algorithm
        scope = registry.find(name).scope
        bindings = {"train.algorithm": name, "train.seed": seed, "env.id": env if isinstance(env, str) else None}
        for parameter, value in settings.items():
            shared = {"train": TrainSettings, "env": EnvSettings}.items()
            place = next((name for name, kind in shared if parameter in parameters(kind)), scope)
            bindings[f"{place}.{parameter}"] = value
        resolved = config.resolve(bindings, run_settings.scopes(registry.find(name)))
        for name in ("kwargs", "training_kwargs"):
            require(
                isinstance(env, str) or not resolved["env"][name],
                f"{name} = {resolved['env'][name]!r}: expected the id of an environment beside them, received an "
                "object or a function: give them where it is made",
            )
        self._begin(env, resolved)
        self._loop.begin_from_other_run()

    def _begin(self, env, settings):
        self._env, self._settings = env, settings
        self._directory, self._kept = None, []  # the run directory, and the step of the last checkpoint there
        options = TrainSettings(**settings["train"])
        require(
            options.num_envs == 1 or not self._is_object,
            f"num_envs = {options.num_envs}: expected a function that makes environments, received one environment",
        )
        require(options.collectors == 0, "collectors: only python -m tfsac.train has them")
        require(not options.env_processes, "env_processes: only python -m tfsac.train has them")
        envs = [self._make(training=True) for _ in range(options.num_envs)]
        if self._has_other_training:
            require_same_spaces(self._make(), envs[0], settings["env"]["id"] or "the environment")
        self._evaluation_env, self._loop = None, make_loop(settings, envs)
        self.history, self._log = History([], [], []), LogState(0.0, {}, 0)

    @property
    def _is_object(self):
        return isinstance(self._env, gym.Env)

    @property
    def _has_other_training(self):
        return EnvSettings(**self._settings["env"]).has_other_training

    def _make(self, unit_actions=True, training=False):
        settings = EnvSettings(**self._settings["env"])
        settings = settings.for_training if training else settings
        if self._env is None or isinstance(self._env, str):
            return settings.make(unit_actions)
        env = self._env if self._is_object or not callable(self._env) else self._env()
        require(
            isinstance(env, gym.Env),
            f"env: expected a gymnasium.Env, the id of one or a function that makes one, received "
            f"{type(env).__name__}; of several at once num_envs=8 makes eight",
        )
        if settings.max_episode_steps:
            has, limit = time_limit(env), settings.max_episode_steps
            require(
                has is None or limit <= has,
                f"max_episode_steps = {limit}: the environment ends its episodes after {has} steps already: make it "
                "with that limit",
            )
            env = gym.wrappers.TimeLimit(env, limit)
        return settings.with_imperfections(settings.wrapped(env), unit_actions)

    @property
    def step(self) -> int:
        """Environment steps taken so far."""
        return self._loop.step

    @property
    def policy(self) -> Policy:
        """What is deployed, as it is now: observations in the environment's units, actions in [-1, 1]^A."""
        return self._loop.policy

    def fit(
        self, steps: int, evaluate_every: int | None = None, evaluate_episodes: int = 10, progress: bool = True
    ) -> History:
        """Trains for `steps` more environment steps.

        Args:
            steps: how many.
            evaluate_every: steps between two evaluations; the last one is at the end. None: no evaluations.
            evaluate_episodes: episodes of an evaluation.
            progress: whether to show a bar.

        Returns:
            `history`, which grows from call to call.

        Raises:
            KeyboardInterrupt: after Ctrl-C, at the end of the current block of steps; `fit` can then go on.
            NonFiniteError, RunError: see `envs.wrap`.
        """
        steps, evaluate_episodes = _count("steps", steps), _count("evaluate_episodes", evaluate_episodes)
        if evaluate_every is not None:
            evaluate_every = _count("evaluate_every", evaluate_every)
        total, shown = self.step + steps, {}
        interrupts = Interrupts(words="stopping after this block of steps; interrupt again to stop at once")
        with interrupts, tqdm(total=steps, unit="step", mininterval=0.5, disable=not progress) as bar:
            for block in self._loop.blocks(total):
                for step, reward, length in block.episodes:
                    self.history.episodes.append({"step": step, "return": reward, "length": length})
                    shown["return"] = f"{reward:.4g}"
                if block.metrics and block.is_due(METRICS_EVERY):
                    means = {name: float(np.mean(values)) for name, values in block.metrics.items()}
                    self.history.metrics.append({"step": block.step} | means)
                if block.is_due(evaluate_every) and not interrupts:
                    returns = self._evaluate(evaluate_episodes, 0, interrupts.__bool__)
                    if returns:
                        self.history.evaluations.append({"step": block.step, "returns": returns})
                        shown["evaluation"] = f"{np.mean(returns):.4g}"
                bar.set_postfix(shown, refresh=False)
                bar.update(block.step - block.before)
                if interrupts:
                    raise KeyboardInterrupt(f"stopped at step {block.step}; fit goes on from there")
        return self.history

    def predict(self, observation: Any, deterministic: bool = True) -> np.ndarray:
        """The action for an observation.

        Args:
            observation: [O], or [B, O] for a batch, in the environment's units; or a dict where the environment has
                Dict observations.
            deterministic: True for tanh(mu) scaled to the bounds, False for a sample of the policy.

        Returns:
            [A] or [B, A] in the environment's units.

        Raises:
            UserError: an observation of another shape, or a dict that lacks a key.
        """
        policy, size = self.policy, self.policy.sizes[0]
        if isinstance(observation, Mapping):
            observation = flatten_dict(self._loop.collector.envs[0], observation)
        observation = _as_observation(observation, size)
        if deterministic:
            action = policy.deterministic(observation)
        else:
            noise = np.random.default_rng().standard_normal([*observation.shape[:-1], policy.sizes[-1]], np.float32)
            action = policy.sample(observation, noise)
        return to_bounds(action, *self._loop.action_bounds)

    def evaluate(self, episodes: int = 100, seed: int = 0) -> list[float]:
        """Returns of episodes with the deterministic policy, on the start states of the seeds from `seed` on."""
        return self._evaluate(episodes, seed, None)

    def _evaluate(self, episodes, seed, is_over):
        with self._borrowed():
            if self._evaluation_env is None:
                is_same = self._is_object and not self._has_other_training
                env = self._loop.collector.envs[0] if is_same else self._make()
                require_time_limit(env, self._settings["env"]["id"] or "the environment")  # may step it: only once
                self._evaluation_env = env
            results = rollout(self.policy.deterministic, self._evaluation_env, episodes, seed, is_over)
        return results and results[0]

    @contextlib.contextmanager
    def _borrowed(self):
        """A context in which something else uses the environment; however it ends, training goes on behind it."""
        try:
            yield
        finally:
            if self._is_object:
                self._loop.collector.begin_anew()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a run directory, from which `load` and the commands' --logdir go on.

        Raises:
            UserError: it holds another run, something else has gone on with this one there, or it cannot be written.
        """
        place, folder = Path(path).absolute(), Path(path) / "checkpoints"
        cure = "tfsac.load(path) goes on with it; save this agent elsewhere"
        directory.check_free(path, overwrite=place == self._directory, cure=cure)
        with directory.take(path, overwrite=False):
            kept, last = self._kept if place == self._directory else [], checkpoint.steps(folder)[-1:]
            require(
                last == kept,
                f"{path} has changed since this agent was loaded or saved there: expected a last checkpoint of step "
                f"{kept[0] if kept else 'none'}, received {last[0] if last else 'none'}; save this agent elsewhere",
            )
            directory.write_whole(Path(path) / "config.gin", config.write(self._settings))
            log = self._log if place == self._directory else self._log._replace(bytes={})  # the tables stay there
            facts, arrays = self._loop.get_state()
            facts |= {
                "tfsac": tfsac.__version__,
                "settings": self._settings,
                "log": log._asdict(),
                "history": self.history._asdict(),
            }
            self._directory, self._log = place, log  # should the disk be full, `save` can be called again
            try:
                checkpoint.save(folder, self.step, facts, arrays, self._loop.replay)
            finally:
                self._kept = checkpoint.steps(folder)[-1:]

    def export(
        self, out: str | os.PathLike[str], episodes: int = 100, name: str | None = None, stress: bool = True
    ) -> dict[str, Any]:
        """Writes the policy in every format, each measured beside this agent; see `deploy.pipeline.export`."""
        from tfsac.deploy import pipeline  # its formats import TensorFlow's converter

        env = EnvSettings(**self._settings["env"])
        states = self._loop.replay.rows(0, len(self._loop.replay))[:, : self.policy.sizes[0]]
        require(len(states) > 0, "the agent has collected nothing yet: fit it first")
        training = {"steps": self.step, "gin": config.write(self._settings)}
        made = self._make(False)
        with self._borrowed():
            return pipeline.export(self.policy, states, made, env, training, out, episodes, name, stress=stress)


class SAC(Learner):
    """`algorithms.sac.SAC` in an environment; see `Learner`."""

    algorithm = "sac"


class SACv1(Learner):
    """`algorithms.sac_v1.SACv1` in an environment; see `Learner`."""

    algorithm = "sac_v1"


class CrossQ(Learner):
    """`algorithms.crossq.CrossQ` in an environment; see `Learner`."""

    algorithm = "crossq"


def load(path: str | os.PathLike[str], env: Env | None = None, trust: Sequence[str] = ()) -> Learner:
    """The agent of a run directory, written by `Learner.save` or by `tfsac.train`; it can go on learning.

    Args:
        path: the directory.
        env: as for `Learner`, without the run's wrappers and time limit, which are put around it; None makes the one
            that the run names.
        trust: modules of yours that the run names and that may be imported.

    Raises:
        UserError: no sound checkpoint, or a module that is not trusted.
    """
    restored = checkpoint.restore(Path(path) / "checkpoints")
    what = f"the checkpoint of step {restored.step}"
    with checkpoint.reading(what):
        known = env is not None or restored.env.id is not None
        require(known, f"{path} names no environment, it was given as an object: load(path, env=...) needs one again")
        settings = restored.settings
        check_trusted([settings["train"]["algorithm"]], trust, path)
        given = env if isinstance(env, str) else None
        named = restored.env if env is None else restored.env._replace(id=given)
        check_trusted(named.modules(), [*trust, given], path)  # whatever env is, the run names the wrappers
        env = restored.env.id if env is None else env
        settings = run_settings.complete(settings, settings["train"]["algorithm"])
        if isinstance(env, str):
            settings["env"]["id"] = env
        for name in ("collectors", "env_processes"):
            require(
                not settings["train"][name],
                f"{path} was trained with train.{name}, which agents in Python do not have: python -m tfsac.train "
                "--resume goes on with it, tfsac.load_policy gives its policy",
            )
    learner = Learner.__new__(Learner)
    learner._begin(env, settings)  # what the user's own env raises is no fault of the checkpoint
    with checkpoint.reading(what):
        (had, *_, acted), (has, *_, acts) = restored.policy.sizes, learner.policy.sizes
        require(
            (had, acted) == (has, acts),
            f"{path} has {had} observations and {acted} actions, the environment {has} and {acts}: give its own, or "
            "begin anew",
        )
        segments = checkpoint.replay_segments(restored)
        learner._loop.set_state(restored.step, restored.facts, restored.arrays, segments)
        learner.history = History(**restored.facts.get("history", learner.history._asdict()))
    learner._log = LogState.of_run(restored, path)
    learner._directory, learner._kept = Path(path).absolute(), [restored.step]
    return learner


def load_policy(path: str | os.PathLike[str], trust: Sequence[str] = ()) -> Callable[[Any], np.ndarray]:
    """The deterministic policy of a run directory, a .tflite file or a SavedModel directory, as a function.

    A run directory and a .tflite file need no TensorFlow.

    Returns:
        observation [O] or [B, O] -> action [A] or [B, A], both in the environment's units.

    Raises:
        UserError: nothing usable there.
    """
    if not (Path(path) / "checkpoints").is_dir():
        from tfsac.deploy import artefact

        act, _ = artefact.load(path)
        return lambda observation: np.apply_along_axis(act, -1, np.asarray(observation, np.float32))
    restored = checkpoint.restore(Path(path) / "checkpoints")
    with checkpoint.reading(f"the checkpoint of step {restored.step}"):
        policy, bounds = restored.policy, restored.facts.get("action")
        if bounds is None:  # of tfsac 0.1
            check_trusted(restored.env.modules(), trust, path)
            space = restored.env.make(unit_actions=False).action_space
            bounds = {"low": space.low, "high": space.high, "dtype": space.dtype}
        low, high = (np.array(bounds[name], bounds["dtype"]) for name in ("low", "high"))
        require(low.shape == high.shape == policy.sizes[-1:], "expected as many bounds as actions")
        require(low.dtype.kind in "fiu", f"expected numbers as bounds of actions, received {low.dtype}")
    return lambda observation: to_bounds(policy.deterministic(_as_observation(observation, policy.sizes[0])), low, high)


def _count(name, value):
    return checked(name, value.item() if isinstance(value, np.generic) else value, Count)


def _as_observation(observation, size):
    observation = np.asarray(observation, np.float32)
    require(
        observation.ndim in (1, 2) and observation.shape[-1] == size,
        f"observation: expected shape ({size},) or (B, {size}), received {observation.shape}",
    )
    return observation


def export_policy(
    agent: Learner, out: str | os.PathLike[str], episodes: int = 100, name: str | None = None, stress: bool = True
):
    """As `agent.export(out, episodes, name, stress)`."""
    return agent.export(out, episodes, name, stress)
