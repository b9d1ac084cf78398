"""The export: the policy in every format, each compared with the policy that was trained."""

import hashlib
import json
import shutil
import subprocess
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tfsac
from tfsac.data.envs import to_bounds
from tfsac.data.rollout import ShowsEpisodes
from tfsac.deploy import device_kit, ladder, report
from tfsac.deploy.directory import replaced_whole
from tfsac.deploy.facts import describe
from tfsac.deploy.formats.c_header import CHeader, names
from tfsac.deploy.formats.format import Deployable, NotChecked, guard_limit, round_inward
from tfsac.deploy.formats.saved_model import SavedModel
from tfsac.deploy.formats.tflite import TFLite
from tfsac.deploy.show import show
from tfsac.deploy.stress.short import ShortStress
from tfsac.errors import UserError, require
from tfsac.policy import Policy

FORMATS = (
    SavedModel(),
    TFLite("float32"),
    TFLite("float16"),
    TFLite("dynamic"),
    TFLite("int8"),
    TFLite("sample"),
    CHeader(),
)
STATES = 10_000  # observations that actions are compared on


def export(policy, states, env, settings, training, out, episodes=100, name=None, page=False, video=False, stress=True):
    """Writes the directory `out` whole or not at all.

    Args:
        policy: a `tfsac.policy.Policy`.
        states: observations from replay, float32 [N, O].
        env: the environment, which takes actions in its own units.
        settings: its `EnvSettings`, for the files' facts; None if it was passed as an object.
        training: of the run, for the files' facts: steps (taken), gin (its settings, text).
        out: the directory to make; an earlier export there is replaced, anything else refused.
        episodes: how many to measure returns with, at least 2.
        name: prefix of the symbols in policy.h; None stands for tfsac_policy.
        page, video: whether to write demo.html and a clip beside the files, if the task and the machine allow it; else
            "left_out" in the report says why not.
        stress: whether to run the short stress test of the policy and of each file; every file then holds what the
            policy tolerates. If the environment does not allow the test, "left_out" says so.

    Returns:
        The report, a dict. Its "passed" is True if every file passed its checks, False if one failed, and None if none
        failed and one could not be checked here.

    Raises:
        UserError: a policy that the formats cannot hold, or a directory that cannot be written or holds something else.
    """
    require(type(policy) is Policy, f"expected a tfsac.policy.Policy, received {type(policy).__name__}")
    require(episodes > 1, f"episodes: expected at least 2, received {episodes}")
    names(name)
    total = (ladder.ROLLOUTS + len(FORMATS)) * episodes
    with replaced_whole(out) as folder, tqdm(total=total, unit="episode", desc="returns", disable=None) as bar:
        deployable = prepare(policy, states, env, settings, training, name)
        reference = ladder.make_reference(deployable, ShowsEpisodes(env, bar), episodes)
        left_out, stress_results = [], None
        with _stressed(deployable, settings, episodes) if stress else nullcontext() as stressed:
            artefacts = {
                form.file: _make(form, folder / form.file, deployable, reference, stressed) for form in FORMATS
            }
            if stressed:
                left_out, stress_results = stressed.left_out, stressed.results
        verdicts = {entry["verdict"] for entry in artefacts.values()}
        result = {
            "passed": False if "FAILED" in verdicts else None if "not checked" in verdicts else True,
            "facts": deployable.facts,
            "parameters": policy.parameters,
            "multiply_adds": policy.multiply_adds,
            "policy_return": {"mean": float(np.mean(reference.deterministic.returns)), "episodes": episodes},
            "return_worth": reference.worth,
            "repeats_starts": reference.repeats_starts,
            "states": len(deployable.states),
            "guard_limit": deployable.limit,
            "stress": stress_results,
            "artefacts": artefacts,
        }
        result["left_out"] = left_out + show(folder / "policy.tflite", env, settings, folder, page, video)
        device_kit.copy_to(folder, name)
        report.write(folder, result, FORMATS)
    return result


def prepare(policy, states, env, settings, training, name=None):
    """The policy with all that goes to a device: see `Deployable`; arguments as in `export`."""
    states = np.asarray(states, np.float32)
    limit = guard_limit(policy, states)
    facts = describe(env, settings)
    facts["observation"] |= {"low": states.min(axis=0).tolist(), "high": states.max(axis=0).tolist(), "limit": limit}
    facts = {"tfsac": tfsac.__version__, "git_revision": _git_revision(), **facts, "training": training}
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"expected settings of the environment that JSON can hold: {error}") from error
    states = states[np.linspace(0, len(states) - 1, min(STATES, len(states))).astype(int)]
    low, high = env.action_space.low, env.action_space.high
    actions = to_bounds(policy.deterministic(states), low, high)
    low64, high64 = low.astype(np.float64), high.astype(np.float64)
    exact = to_bounds(policy.astype(np.float64).deterministic(states.astype(np.float64)), low64, high64)
    low, high = round_inward(low, high)
    single = to_bounds(policy.deterministic(states), low, high)
    span = np.where(high > low, high.astype(np.float64) - low, np.inf)
    rounding = float(np.max(np.abs(single - exact) / span))
    return Deployable(policy, low, high, limit, states, actions, rounding, facts, name)


def _git_revision():
    """The revision of a checkout of tfsac; 'unknown' if tfsac was installed, even inside another repository."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or not shutil.which("git"):
        return "unknown"
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"  # of another user's checkout git says nothing


@contextmanager
def _stressed(deployable, settings, episodes):
    """The short stress test of the policy; what it tolerates goes into the facts, before any file is written."""
    files = sum(not form.samples for form in FORMATS)
    with closing(ShortStress(deployable.policy, settings, episodes, files)) as stressed:
        if stressed.tolerates:
            deployable.facts["tolerates"] = stressed.tolerates
        yield stressed


def _make(form, path, deployable, reference, stressed):
    """Writes one file and measures it, under stress too if stressed is given; -> its entry in the report."""
    form.write(path, deployable)
    entry = {"verdict": "not checked", "checks": {}}
    try:
        act = form.load(path)
    except NotChecked as reason:
        entry["not_checked"] = str(reason)
    else:
        measured = ladder.measure(act, reference, form.samples)
        checks, extra = form.finish(path, act, deployable, measured)
        checks = ladder.check(form, measured, reference) | checks
        entry = {"verdict": "passed" if all(checks.values()) else "FAILED", "checks": checks, **measured, **extra}
        if stressed and measured["return"] and not form.samples:
            entry["stress"] = stressed.compare(act)
    if path.is_file():
        entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"bytes": sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()), **entry}
