"""How much delay, noise and weakness a policy tolerates: every level of the menu, on the same starts."""

from typing import NamedTuple

import numpy as np

from tfsac.data.envs import require_bounds, require_time_limit
from tfsac.deploy.facts import control_rate
from tfsac.deploy.stress import policies
from tfsac.deploy.stress.measure import action_metrics, difference, moved, worst
from tfsac.deploy.stress.track import Job, Track
from tfsac.deploy.stress.worlds import World, menu
from tfsac.errors import require
from tfsac.run.checkpoint import reading

TOLERATED = 0.9  # the least retention of a level that counts as tolerated
UNCHANGED = 0.01  # half-ranges, and parts of the return's worth: a disturbance that moves less has no effect


class Baseline(NamedTuple):
    """The policy's episodes in the world that it was trained in, and those of random actions.

    Attributes:
        episodes: `measure.Episodes` of the policy.
        aimless: mean return of uniformly random actions there.
    """

    episodes: object
    aimless: float

    @property
    def worth(self):
        """The policy's gain on random actions, the unit of retention."""
        return float(np.mean(self.episodes.returns)) - self.aimless


def stress(path, other=None, episodes=100, seed=0, workers=1, progress=None, is_over=None):
    """Measures a policy under the whole menu.

    Args:
        path: of the policy, see `policies.load`.
        other: of another one, measured in the same worlds on the same starts; or None.
        episodes: starts in each world.
        seed: of the first start.
        workers: processes that share the levels.
        progress: called with (levels done, levels in all, what comes next).
        is_over: called again and again; if it returns True, the test stops.

    Returns:
        The results, as JSON can hold them; see `report.write`. If the test was stopped, they hold what was measured
        until then, and "interrupted" is true.

    Raises:
        UserError: no such policy; the environment cannot be made, has other bounds of actions or no time limit; the
            other policy takes observations of another shape.
    """
    subject = policies.load(path)
    env = subject.env.make(unit_actions=False)
    require_time_limit(env, subject.env.id)
    with reading("what is kept of the policy"):
        require_bounds(subject.bounds, env.action_space.low, env.action_space.high)
    if other:
        beside = policies.load(other).env.make(unit_actions=False)
        beside.close()
        require(
            beside.observation_space.shape == env.observation_space.shape,
            f"{other} takes observations of shape {beside.observation_space.shape}, {path} of shape "
            f"{env.observation_space.shape}: only policies that see the same can be compared in the same worlds",
        )
    env.close()
    result = {
        "file": str(path),
        "compared_with": str(other) if other else None,
        "environment": subject.env.id,
        "episodes": episodes,
        "seed": seed,
        "interrupted": False,
        "baseline": None,
        "disturbances": [],
    }
    track = Track([path, other] if other else [path], subject.env, range(seed, seed + episodes), workers, is_over)
    try:
        _measure(result, track, subject.env, bool(other), progress or (lambda *_: None))
    except KeyboardInterrupt:
        result["interrupted"] = True
    finally:
        track.close()
    result["tolerates"] = {x["name"]: x["tolerated"] for x in result["disturbances"] if x["tolerated"] is not None}
    return result


def _measure(result, track, env, compared, progress):
    plain = env.make_plain()
    jobs = [Job(0, env, keep=True), Job(None, env), *([Job(1, env)] if compared else [])]
    progress(0, None, "the world that it was trained in")
    kept, aimless, *others = track.run(jobs)
    world, baseline = look(env, plain, kept, aimless)
    disturbances = menu(world)
    result |= {
        "control_rate_hz": world.rate,
        "observations": {"deviation": world.deviation.tolist(), "half_range": world.half_range.tolist()},
        "random_return": baseline.aimless,
        "baseline": in_numbers(baseline.episodes, baseline),
    }
    if compared:
        result["baseline"]["other"] = _other_row(others[0], baseline.episodes, baseline)

    plan = [[_jobs(disturbance, level, env, compared) for level in disturbance.levels] for disturbance in disturbances]
    done, total = 0, sum(map(len, plan))
    measured = track.run([job for levels in plan for jobs in levels for job in jobs.values()])
    for disturbance, levels in zip(disturbances, plan, strict=True):
        outcome = {"name": disturbance.name, "title": disturbance.title, "neutral": disturbance.neutral, "levels": []}
        outcome |= {"no_effect": False, "tolerated": None}
        result["disturbances"].append(outcome)
        changes = []
        for level, jobs in zip(disturbance.levels, levels, strict=True):
            progress(done, total, f"{disturbance.title}, {level.label}")
            found = dict(zip(jobs, measured, strict=False))  # as many results as jobs; the others are of later levels
            row = {"level": level.value, "label": level.label, **in_numbers(found["policy"], baseline)}
            if "other" in found:
                row["other"] = _other_row(found["other"], found["policy"], baseline)
            if "reference" in found:
                row["reference"] = float(np.mean(found["reference"].returns))
            outcome["levels"].append(row)
            changes.append(moved(found["policy"].actions, baseline.episodes.actions))
            done += 1
        outcome["no_effect"] = disturbance.of_machine and _no_effect(outcome["levels"], changes, baseline)
        outcome["tolerated"] = None if outcome["no_effect"] else tolerated(disturbance, outcome["levels"])
    progress(done, total, "done")


