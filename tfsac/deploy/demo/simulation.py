"""A MuJoCo environment seen as what a page can simulate: a model's text, a start, and what one control period does."""

import contextlib
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfsac.data.furuta import Furuta
from tfsac.errors import UserError, require

# What a state of the physics is, beside the model: MuJoCo's names in MjData.
STATE = ("qpos", "qvel", "act", "qacc_warmstart")
SHAKEN = 6.0  # rad/s or m/s, a standard deviation; Gymnasium clips at 10


@contextlib.contextmanager
def silenced():
    """Keeps MuJoCo's warnings of unstable states, which shaking may bring, off the terminal and out of a log file."""
    import mujoco

    earlier = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(earlier)


class Source(NamedTuple):
    """What the model is compiled from.

    Attributes:
        xml: MJCF, the text.
        assets: files that it includes, name -> bytes.
    """

    xml: str
    assets: dict


class Simulation:
    """The model and the data inside an environment, and how the environment steps them.

    Args:
        env: a Gymnasium environment on MuJoCo: Gymnasium's own, dm_control's through shimmy, or tfsac's Furuta.

    Attributes:
        frame_skip: how many mj_step a control period has.
        after_steps: the function of MuJoCo that follows these; it brings up to date what the observation reads.
        source: a Source.

    Raises:
        UserError: another kind of environment, or one whose model's text is not to be had.
    """

    def __init__(self, env):
        from gymnasium.envs.mujoco import MujocoEnv

        bare = self._bare = env.unwrapped
        inner = getattr(bare, "_env", None)
        if isinstance(bare, MujocoEnv):
            self._owner = lambda: (bare.model, bare.data)
            self.frame_skip, self.after_steps = int(bare.frame_skip), "mj_rnePostConstraint"
            self.source = Source(Path(bare.fullpath).read_text(), {})
        elif hasattr(inner, "physics") and hasattr(inner, "_n_sub_steps"):
            require(inner.physics.legacy_step, "dm_control steps this task in an order that the page does not know")
            self._owner = lambda: (inner.physics.model.ptr, inner.physics.data.ptr)
            # dm_control's own order: mj_step2, mj_step ..., mj_step1. Over an episode it is this one.
            self.frame_skip, self.after_steps = int(inner._n_sub_steps), "mj_step1"
            self.source = _suite_source(inner.task)
        elif isinstance(bare, Furuta):
            self._owner = lambda: (bare._model, bare._data)
            # What is observed needs nothing after the steps; a picture does.
            self.frame_skip, self.after_steps = bare._substeps, "mj_kinematics"
            self.source = Source(bare.xml.read_text(), {})
        else:
            raise UserError(f"{type(bare).__name__} is neither Pendulum nor an environment on MuJoCo")

    @property
    def dead_zone(self):
        """Least size of an action that does anything, in this episode."""
        return self._bare.dead_zone if isinstance(self._bare, Furuta) else 0.0

    @property
    def model(self):
        return self._owner()[0]

    @property
    def data(self):
        return self._owner()[1]

    def state(self):
        """The physics' state: array by its name in MjData."""
        return {name: np.array(getattr(self.data, name)) for name in STATE}

    def shake(self, rng):
        """Gives the joints velocities that a policy would hardly reach, so that clips in an observation show."""
        import mujoco

        self.data.qvel[:] = rng.normal(0, SHAKEN, self.data.qvel.shape)
        mujoco.mj_forward(self.model, self.data)


class Twin:
    """The same physics, compiled from the model's text as the page does it and stepped by the same calls."""

    def __init__(self, simulation):
        import mujoco

        source = simulation.source
        self.model = mujoco.MjModel.from_xml_string(source.xml, source.assets)
        self.data = mujoco.MjData(self.model)
        self._frame_skip, self._after = simulation.frame_skip, getattr(mujoco, simulation.after_steps)
        self._step, self._reset, self._forward = mujoco.mj_step, mujoco.mj_resetData, mujoco.mj_forward
        self._compiled = {name: np.array(getattr(self.model, name)) for name in _fields(self.model)}

    def changes(self, model):
        """Where an environment's model differs from the compiled one; a reset may place a target, or scale a mass.

        Returns:
            Dict: name of an array of MjModel -> list of [index, value], index into the flat array.

        Raises:
            UserError: it differs in what is not a floating point number, so the text is another model's.
        """
        found = {}
        for name, mine in self._compiled.items():
            theirs = np.asarray(getattr(model, name))
            if theirs.shape != mine.shape or (theirs.dtype.kind != "f" and not np.array_equal(theirs, mine)):
                raise UserError(f"the environment's model is not its file's: {name} differs")
            unlike = np.flatnonzero((theirs != mine).ravel())
            if unlike.size:
                found[name] = [[int(i), float(theirs.flat[i])] for i in unlike]
        return found

    def apply(self, changes, dead_zone):
        """Makes the machine the one of an episode, from what `changes` gave and its `Simulation.dead_zone`."""
        self._dead_zone = dead_zone
        for name, array in self._compiled.items():
            if array.dtype.kind == "f":
                getattr(self.model, name)[...] = array
        for name, entries in changes.items():
            for index, value in entries:
                getattr(self.model, name).flat[index] = value

    def start(self, state):
        """Resets to a start. What the solver begins from is set last: mj_forward writes it."""
        self._reset(self.model, self.data)
        for name in ("qpos", "qvel", "act"):
            getattr(self.data, name)[:] = state[name]
        self._forward(self.model, self.data)
        self.data.qacc_warmstart[:] = state["qacc_warmstart"]

    def step(self, state, action):
        """One control period from a state of `Simulation.state`."""
        for name in STATE:
            getattr(self.data, name)[:] = state[name]
        action = np.asarray(action, np.float64)
        self.data.ctrl[:] = np.where(np.abs(action) >= self._dead_zone, action, 0.0)
        self._step(self.model, self.data, nstep=self._frame_skip)
        self._after(self.model, self.data)


def _fields(model):
    """Names of the model's arrays."""
    names = [name for name in dir(model) if not name.startswith("_") and name not in ("signature", "buffer")]
    return [name for name in names if isinstance(getattr(model, name, None), np.ndarray)]


def _suite_source(task):
    """The text of a task of dm_control's suite."""
    module = sys.modules[type(task).__module__]
    try:
        xml, assets = module.get_model_and_assets()
    except (AttributeError, TypeError) as error:  # other than the suite's tasks, or one that is built from numbers
        raise UserError(f"the text of {type(task).__name__}'s model is not to be had: {error}") from error
    assets = {name.removeprefix("./"): content for name, content in assets.items()}
    return Source(xml.decode() if isinstance(xml, bytes) else xml, assets)
