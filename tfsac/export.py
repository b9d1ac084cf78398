"""Exports a trained policy: python -m tfsac.export --logdir=runs/reacher --out=artifacts/reacher

Writes a directory to copy to the device: saved_model/, policy.tflite (float32), policy_float16.tflite,
policy_dynamic.tflite, policy_int8.tflite, policy_sample.tflite, policy.h, the runner in Python and C, and report.md,
which says how good each file is. Exit status 1 if one fails its checks.
"""

import tfsac.quiet_tensorflow  # isort: skip  (before anything imports TensorFlow)

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

import tfsac
from tfsac import artefact, c_header, checkpoint, config, device_kit, ladder, report, saved_model, tflite, tflite_micro
from tfsac.env_facts import describe
from tfsac.envs import check_trusted, make_env
from tfsac.errors import UserError, require, run_command

FILES = {
    "policy.tflite": "float32",
    "policy_float16.tflite": "float16",
    "policy_dynamic.tflite": "dynamic",
    "policy_int8.tflite": "int8",
    "policy_sample.tflite": "sample",
}
STATES, CALIBRATION, GOLDEN = 10_000, 2_000, 16  # observations: measured on, int8 calibrated on, in golden vectors
# Golden vectors hold a file to its own answers here, in parts of the action's span. Quantised kernels of another
# processor may round an activation the other way.
GOLDEN_TOLERANCE = {"float32": 1e-5, "sample": 1e-5, "float16": 1e-5, "dynamic": 2e-2, "int8": 2e-2}


