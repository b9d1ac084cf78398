"""A MuJoCo environment as a page's task: the model, how to observe it, starts, and steps to be held to."""

import base64

import numpy as np

from tfsac.data import furuta
from tfsac.data.envs import wrappers_of
from tfsac.deploy.demo import episodes
from tfsac.deploy.demo.channel import Channel
from tfsac.deploy.demo.explain import explain, observe, snapshot
from tfsac.deploy.demo.packing import pack
from tfsac.deploy.demo.simulation import STATE, Simulation, Twin, silenced
from tfsac.errors import RunError, UserError, require

SEARCHED, VERIFIED = 300, 200  # states that the search sees, and fresh ones that its result is verified on
SINGLE_STEPS, SINGLE_STEP_BYTES = 60, 100_000  # stored for the page; fewer where a state is large
SINGLE_STEPS_WITHIN = 100  # of an episode's first steps
EPISODE = 25  # steps after which the search resets
# Wrappers that leave the reward alone.
TRANSPARENT = (
    "TimeLimit", "OrderEnforcing", "PassiveEnvChecker", "FlattenObservation", "_FlattenDict", "_Checked", "Randomize",
)  # fmt: skip
DRAWN = ("plane", "sphere", "capsule", "ellipsoid", "cylinder", "box")  # shapes that the page can draw


def describe(act, env, names):
    """What the page needs to know.

    Args:
        act: observation [O] -> action [A], the file's policy.
        env: a Gymnasium environment on MuJoCo that takes such actions.
        names: of the observation's entries, for messages.

    Returns:
        A dict that JSON can hold.

    Raises:
        UserError: the page could not be faithful: the observation or the step is more than MuJoCo's and the channel's.
    """
    with silenced():
        return _describe(act, env, names)


def _describe(act, env, names):
    channel = Channel(env)
    machine = channel.machine
    simulation = Simulation(env)
    _check_shapes(simulation.model)
    twin = Twin(simulation)
    rng = np.random.default_rng(0)
    terms = _search(machine, simulation, names, rng)
    _verify(machine, simulation, twin, terms, names, rng)
    starts = [_start(env, simulation, twin, channel, seed) for seed in range(episodes.STARTS)]
    plain = channel.is_plain
    shown = (lambda: observe(terms, simulation.data)) if plain else None
    whole, steady = episodes.golden(act, env, simulation.state, shown)
    single = _single_steps(act if plain else None, machine, simulation, terms, rng)
    source = simulation.source
    return {
        "kind": "mujoco",
        "starts": starts,
        "channel": channel.describe(),
        "episodes": episodes.packed(whole, channel, forced=not steady) if steady or not plain else None,
        "single_steps": single,
        "spread": episodes.spread(whole, channel),
        "reward": _reward(machine),
        "labels": {"observation": _labels(terms, simulation.model), "action": _motors(simulation.model)},
        "mujoco": {
            "xml": source.xml,
            "assets": {name: base64.b64encode(content).decode() for name, content in source.assets.items()},
            "frame_skip": simulation.frame_skip,
            "after_steps": simulation.after_steps,
            "observation": [term._asdict() for term in terms],
            "explanation": [str(term) for term in terms],
            "camera": _camera(env, simulation),
        },
    }


def _search(env, simulation, names, rng):
    observations, snapshots = [], []
    for _, _, observation in _experience(env, simulation, SEARCHED, rng):
        observations.append(observation)
        snapshots.append(snapshot(simulation.data))
    return explain(np.array(observations), snapshots, names)


def _verify(env, simulation, twin, terms, names, rng):
    """Holds the terms and the twin's steps to the environment, bit for bit, on states that the search has not seen."""
    for before, action, observation in _experience(env, simulation, VERIFIED, rng):
        if before is None:
            twin.apply(twin.changes(simulation.model), simulation.dead_zone)
            twin.start(simulation.state())
        else:
            twin.step(before, action)
        unlike = np.flatnonzero(observe(terms, simulation.data).astype(np.float32) != observation)
        if unlike.size:
            raise UserError(
                f"nothing in MuJoCo's data explains entry {unlike[0]} of the observation, {names[unlike[0]]}: "
                "what fitted at first fails on fresh states"
            )
        differ = [name for name in STATE if not np.array_equal(simulation.state()[name], getattr(twin.data, name))]
        if differ or not np.array_equal(observe(terms, twin.data), observe(terms, simulation.data)):
            when, what = "start" if before is None else "step", differ[0] if differ else "what it shows"
            raise UserError(f"the environment's {when} is more than MuJoCo's: {what} differs")


def _experience(env, simulation, count, rng):
    """Random actions from many starts; every other start is shaken.

    Yields:
        The state before the step (None after a reset), the action, the observation after it.
    """
    given, episode = 0, 0
    while given < count:
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        yield None, None, observation
        given += 1
        if episode % 2:
            simulation.shake(rng)
        episode += 1
        for _ in range(EPISODE):
            action = rng.uniform(env.action_space.low, env.action_space.high).astype(env.action_space.dtype)
            before = simulation.state()
            try:
                observation, _, terminated, truncated, _ = env.step(action)
            except RunError:  # shaken too much
                break
            yield before, action, observation
            given += 1
            if terminated or truncated:
                break


def _start(env, simulation, twin, channel, seed):
    env.reset(seed=seed)
    state = {name: value.tolist() for name, value in simulation.state().items()}
    changes = twin.changes(simulation.model)
    return state | {"changes": changes, "dead_zone": simulation.dead_zone, "delay": channel.delay()}


