"""Runs a trained policy: python -m tfsac.evaluate --logdir=runs/reacher --episodes=100

Instead of --logdir, --policy=PATH takes an exported .tflite file or SavedModel directory. --video=FILE.webp writes a
clip of the first episodes.
"""

import json
import sys
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from tfsac import standard_output
from tfsac.data.envs import action_bounds, require_bounds, require_time_limit, say_time_limit
from tfsac.data.rollout import ShowsEpisodes, repeats_starts, rollout, summary
from tfsac.deploy import artefact, clip, facts
from tfsac.errors import require, run_command
from tfsac.run import checkpoint
from tfsac.trust import check_trusted


def find(logdir, policy, env_id=None, trusted=()):
    """Finds a policy, in a run or an artefact, and the environment that it acts in.

    Args:
        logdir: a run directory, or None.
        policy: a .tflite file or a SavedModel directory, or None.
        env_id: as the user gives it; needed if the run or the artefact does not know its environment.
        trusted: modules that the run or the artefact may name.

    Returns:
        act: observation [O] -> action [A]; the EnvSettings of the environment; whether the actions are in [-1, 1]^A, as
        an agent's are, or in the environment's own units; and what is kept of the environment: action (its bounds, see
        `require_bounds`) and time_limit.

    Raises:
        UserError: nothing usable there, another environment than the policy's, or one whose module the user has not
            named.
    """
    require(bool(logdir) != bool(policy), "expected either --logdir=RUN_DIRECTORY or --policy=ARTEFACT")
    if logdir:
        restored = checkpoint.restore(Path(logdir) / "checkpoints")
        with checkpoint.reading(f"the checkpoint of step {restored.step}"):
            act, env, kept = restored.policy.deterministic, restored.env, restored.facts
    else:
        act, said = artefact.load(policy)
        env = facts.environment(said, policy)
        kept = {"action": said.get("action"), "time_limit": said["environment"].get("time_limit")}
    if env_id and ":" in env_id and env.id == env_id.partition(":")[2]:
        env = env._replace(id=env_id)  # files of tfsac 0.1 keep the id without its module
    check_trusted(env.modules(), [*trusted, env_id], logdir or policy)
    require(env_id in (None, env.id), f"{logdir or policy} was trained in {env.id!r}, received --env_id={env_id}")
    return act, env, bool(logdir), kept


def load(logdir, policy, env_id=None, trusted=()):
    """As `find`, but with the environment itself: act, env."""
    act, *world = find(logdir, policy, env_id, trusted)
    return act, _made_for(act, *world)


def _made_for(act, settings, unit_actions, kept):
    """Makes the environment; refuses one whose observations or actions are not those of act."""
    env = settings.make(unit_actions)
    sizes = env.observation_space.shape, env.action_space.shape
    try:
        fits = act(np.zeros(sizes[0], np.float32)).shape == sizes[1]
    except ValueError:
        fits = False
    require(fits, f"the policy does not fit {settings.id}: it has observations {sizes[0]} and actions {sizes[1]}")
    low, high = action_bounds(env) if unit_actions else (env.action_space.low, env.action_space.high)
    with checkpoint.reading("what is kept of the policy"):
        require_bounds(kept.get("action"), low, high)
    say_time_limit(kept.get("time_limit"), env)
    return env


def main():
    """The command; see the module's docstring."""
    args = flags.FLAGS
    require(args.episodes > 0, f"--episodes: expected a positive number, received {args.episodes}")
    require(args.seed >= 0, f"--seed: expected 0 or more, received {args.seed}")
    output = standard_output.for_answers() if args.json else sys.stdout
    act, *world = find(args.logdir, args.policy, args.env_id, args.trust)
    settings, unit_actions, _ = world
    if args.video:
        clip.check_path(args.video)
    env = _made_for(act, *world)
    require_time_limit(env, settings.id)
    if not repeats_starts(env):
        print("note: this environment ignores its seed: equal seeds, unequal starts", file=sys.stderr)
    with tqdm(total=args.episodes, unit="episode", leave=False, disable=None) as bar:
        returns, _ = rollout(act, ShowsEpisodes(env, bar), args.episodes, args.seed)
    result = summary(returns)
    if args.json:
        shown = {"return_mean": result["mean"], "return_std": result["std"], "episodes": args.episodes}
        print(json.dumps(shown | {"returns": returns}), file=output, flush=True)
    else:
        words = [f"return {result['mean']:.3f}"]
        if result["interval"]:
            low, high = result["interval"]
            words.append(f"95 % interval of the mean {low:.3f} to {high:.3f}")
            words.append(f"standard deviation {result['std']:.3f}")
        print(f"{', '.join(words)}, {args.episodes} episode{'s' * (args.episodes > 1)} of {env.spec.id}")
    if args.video:
        clip.record(act, settings, unit_actions, args.video, seed=args.seed)


if __name__ == "__main__":
    flags.DEFINE_string("logdir", None, "Run directory.")
    flags.DEFINE_string("policy", None, "Exported policy instead of a run: a .tflite file or a SavedModel directory.")
    flags.DEFINE_integer("episodes", 100, "Number of episodes.")
    flags.DEFINE_integer("seed", 0, "Seed of the start states: equal seeds, equal starts.")
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.")
    flags.DEFINE_string("video", None, "Clip to write: a .webp, .gif or, where ffmpeg is installed, .mp4 file.")
    flags.DEFINE_string("env_id", None, "The environment, module:EnvId; trusts its module as --trust does.")
    flags.DEFINE_multi_string("trust", [], "A module of yours that the run or the policy names; repeatable.")
    run_command(main)