def export(logdir, out, episodes=100, env_id=None):
    """Writes the directory `out` whole or not at all.

    Args:
        logdir: the run directory.
        out: the directory to make; an earlier export there is replaced.
        episodes: how many to measure returns by.
        env_id: as the user says it; needed where the run's own names a module to import.

    Returns:
        The report, a dict; its "passed" tells whether every artefact passed its checks.

    Raises:
        UserError: no checkpoint, a damaged one, or a directory that cannot be written or holds something else.
    """
    restored = checkpoint.restore(Path(logdir) / "checkpoints")
    check_trusted(restored.env_id, env_id, logdir)
    require(restored.replay_files, f"the run in {logdir} has collected nothing yet: expected one that was trained")
    out = Path(out)
    require(
        not out.exists() or (out / "report.json").is_file(),
        f"--out={out} exists and is no export: expected a new directory, or an earlier export to replace",
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write to --out={out}: {error.strerror}; take another place") from error
    try:
        found = _write(partial, restored, episodes)
        partial.chmod(0o755)  # mkdtemp's are private
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _write(folder, restored, episodes):
    weights, states = restored.policy_weights, _states(restored)
    env = make_env(restored.env_id, unit_actions=False)
    facts = _facts(restored, env, states)
    reference = ladder.make_reference(weights, states, env, episodes)
    found = {
        "saved_model": _saved_model(folder / "saved_model", weights, facts, reference),
        **{name: _tflite(folder / name, kind, weights, facts, reference) for name, kind in FILES.items()},
        "policy.h": _header(folder / "policy.h", weights, facts, reference),
    }
    deployed = sum(array.size for name, array in weights.items() if not name.startswith("log_std"))
    result = {
        "passed": all(all(entry["checks"].values()) for entry in found.values()),
        "facts": facts,
        "parameters": deployed,
        "multiply_adds": sum(weights[name].size for name in weights if name.endswith("kernel") and "log" not in name),
        "keras_return": {"mean": float(np.mean(reference.returns)), "episodes": episodes},
        "states": len(states),
        "artefacts": found,
    }
    device_kit.copy_to(folder)
    report.write(folder, result)
    return result


def _saved_model(path, weights, facts, reference):
    policy = saved_model.ExportedPolicy(weights, reference.low, reference.high)
    saved_model.save(policy, path)
    (path / "assets.extra").mkdir()
    (path / artefact.SAVED_MODEL_FACTS).write_text(json.dumps(facts, indent=1))
    act, _ = artefact.load(path)
    entry = ladder.measure(act, reference)
    checks = ladder.check("saved_model", entry, reference)
    observation = tf.constant(reference.states)
    loaded = tf.saved_model.load(str(path)).signatures["deterministic"](observation=observation)["action"]
    before = tf.function(policy.deterministic)(observation)["action"]
    checks["reloads bit for bit"] = bool(np.array_equal(loaded, before))
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {"bytes": size, **entry, "checks": checks}


def _tflite(path, kind, weights, facts, reference):
    calibration = reference.states[:: max(1, len(reference.states) // CALIBRATION)]
    bare = tflite.convert(weights, reference.low, reference.high, kind, calibration)
    path.write_bytes(tflite.embed(bare, facts))
    policy, sample = device_kit.run_policy.Policy(path), kind == "sample"
    entry = ladder.measure(_unguarded(policy), reference, sample)
    checks = ladder.check(kind, entry, reference)

    # The file as it is delivered: what was measured and its golden vectors inside.
    chosen = np.linspace(0, len(reference.states) - 1, GOLDEN).astype(int)
    inputs = {"observation": reference.states[chosen]} | ({"noise": reference.noise[chosen]} if sample else {})
    golden = {name: rows.tolist() for name, rows in inputs.items()}
    golden["action"] = [policy(*x).tolist() for x in zip(*inputs.values(), strict=True)]
    golden["tolerance"] = GOLDEN_TOLERANCE[kind]
    final = tflite.embed(bare, facts | {"kind": kind, "return": entry["return"], "golden": golden})
    path.write_bytes(final)
    error, tolerance = device_kit.run_policy.selftest(device_kit.run_policy.Policy(path))
    checks["golden vectors"] = error <= tolerance
    inside = tflite.inspect(final)
    checks["one signature"] = inside["signatures"] == ["deterministic"]
    checks["builtin operators only"] = not set(inside["operators"]) & set(tflite.FORBIDDEN)
    return {
        "bytes": len(final),
        "bytes_without_metadata": len(bare),
        "sha256": hashlib.sha256(final).hexdigest(),
        "operators": inside["operators"],
        "micro_arena_bytes": tflite_micro.micro_arena(bare),
        **entry,
        "checks": checks,
    }


def _unguarded(policy):
    """The file itself, without the runner's refusal of what is not finite: the graph's own guard is measured."""
    return policy.run


def _header(path, weights, facts, reference):
    chosen = np.linspace(0, len(reference.states) - 1, GOLDEN).astype(int)
    golden = {"observations": reference.states[chosen], "actions": reference.actions[chosen], "tolerance": 1e-5}
    about = {"environment": facts["environment"]["id"], "tfsac": facts["tfsac"], "git_revision": facts["git_revision"]}
    for kind in ("observation", "action"):
        pairs = zip(facts[kind]["names"], facts[kind]["units"], strict=True)
        about[kind] = ", ".join(f"{name} [{unit}]" if unit else name for name, unit in pairs)
    c_header.write_policy_header(path, weights, reference.low, reference.high, about, golden)
    size = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    act = c_header.compiled(path.parent)
    if act is None:
        return {**size, "checks": {}, "not_checked": "no C compiler here"}
    entry = ladder.measure(act, reference)
    checks = ladder.check("c", entry, reference) | {"golden vectors": act.selftest() == 0}
    return {**size, "cortex_m4_bytes": c_header.footprint_cortex_m4(path.parent), **entry, "checks": checks}


def _states(restored):
    """Observations of the run's replay, evenly over what it holds: at most STATES, [N, O] float32."""
    size = restored.policy_weights["hidden_0/kernel"].shape[0]
    rows = np.concatenate(list(checkpoint.replay_segments(restored)))
    return rows[np.linspace(0, len(rows) - 1, min(STATES, len(rows))).astype(int), :size]


def _facts(restored, env, states):
    """What every artefact says of itself, as JSON can hold it."""
    facts = describe(env)
    facts["observation"] |= {"low": states.min(axis=0).tolist(), "high": states.max(axis=0).tolist()}
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "tfsac": tfsac.__version__,
        "git_revision": revision.stdout.strip() or "unknown",
        **facts,
        "training": {"steps": restored.step, "gin": config.write(restored.facts["settings"])},
    }


def main():
    """The command; see the module's docstring. Returns the exit status."""
    args = flags.FLAGS
    require(args.logdir and args.out, "expected --logdir=RUN_DIRECTORY and --out=DIRECTORY")
    require(args.episodes > 1, f"--episodes: expected at least 2, received {args.episodes}")
    result = export(args.logdir, args.out, args.episodes, args.env_id)
    print(report.summary(result))
    print(f"{'passed' if result['passed'] else 'FAILED'}: see {args.out}/report.md")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    flags.DEFINE_string("logdir", None, "Run directory.")
    flags.DEFINE_string("out", None, "Directory to write; an earlier export there is replaced.")
    flags.DEFINE_integer("episodes", 100, "Episodes that returns are measured by.")
    flags.DEFINE_string("env_id", None, "Needed where the run's environment is of a module of your own.")
    run_command(main)
