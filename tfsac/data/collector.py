"""Steps the training environments and makes transitions of their steps."""

from operator import index

import numpy as np

from tfsac.data.envs import episode_seed
from tfsac.data.replay import Transition
from tfsac.errors import require


class BehaviourPolicy:
    """Acts uniformly in [-1, 1]^A for start_steps, then with a sample of the policy.

    Args:
        policy: a `tfsac.policy.Policy`; training replaces it by newer ones.
        action_dim: size A.
        start_steps: of the run.
        rng: np.random.Generator.
    """

    def __init__(self, policy, action_dim, start_steps, rng):
        self.policy, self.action_dim, self.start_steps, self.rng = policy, action_dim, start_steps, rng

    def __call__(self, observation, step):
        """Observation [O], step of the run -> action [A] in [-1, 1]."""
        if step < self.start_steps:
            return self.rng.uniform(-1.0, 1.0, self.action_dim)
        return self.policy.sample(observation, self.rng.standard_normal(self.action_dim, np.float32))

    def batch(self, observations, step):
        """Observations [B, O] of the steps from `step` on -> actions [B, A], with the noise of B single calls."""
        uniform = min(max(self.start_steps - step, 0), len(observations))
        first = self.rng.uniform(-1.0, 1.0, [uniform, self.action_dim])
        noise = self.rng.standard_normal([len(observations) - uniform, self.action_dim], np.float32)
        return np.concatenate([first, self.policy.sample(observations[uniform:], noise)])


class Collector:
    """Several environments side by side, stepped in turn; it resets them itself.

    Gymnasium's vector environments would reset by themselves and give, by default, a transition from the end of an
    episode to the start of the next. Here the last transition of an episode keeps its own s', and the next episode
    begins at once.

    Every episode is reset with its own seed, and its actions are kept until it ends: with both, a resumed run can
    repeat the episode up to the same step.

    Args:
        envs: list of environments from `make_env`.
        seed: of the run.
    """

    def __init__(self, envs, seed):
        self.envs, self.seed = envs, seed
        self.steps = 0  # of all environments together
        self._episodes = [_Episode(env, seed, i) for i, env in enumerate(envs)]

    def collect(self, steps, act):
        """Takes that many environment steps.

        Args:
            steps: how many, of all environments together.
            act: (observation [O], step) -> action [A] in [-1, 1]; step counts from 0 over the whole run.

        Returns:
            The transitions, a `Transition` with leading axis [steps], and a list of (step, return, length), one for
            each finished episode.

        Raises:
            NonFiniteError, RunError: see `make_env`.
        """
        transitions, ended = [], []
        for _ in range(steps):
            i = self.steps % len(self.envs)
            episode = self._episodes[i]
            action = np.asarray(act(episode.observation, self.steps), np.float32)
            transition, over = episode.step(action)
            transitions.append(transition)
            self.steps += 1
            if over:
                ended.append((self.steps, episode.total_reward, len(episode.actions)))
                self._episodes[i] = _Episode(self.envs[i], self.seed, i, episode.number + 1)
        return Transition(*(np.asarray(x, np.float32) for x in zip(*transitions, strict=True))), ended

    def begin(self, steps, act):
        """Begins the next block in collectors that step while the learner updates; this one does nothing."""

    def metrics(self):
        """Columns of metrics.csv that a collector adds: none here, since the newest policy acts."""
        return {}

    def close(self):
        """Closes the environments."""
        for env in self.envs:
            env.close()

    def begin_anew(self):
        """Begins new episodes, since something else has used the environments."""
        for i, episode in enumerate(self._episodes):
            self._episodes[i] = _Episode(self.envs[i], self.seed, i, episode.number + 1)

    def get_state(self):
        """The unfinished episodes: numbers that JSON can hold, and arrays by name."""
        arrays = {}
        for i, episode in enumerate(self._episodes):
            arrays[f"environment_{i}/observation"] = np.asarray(episode.observation)
            arrays[f"environment_{i}/actions"] = np.asarray(episode.actions, np.float32)
        return {"steps": self.steps, "episodes": [episode.number for episode in self._episodes]}, arrays

    def set_state(self, numbers, arrays):
        """Goes back to what `get_state` saw, by taking the recorded actions again.

        Raises:
            UserError: the state is of other environments.

        Returns:
            The numbers of the environments whose repeated observation differs from the recorded one: they are not
            deterministic, and begin a new episode.
        """
        self.steps, strayed = index(numbers["steps"]), []
        require(len(numbers["episodes"]) == len(self.envs), "it has another number of environments")
        for i, number in enumerate(map(index, numbers["episodes"])):
            actions, space = arrays[f"environment_{i}/actions"], self.envs[i].action_space
            fits = actions.dtype == space.dtype and all(map(space.contains, actions))
            require(fits, f"environment_{i}/actions holds actions that this environment does not take")
            episode = _Episode(self.envs[i], self.seed, i, number)
            over = any(episode.step(action)[1] for action in actions)
            if over or not np.array_equal(episode.observation, arrays[f"environment_{i}/observation"]):
                strayed.append(i)
                episode = _Episode(self.envs[i], self.seed, i, number + 1)
            self._episodes[i] = episode
        return strayed


class _Episode:
    """One episode of one environment from its reset on."""

    def __init__(self, env, seed, environment, number=0):
        self.env, self.number = env, number
        self.observation, _ = env.reset(seed=episode_seed(seed, environment, number))
        self.actions, self.total_reward = [], 0.0

    def step(self, action):
        """-> the step as a `Transition`, whether the episode is over."""
        next_observation, reward, terminated, truncated, _ = self.env.step(action)
        transition = Transition(self.observation, action, reward, next_observation, float(terminated))
        self.observation = next_observation
        self.actions.append(action)
        self.total_reward += reward
        return transition, terminated or truncated
