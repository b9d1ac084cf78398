"""Stress-tests a trained policy: python -m tfsac.stress --policy=artifacts/pendulum/policy.tflite --out=stress

--policy takes a .tflite file, a SavedModel directory or a policy.h beside its report.json; --logdir takes a run. Writes
stress.md, stress.json and stress.png; the first lines of stress.md say how much delay, noise and weakness the policy
tolerates. Ctrl-C keeps what was measured.

With --device_log=FILE, it reports on a log that run_policy.py --log wrote on the machine instead.
"""

import os

from absl import flags
from tqdm.auto import tqdm

from tfsac.errors import UserError, require, run_command
from tfsac.run.interrupts import Interrupts
from tfsac.trust import check_trusted


def main():
    """The command; see the module's docstring. Returns the exit status."""
    args = flags.FLAGS
    path = args.policy or args.logdir
    require(bool(args.logdir) != bool(args.policy), "expected either --policy=FILE or --logdir=RUN_DIRECTORY")
    if args.device_log:
        require(args.policy, "--device_log needs --policy=FILE, the .tflite file that ran on the device")
        from tfsac.deploy.stress import device_log

        examined = device_log.examine(args.device_log, args.policy)
        print(*device_log.lines(examined), sep="\n")
        return 1 if examined["disagreed"] else 0
    require(args.out, "expected --out=DIRECTORY, where stress.md, stress.json and stress.png go")
    require(args.episodes > 1, f"--episodes: expected at least 2, received {args.episodes}")
    require(args.seed >= 0, f"--seed: expected 0 or more, received {args.seed}")
    from tfsac.deploy.stress import policies, report, stress  # they may import TensorFlow

    for place in (path, args.compare):
        if place:
            check_trusted(policies.load(place).env.modules(), args.trust, place)
    try:  # before the minutes of measuring
        os.makedirs(args.out, exist_ok=True)
        require(os.access(args.out, os.W_OK), f"cannot write to --out={args.out}; choose another directory")
    except OSError as error:
        raise UserError(f"cannot write to --out={args.out}: {error.strerror}; choose another directory") from error
    with Interrupts() as interrupts, tqdm(unit="level", disable=None) as bar:

        def progress(done, total, coming):
            bar.total, bar.n = total, done
            bar.set_description(coming[:40], refresh=False)
            bar.refresh()

        cores = len(os.sched_getaffinity(0))
        result = stress.stress(path, args.compare, args.episodes, args.seed, cores, progress, interrupts.__bool__)
    report.write(args.out, result)
    if result["baseline"]:
        print(*report.tolerates(result), sep="\n")
    print(
        f"{'interrupted; what was measured' if result['interrupted'] else 'all'} is in {args.out}: stress.md, "
        f"stress.json{', stress.png' * bool(result['disturbances'])}"
    )
    return 130 if result["interrupted"] else 0


if __name__ == "__main__":
    flags.DEFINE_string("policy", None, "Exported policy: a .tflite file, a SavedModel directory or a policy.h.")
    flags.DEFINE_string("logdir", None, "Run directory instead.")
    flags.DEFINE_string("compare", None, "Another policy or run, measured in the same worlds on the same starts.")
    flags.DEFINE_string("out", None, "Directory to write stress.md, stress.json and stress.png to.")
    flags.DEFINE_string("device_log", None, "A log from the device: says whether it agrees with the file, rate, delay.")
    flags.DEFINE_integer("episodes", 100, "Starts in each world.")
    flags.DEFINE_integer("seed", 0, "Seed of the start states: equal seeds, equal starts.")
    flags.DEFINE_multi_string("trust", [], "A module of yours that the policy's environment names; repeatable.")
    run_command(main)