def _jobs(disturbance, level, env, compared):
    """What is run for one level, by what it is for."""
    jobs = {"policy": Job(0, level.env, level.wrappers)}
    if compared:
        jobs["other"] = Job(1, level.env, level.wrappers)
    if disturbance.name == "action_delay" and env.action_delay == 0:
        jobs["reference"] = Job(0, env, idle=level.value)
    return jobs


def look(env, plain, kept, aimless):
    """What the episodes in the training world say about world and policy.

    Args:
        env: that world, an `EnvSettings`.
        plain: such an environment, as `EnvSettings.make_plain` gives it.
        kept: `Episodes` of the policy there, with their observations.
        aimless: `Episodes` of uniformly random actions there.

    Returns:
        `World`, from which the menu is made, and `Baseline`.
    """
    size = (kept.observations.shape[2] - env.remembered_actions * kept.actions.shape[2]) // env.observation_history
    seen = kept.observations[:, :, :size].reshape(-1, size)  # the present one comes first
    seen = seen[np.isfinite(seen[:, 0])]
    half_range = 0.5 * (seen.max(axis=0) - seen.min(axis=0))
    world = World(env, plain, seen.std(axis=0), half_range, control_rate(plain)[0])
    return world, Baseline(kept._replace(observations=None), float(np.mean(aimless.returns)))


def in_numbers(episodes, baseline):
    """The numbers of one level, as JSON can hold them."""
    returns, worth = episodes.returns, baseline.worth
    return {
        "return": float(np.mean(returns)),
        "difference": difference(returns, baseline.episodes.returns),
        "worst": worst(returns),
        "falls": float(np.mean(episodes.fell)),
        "retention": (float(np.mean(returns)) - baseline.aimless) / worth if worth > 0 else None,
        **action_metrics(episodes.actions),
    }


def _other_row(episodes, beside, baseline):
    return in_numbers(episodes, baseline) | {"ahead": difference(episodes.returns, beside.returns)}


def _no_effect(rows, changes, baseline):
    """Whether no level moves the actions or the return: the task does not feel it."""
    still = all(change < UNCHANGED for change in changes)
    ends = [abs(row["difference"][end]) for row in rows for end in ("low", "high")]
    return bool(still and max(ends) < UNCHANGED * abs(baseline.worth))


def tolerated(disturbance, rows):
    """The levels around the neutral one that all keep TOLERATED of the worth, with their labels.

    Returns:
        Dict: least and largest (values), label; or None where not even the mildest level is tolerated.
    """
    good = {row["level"]: row for row in rows if (row["retention"] or 0) >= TOLERATED}
    kept = []
    below = sorted((row["level"] for row in rows if row["level"] < disturbance.neutral), reverse=True)
    above = sorted(row["level"] for row in rows if row["level"] > disturbance.neutral)
    for side in (below, above):  # from the mildest to the harshest
        for value in side:
            if value not in good:
                break
            kept.append(value)
    if not kept:
        return None
    harshest = [good[x]["label"] for x in sorted({min(kept), max(kept)})]
    if not below:
        harshest = harshest[-1:]
    if not above:
        harshest = harshest[:1]
    return {
        "least": min(kept),
        "largest": max(kept),
        "label": " to ".join(harshest),
        "all_levels": len(kept) == len(rows),
    }
