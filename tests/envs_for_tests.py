"""Small environments, well behaved and not: `envs_for_tests:Walk-v0` and so on."""

import os
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Sequence, Tuple


class Walk(gym.Env):
    """Observation (tag of the episode, steps taken in it, last action): a transition says which episode it is of.

    Args:
        length: steps of an episode.
        ends: 'terminated', 'truncated' or both: what an episode's last step says.
        odd: what goes wrong, once the environment has taken odd_step steps in all: see `step`.
    """

    action_space = Box(-1.0, 3.0, [1], np.float32)
    observation_space = Box(-np.inf, np.inf, [3], np.float32)

    def __init__(self, length=7, ends=("terminated",), odd=None, odd_step=20):
        self.length, self.ends, self.odd, self.odd_step = length, ends, odd, odd_step
        self.all_steps = 0
        self.state = np.zeros(3, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        # Unseeded: an environment that is not deterministic.
        tag = np.random.default_rng().random() if self.odd == "chance" else self.np_random.random()
        self.state = np.array([np.nan if self.odd == "NaN start" else tag, 0, 0], np.float32)
        return self.state.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.all_steps += 1
        odd = self.odd if self.all_steps >= self.odd_step else None
        if odd == "kills its process":
            os.kill(os.getpid(), signal.SIGKILL)
        if odd == "raises":
            raise KeyError("the robot\nfell over")
        self.state[1:] = self.state[1] + 1, action[0]
        observation = self.state if self.odd == "reuses its array" else self.state.copy()
        if odd == "NaN observation":
            observation[2] = np.nan
        if odd == "shape":
            observation = np.append(observation, 0).astype(np.float32)
        reward = {"NaN reward": np.nan, "infinite reward": np.inf, "huge reward": 1e300, "large reward": 1e30}.get(
            odd, -(float(action[0]) ** 2)
        )
        over = bool(self.state[1] == self.length)
        return observation, reward, over and "terminated" in self.ends, over and "truncated" in self.ends, {}


class Spaces(gym.Env):
    """Has the spaces it is told, shows random points of the one and remembers the last action in the other.

    An episode is 5 steps long.
    """

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.action = action
        self.steps += 1
        return self.observation_space.sample(), 0.0, False, self.steps == 5, {}


class Gate(gym.Wrapper):
    """Stops in its step number `at`, says so in a file, and goes on once there is another file.

    So that a test can do what it likes to a run that is in the middle of something, on any machine.

    Args:
        path: of the file that opens the gate; `reached` names the one that says that the gate was reached.
        at: counted from 1 over all its episodes.
        where: 'training' or 'evaluation': in which environments.
    """

    def __init__(self, env, path, at, where="training"):
        super().__init__(env)
        self.path, self.at, self.where, self.steps = path, at, where, 0

    def reset(self, *, seed=None, options=None):
        self.here = "evaluation" if seed is not None and seed < 1000 else "training"  # see `envs.episode_seed`
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.steps += 1
        if (self.steps, self.here) == (self.at, self.where):
            reached(self.path).touch()
            while not os.path.exists(self.path):
                time.sleep(0.005)
        return super().step(action)


class HoldsUntilInterrupted(Gate):
    """A gate that opens to SIGINT, too: for processes whose output a test cannot see, such as Ray's."""

    def step(self, action):
        if (self.steps + 1, self.here) == (self.at, self.where):
            handle = signal.getsignal(signal.SIGINT)

            def open_and_handle(*arguments):
                Path(self.path).touch()
                handle(*arguments)

            signal.signal(signal.SIGINT, open_and_handle)
        return super().step(action)


def reached(path):
    return Path(f"{path}.reached")


def gate(path, at, where="training"):
    """As an entry of env.wrappers."""
    return "envs_for_tests:Gate", {"path": str(path), "at": at, "where": where}


class Sledge(gym.Wrapper):
    """Moves a MuJoCo model by 0.5 m in each step, along its first joint."""

    def step(self, action):
        data = self.unwrapped.data
        self.unwrapped.set_state(data.qpos + 0.5 * (np.arange(len(data.qpos)) == 0), 0 * data.qvel)
        return super().step(action)


class RaisesAsItCloses(gym.Wrapper):
    """As simulators do."""

    def close(self):
        super().close()
        raise OSError("the device is gone\nand so am I")


class OnlyOne(gym.Wrapper):
    """Of which no second may exist in a process: hardware, or a licence."""

    exists = False

    def __init__(self, env):
        if OnlyOne.exists:
            raise OSError("the licence is taken")
        OnlyOne.exists = True
        super().__init__(env)

    def close(self):
        OnlyOne.exists = False
        super().close()


class HoldsAFile(gym.Wrapper):
    """Of which one may exist in all processes: it makes a file, which must not be there, and removes it."""

    def __init__(self, env, path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        super().__init__(env)
        self.path = path

    def close(self):
        os.unlink(self.path)
        super().close()


class AddToReward(gym.RewardWrapper):
    """r + amount."""

    def __init__(self, env, amount=1.0):
        super().__init__(env)
        self.amount = amount

    def reward(self, reward):
        return reward + self.amount


class TimesReward(gym.RewardWrapper):
    """r times factor."""

    def __init__(self, env, factor):
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return reward * self.factor


class Prints(PendulumEnv):
    """Prints in each reset, as Python does and as C code does, which knows nothing of sys.stdout."""

    def reset(self, **kwargs):
        print("from Python")
        os.write(1, b"from C\n")
        return super().reset(**kwargs)


class NeedsAFile(gym.Env):
    """Cannot be made."""

    def __init__(self):
        open("no such model.xml").close()


WALKS = {
    "Walk": {},
    "Long": {"length": 1000, "ends": ("truncated",)},
    "Truncated": {"ends": ("truncated",)},
    "BothEnds": {"ends": ("terminated", "truncated")},
    "Falls": {},
    "Endless": {"ends": ()},
    "OneStep": {"length": 1},
    "Reuses": {"odd": "reuses its array"},
    "Chance": {"odd": "chance"},
    "NanObservation": {"odd": "NaN observation"},
    "NanReward": {"odd": "NaN reward"},
    "InfiniteReward": {"odd": "infinite reward"},
    "HugeReward": {"odd": "huge reward"},
    "LargeReward": {"odd": "large reward"},
    "NanStart": {"odd": "NaN start"},
    "Raises": {"odd": "raises"},
    "Shape": {"odd": "shape"},
    "Kills": {"odd": "kills its process", "odd_step": 200},
    "KillsAtOnce": {"odd": "kills its process", "odd_step": 1},
}

FLAT, BOUNDED = Box(-np.inf, np.inf, [3], np.float32), Box(-1.0, 1.0, [2], np.float32)
SPACES = {
    "DiscreteAction": (FLAT, Discrete(4)),
    "MultiDiscreteAction": (FLAT, MultiDiscrete([2, 3])),
    "IntegerAction": (FLAT, Box(-3, 3, [2], np.int32)),
    "MatrixAction": (FLAT, Box(-1.0, 1.0, [2, 2], np.float32)),
    "NoAction": (FLAT, Box(-1.0, 1.0, [0], np.float32)),
    "UnboundedAction": (FLAT, Box(-np.inf, np.arange(40.0), [40], np.float64)),  # whose repr takes several lines
    "ImageObservation": (Box(0, 255, [8, 8, 3], np.uint8), BOUNDED),
    "DiscreteObservation": (Discrete(4), BOUNDED),
    "NoObservation": (Box(-1.0, 1.0, [0], np.float32), BOUNDED),
    "DictWithImage": (Dict({"position": FLAT, "camera": Box(0, 255, [8, 8, 3], np.uint8)}), BOUNDED),
    "DictWithBitmap": (Dict({"position": FLAT, "camera": Box(0, 255, [8, 8], np.uint8)}), BOUNDED),
    "DictWithColours": (Dict({"position": FLAT, "camera": Box(0, 1, [8, 8, 3], np.float32)}), BOUNDED),
    "DictWithMatrix": (Dict({"arm": Box(-9, 9, [1, 3, 2], np.float64), "a": Box(0, 9, [1, 2], np.uint8)}), BOUNDED),
    "DictWithDiscrete": (Dict({"position": FLAT, "gear": Discrete(5)}), BOUNDED),
    "Tuple": (Tuple([FLAT, Box(-9, 9, [2, 2], np.float64)]), BOUNDED),
    "NoObservationSpace": (None, BOUNDED),
    "ListAsSpace": ([-1.0, 1.0], BOUNDED),
    "NoActionSpace": (FLAT, None),
    "DictWithSequence": (Dict({"position": FLAT, "waypoints": Sequence(FLAT, stack=True)}), BOUNDED),
    "Dict": (Dict({"velocity": Box(-9, 9, [2], np.float64), "height": Box(0, 1, [], np.float64)}), BOUNDED),
    "IntegerObservation": (Box(-5, 200, [4], np.int16), BOUNDED),
    "Float64": (Box(-1.0, 1.0, [3], np.float64), Box(np.array([-1.0, 0.0]), np.array([1e-9, 1e9]), dtype=np.float64)),
}

# Without Gymnasium's passive checker: it warns of what is wrong here on purpose.
for name, kwargs in WALKS.items():
    # Never reached; but agents must know of one.
    limit = None if "truncated" in kwargs.get("ends", ()) or name in ("Falls", "Endless") else 1000
    gym.register(f"{name}-v0", Walk, kwargs=kwargs, max_episode_steps=limit, disable_env_checker=True)
for name, (observation_space, action_space) in SPACES.items():
    kwargs = {"observation_space": observation_space, "action_space": action_space}
    gym.register(f"{name}-v0", Spaces, kwargs=kwargs, disable_env_checker=True)
gym.register("Prints-v0", Prints, max_episode_steps=20)
gym.register("NeedsAFile-v0", NeedsAFile, disable_env_checker=True)
