"""Machines that differ from the simulated one: other masses, dampings and motors, friction, pushes."""

import numpy as np

from tfsac.data.imperfections.seeded import Seeded, require_pair
from tfsac.errors import require

# Fields of mujoco.MjModel that may be scaled while an environment runs; sizes of geoms, for one, may not.
MODEL_FIELDS = (
    "actuator_gainprm",
    "actuator_gear",
    "body_inertia",
    "body_ipos",
    "body_mass",
    "dof_armature",
    "dof_damping",
    "dof_frictionloss",
    "geom_friction",
    "jnt_stiffness",
    "opt.gravity",
)
# What is scaled with a field: a heavier body turns harder; a position servo's gain stands in two places.
ALONG = {"body_mass": ("body_mass", "body_inertia"), "actuator_gainprm": ("actuator_gainprm", "actuator_biasprm")}


def mujoco_parts(env):
    """The mujoco.MjModel and MjData of an environment of Gymnasium's or dm_control's, or None of another."""
    import mujoco  # here and below: not everyone who imports this needs it

    bare = env.unwrapped
    if isinstance(getattr(bare, "model", None), mujoco.MjModel):
        return bare.model, bare.data
    physics = getattr(getattr(bare, "_env", None), "physics", None)  # dm_control's, inside shimmy's
    return (physics.model.ptr, physics.data.ptr) if physics is not None else None


def known_factors(env):
    """The names that `Randomize` takes for this environment."""
    if mujoco_parts(env):
        return MODEL_FIELDS
    return tuple(
        name for name, value in vars(env.unwrapped).items() if type(value) is float and not name.startswith("_")
    )


class Randomize(Seeded):
    """Draws factors of the machine's parameters for each episode: one factor for all of a field.

    Parameters are a MuJoCo model's fields (`MODEL_FIELDS`), or those attributes of another environment that are floats,
    such as Pendulum's m, l and g. The factors multiply the values from when the environment was first wrapped, never
    those of an earlier episode.

    Args:
        factors: by name, a number or (least, largest); between these the factor's logarithm is uniform.

    Attributes:
        factors: the same.

    Raises:
        UserError: an unknown name; the message lists the names of this environment.
    """

    def __init__(self, env, factors):
        super().__init__(env)
        names = known_factors(env)
        for name, factor in factors.items():
            require(
                name in names,
                f"env.randomize: {name!r} cannot vary in {type(env.unwrapped).__name__}; these can: "
                f"{', '.join(names) or 'none'}",
            )
            require_pair(f"env.randomize[{name!r}]", factor)
        self.factors, self._mujoco = factors, mujoco_parts(env)
        # Kept with the environment, which may have been wrapped before: what an episode drew then is not nominal.
        self._nominal = vars(env.unwrapped).setdefault("_nominal_parameters", {})
        for part in (part for name in factors for part in ALONG.get(name, (name,))):
            self._nominal.setdefault(part, np.array(self._read(part)))

    def begin(self):
        """See `Seeded`."""
        scale = dict.fromkeys(self._nominal, 1.0)
        for name, factor in self.factors.items():
            low, high = factor if isinstance(factor, tuple) else (factor, factor)
            drawn = float(np.exp(self.rng.uniform(np.log(low), np.log(high)))) if low < high else low
            for part in ALONG.get(name, (name,)):
                scale[part] *= drawn
        self._write(scale)

    def restore(self):
        """Gives the environment back the parameters that it had."""
        self._write(dict.fromkeys(self._nominal, 1.0))

    def close(self):
        """As of any environment."""
        self.restore()
        self.env.close()

    def _read(self, name):
        place = self.unwrapped if self._mujoco is None else self._mujoco[0]
        for part in name.split("."):
            place = getattr(place, part)
        return place

    def _write(self, scale):
        for name, nominal in self._nominal.items():
            if self._mujoco is None:
                setattr(self.unwrapped, name, float(nominal * scale[name]))
            else:
                self._read(name)[:] = nominal * scale[name]
        if self._mujoco is not None:
            import mujoco

            mujoco.mj_setConst(*self._mujoco)  # what MuJoCo derived from masses and armatures


class FrictionLoss(Seeded):
    """Dry friction in every joint that a motor drives, as a share of the largest torque of that motor; MuJoCo only."""

    def __init__(self, env, share):
        super().__init__(env)
        self._mujoco = mujoco_parts(env)
        require(self._mujoco, "FrictionLoss: expected a MuJoCo environment")
        import mujoco

        model = self._mujoco[0]
        self._nominal = model.dof_frictionloss.copy()
        self._loss = self._nominal.copy()
        for i, joint in enumerate(model.actuator_trnid[:, 0]):
            if model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT:
                force = np.max(np.abs(model.actuator_gainprm[i, 0] * model.actuator_ctrlrange[i]))
                self._loss[model.jnt_dofadr[joint]] += share * force * np.abs(model.actuator_gear[i, 0])

    def begin(self):
        """See `Seeded`."""
        self._mujoco[0].dof_frictionloss[:] = self._loss

    def restore(self):
        """Gives the environment back the friction that it had."""
        self._mujoco[0].dof_frictionloss[:] = self._nominal

    def close(self):
        """As of any environment."""
        self.restore()
        self.env.close()


class Push(Seeded):
    """Kicks a MuJoCo machine whose root moves freely, sideways in a random direction.

    Args:
        speed: m/s that each kick adds.
        every: seconds between two kicks.
    """

    def __init__(self, env, speed, every=2.0):
        super().__init__(env)
        self._mujoco, self._speed = mujoco_parts(env), speed
        self._dofs = root_dofs(env)
        require(self._dofs, "Push: expected a MuJoCo environment with a root that moves freely")
        self._every = max(1, round(every / env.unwrapped.dt))

    def begin(self):
        """See `Seeded`."""
        self._step = 0

    def step(self, action):
        """As of any environment."""
        self._step += 1
        if self._step % self._every == 0:
            direction = self.rng.standard_normal(len(self._dofs))
            velocity = self._speed * direction / np.linalg.norm(direction)
            self._mujoco[1].qvel[self._dofs] += velocity
        return self.env.step(action)


def root_dofs(env):
    """The degrees of freedom of a root that moves freely over the ground: [x, y], [x] in the plane, or []."""
    parts = mujoco_parts(env)
    if parts is None:
        return []
    import mujoco

    model = parts[0]
    if model.njnt and model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE:
        return [int(model.jnt_dofadr[0]), int(model.jnt_dofadr[0]) + 1]
    driven = set(model.actuator_trnid[:, 0])
    sliding = model.njnt > 1 and all(model.jnt_type[:2] == mujoco.mjtJoint.mjJNT_SLIDE) and not {0, 1} & driven
    return [int(model.jnt_dofadr[0])] if sliding else []
