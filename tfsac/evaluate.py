"""Runs a trained policy: python -m tfsac.evaluate --logdir=runs/reacher --episodes=100

Instead of --logdir, --policy=PATH takes an exported .tflite file or SavedModel directory.
"""

import json
from pathlib import Path

from absl import flags

from tfsac import artefact, checkpoint
from tfsac.envs import check_trusted, make_env
from tfsac.errors import require, run_command
from tfsac.numpy_policy import NumpyPolicy
from tfsac.rollout import rollout, summary


def load(logdir, policy, env_id=None):
    """A way of acting, from a run or from an artefact.

    Args:
        logdir: a run directory, or None.
        policy: a .tflite file or a SavedModel directory, or None.
        env_id: as the user says it; needed where the run or the artefact names a module to import.

    Returns:
        act: observation [O] -> action [A], and the environment that takes such actions.

    Raises:
        UserError: nothing usable there, or an environment whose module the user has not named.
    """
    require(bool(logdir) != bool(policy), "expected either --logdir=RUN_DIRECTORY or --policy=ARTEFACT")
    if logdir:
        restored = checkpoint.restore(Path(logdir) / "checkpoints")
        act, own, unit_actions = NumpyPolicy(restored.policy_weights).deterministic, restored.env_id, True
    else:
        act, facts = artefact.load(policy)
        own, unit_actions = facts["environment"]["id"], False
    check_trusted(own, env_id, logdir or policy)
    require(env_id in (None, own), f"{logdir or policy} is of {own!r}, received --env_id={env_id}")
    return act, make_env(own, unit_actions)


def main():
    """The command; see the module's docstring."""
    args = flags.FLAGS
    require(args.episodes > 0, f"--episodes: expected a positive number, received {args.episodes}")
    require(args.seed >= 0, f"--seed: expected 0 or more, received {args.seed}")
    act, env = load(args.logdir, args.policy, args.env_id)
    returns, _ = rollout(act, env, args.episodes, args.seed)
    found = summary(returns)
    if args.json:
        result = {"return_mean": found["mean"], "return_std": found["std"], "episodes": args.episodes}
        print(json.dumps(result | {"returns": returns}))
    else:
        print(
            f"return {found['mean']:.3f}, 95 % interval of the mean {found['low']:.3f} to {found['high']:.3f}, "
            f"standard deviation {found['std']:.3f}, {args.episodes} episodes of {env.spec.id}"
        )


if __name__ == "__main__":
    flags.DEFINE_string("logdir", None, "Run directory.")
    flags.DEFINE_string("policy", None, "Exported policy instead of a run: a .tflite file or a SavedModel directory.")
    flags.DEFINE_integer("episodes", 100, "Number of episodes.")
    flags.DEFINE_integer("seed", 0, "Of the start states: equal seeds, equal starts.")
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.")
    flags.DEFINE_string("env_id", None, "Needed where the environment is of a module of your own.")
    run_command(main)
