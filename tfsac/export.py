"""Exports a trained policy: python -m tfsac.export --logdir=runs/reacher --out=artifacts/reacher

Writes a directory to copy to the device: the policy in every format of `tfsac.deploy.pipeline.FORMATS`, the runner in
Python and C, and report.md, which says how good each file is and which one to take. Exit status 1 if one fails its
checks.
"""

from pathlib import Path

import numpy as np
from absl import flags

from tfsac.data.envs import require_bounds, say_time_limit
from tfsac.errors import require, run_command
from tfsac.run import checkpoint, config
from tfsac.trust import check_trusted


def export_run(logdir, out, episodes=100, trusted=(), name=None, page=False, video=False, stress=True):
    """Exports the policy of a run's last checkpoint.

    Args:
        logdir: the run directory.
        out, episodes, name, page, video, stress: see `pipeline.export`.
        trusted: modules that the run may name, see `trust.check_trusted`.

    Returns:
        The report, as `pipeline.export` does.

    Raises:
        UserError: no checkpoint, a damaged one, an environment with other bounds, or a directory that cannot be
            written or holds something else.
    """
    from tfsac.deploy import pipeline  # its formats import TensorFlow

    restored = checkpoint.restore(Path(logdir) / "checkpoints")
    with checkpoint.reading(f"the checkpoint of step {restored.step}"):
        policy, env = restored.policy, restored.env
        check_trusted(env.modules(), trusted, logdir)
        require(restored.replay_files, f"the run in {logdir} has collected nothing yet: expected one that was trained")
        size = policy.sizes[0]
        states = np.concatenate([rows[:, :size].copy() for rows in checkpoint.replay_segments(restored)])
        training = {"steps": restored.step, "gin": config.write(restored.settings)}
        made = env.make(unit_actions=False)
        require_bounds(restored.facts.get("action"), made.action_space.low, made.action_space.high)
    say_time_limit(restored.facts.get("time_limit"), made)
    return pipeline.export(policy, states, made, env, training, out, episodes, name, page, video, stress)


def main():
    """The command; see the module's docstring. Returns the exit status."""
    args = flags.FLAGS
    require(args.logdir and args.out, "expected --logdir=RUN_DIRECTORY and --out=DIRECTORY")
    require(args.episodes > 1, f"--episodes: expected at least 2, received {args.episodes}")
    trusted, video, stress = [*args.trust, args.env_id], not args["no-video"].value, not args["no-stress"].value
    result = export_run(args.logdir, args.out, args.episodes, trusted, args.name, True, video, stress)
    from tfsac.deploy import report

    print(report.summary(result))
    if "tolerates" in result["facts"]:
        print(f"tolerates {result['facts']['tolerates']}")
    print(*result["left_out"], sep="\n", end="\n" * bool(result["left_out"]))
    print(f"{report.VERDICTS[result['passed']]}: see {args.out}/report.md")
    return 1 if result["passed"] is False else 0


if __name__ == "__main__":
    flags.DEFINE_string("logdir", None, "Run directory.")
    flags.DEFINE_string("out", None, "Directory to write; an earlier export there is replaced, anything else refused.")
    flags.DEFINE_integer("episodes", 100, "Episodes that returns are measured with.")
    flags.DEFINE_string("env_id", None, "The run's environment, module:EnvId; trusts its module as --trust does.")
    flags.DEFINE_multi_string("trust", [], "A module of yours that the run names; repeatable.")
    flags.DEFINE_string(
        "name", None, "Prefix of the names in policy.h: reacher gives reacher_act; default tfsac_policy."
    )
    flags.DEFINE_bool("no-video", False, "Write no clip.")
    flags.DEFINE_bool("no-stress", False, "Do not measure how much delay, noise and weakness the files tolerate.")
    run_command(main)