def _single_steps(act, env, simulation, terms, rng):
    """States that the policy, if there is one, and random actions come to, each with the state one step later."""
    size = 8 * (2 * sum(x.size for x in simulation.state().values()) + env.observation_space.shape[0])
    each = int(np.clip(SINGLE_STEP_BYTES // size, episodes.STARTS, SINGLE_STEPS)) // episodes.STARTS
    rows = []
    for start in range(episodes.STARTS):
        observation, _ = env.reset(seed=start)
        episode = []
        for _ in range(SINGLE_STEPS_WITHIN):
            random = rng.uniform(env.action_space.low, env.action_space.high).astype(env.action_space.dtype)
            action = act(observation) if act and start % 2 == 0 else random
            before = simulation.state()
            observation, reward, terminated, truncated, _ = env.step(action)
            row = {f"{name}_before": value for name, value in before.items()}
            row |= {f"{name}_after": value for name, value in simulation.state().items()}
            shown = observe(terms, simulation.data)
            episode.append(row | {"start": start, "action": action, "observation": shown, "reward": reward})
            if terminated or truncated:
                break
        rows += [episode[i] for i in np.linspace(0, len(episode) - 1, each).astype(int)]
    return {name: pack(np.array([row[name] for row in rows], np.float64)) for name in rows[0]}


def _reward(env):
    """The reward's formula where the page has it and nothing stands between it and the policy; else None."""
    if any(type(wrapper).__name__ not in TRANSPARENT for wrapper in wrappers_of(env)):
        return None
    bare = env.unwrapped
    name = f"{type(bare).__module__.rpartition('.')[2]}.{type(bare).__name__}"
    if name == "reacher_v5.ReacherEnv":
        bodies = [bare.model.body(body).id for body in ("fingertip", "target")]
        return {
            "kind": "reacher",
            "bodies": bodies,
            "distance_weight": bare._reward_dist_weight,
            "control_weight": bare._reward_control_weight,
        }
    if name == "half_cheetah_v5.HalfCheetahEnv":
        return {
            "kind": "half_cheetah",
            "forward_weight": bare._forward_reward_weight,
            "control_weight": bare._ctrl_cost_weight,
        }
    if name == "furuta.Furuta":
        return {"kind": "furuta", "stop": float(furuta.STOP), "volts": furuta.VOLTS}
    return None


def _labels(terms, model):
    """What the terms read, in the model's own words: for tasks whose observations nobody has named."""
    joints = {}
    for i in range(model.njnt):
        joint = model.joint(i)
        name = joint.name or f"joint {i}"
        dofs = {"qpos": (joint.qposadr[0], joint.qpos0.size), "qvel": (joint.dofadr[0], joint.damping.size)}
        for array, (first, count) in dofs.items():
            velocity = " velocity" if array == "qvel" else ""
            for k in range(count):
                joints[array, first + k] = f"{name}{velocity}" + (f" {k}" if count > 1 else "")
    labels = []
    for term in terms:
        for at in range(term.at, term.at + term.count):
            label = joints.get((term.array, at), f"{term.array} {at}")
            labels.append(label if term.function == "identity" else f"{term.function}({label})")
    return labels


def _motors(model):
    return [model.actuator(i).name or f"motor {i}" for i in range(model.nu)]


def _check_shapes(model):
    import mujoco

    shapes = {mujoco.mjtGeom(kind).name.removeprefix("mjGEOM_").lower() for kind in model.geom_type.tolist()}
    unknown = sorted(shapes - set(DRAWN))
    require(not unknown, f"the page cannot draw a {unknown[0] if unknown else ''}")


def _camera(env, simulation):
    """Where the page looks from: MuJoCo's words and degrees."""
    import mujoco

    model = simulation.model
    hinges = model.jnt_axis[model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE]
    free = np.isin(model.jnt_type, [mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_BALL]).any()
    deep = not free and (np.abs(hinges @ hinges[:1].T) < 0.99).any()  # no plane has all of its motion
    flat = not free and np.all(np.abs(hinges[:, 2]) > 0.99) and len(hinges) > 0
    slides = (model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE) & (model.jnt_limited == 0)
    travels = (slides | (model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)) & (model.body_parentid[model.jnt_bodyid] == 0)
    lowest, highest = _box(env, simulation)
    # Twice the tangent of half the view's angle is 0.83: the box's ball fills the picture's height at 2.6 of its radii.
    distance = 2.6 * float(np.linalg.norm(highest - lowest)) / 2
    return {
        "lookat": ((lowest + highest) / 2).tolist(),
        "distance": (1.5 if travels.any() else 1.0) * distance,
        "azimuth": 130.0 if free else 150.0 if deep else 90.0,
        "elevation": -70.0 if flat else -15.0,
        "follow": int(model.jnt_bodyid[travels][0]) if travels.any() else -1,
    }


def _box(env, simulation):
    """The corners of a box around all that is drawn, floors apart, at the starts."""
    import mujoco

    lowest, highest = np.full(3, np.inf), np.full(3, -np.inf)
    model = simulation.model
    drawn = (model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE) & (model.geom_group <= 2)
    for seed in range(episodes.STARTS):
        env.reset(seed=seed)
        centres, halves = np.split(model.geom_aabb[drawn], 2, axis=1)  # of boxes along each shape's own axes
        turns = simulation.data.geom_xmat[drawn].reshape(-1, 3, 3)
        places = simulation.data.geom_xpos[drawn] + np.einsum("nij,nj->ni", turns, centres)
        sizes = np.einsum("nij,nj->ni", np.abs(turns), halves)
        lowest = np.minimum(lowest, (places - sizes).min(axis=0))
        highest = np.maximum(highest, (places + sizes).max(axis=0))
    return lowest, highest
