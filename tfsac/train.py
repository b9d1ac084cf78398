"""Trains Soft Actor-Critic: python -m tfsac.train --gin_file=gin/reacher.gin

Writes a run directory (--logdir) with config.gin, metrics.csv, episodes.csv, evaluations.csv, checkpoints/,
tensorboard/, losses.png and returns.png. Ctrl-C or SIGTERM saves a checkpoint; --resume goes on from the last one.
"""

import contextlib
import json
import os
import shlex
import signal
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

import tfsac
from tfsac.data.envs import EnvSettings, require_time_limit
from tfsac.data.rollout import rollout
from tfsac.deploy import clip
from tfsac.diagnosis.findings import one_line
from tfsac.errors import NonFiniteError, RunError, require, run_command
from tfsac.policy import Policy
from tfsac.quiet_tensorflow import tf
from tfsac.run import checkpoint, config, directory, pictures
from tfsac.run import settings as run_settings
from tfsac.run.interrupts import Interrupts
from tfsac.run.log import LogState, RunLog
from tfsac.run.loop import TrainSettings, make_loop


class Outcome(NamedTuple):
    """How a training ended.

    Attributes:
        step: environment steps taken.
        interrupts: the numbers of the signals that interrupted it: normally [].
        policy: the trained one, a `tfsac.policy.Policy`.
    """

    step: int
    interrupts: list
    policy: Policy


def train(logdir, settings, restored=None, overwrite=False, ray_address=None):
    """Trains, and writes the run directory.

    Args:
        logdir: the run directory.
        settings: {scope: {parameter: value}}, from `run.settings.read`.
        restored: the Checkpoint to go on from, or None.
        overwrite: whether an earlier run there is removed.
        ray_address: for collectors, see `remote_collectors.connect`.

    Returns:
        An `Outcome`.

    Raises:
        UserError: settings that cannot work; then nothing is written.
        NonFiniteError: NaN or infinity in a tensor; the last checkpoint is from before it.
        RunError: see `envs.wrap`.
    """
    options, env = TrainSettings(**settings["train"]), EnvSettings(**settings["env"])
    if restored:
        with checkpoint.reading(f"the checkpoint of step {restored.step}"):
            run_settings.check_unchanged(settings, restored.settings)
            total = options.total_steps
            require(
                total == restored.settings["train"]["total_steps"] or total > restored.step,
                f"train.total_steps = {total}: the run is at step {restored.step} already, expected more",
            )
    loop = make_loop(settings, ray_address=ray_address)
    evaluation_env = env.make() if options.eval_every else None
    if evaluation_env:
        require_time_limit(evaluation_env, env.id)
    log_state = _restore(loop, restored, logdir) if restored else loop.begin_from_other_run()

    with directory.take(logdir, overwrite), _explained(logdir):  # nothing is written before this line
        if restored:
            last = max(checkpoint.steps(Path(logdir) / "checkpoints"), default=None)
            gone_on = f"{logdir} has gone on from step {restored.step} to {last} since it was read"
            require(last == restored.step, f"{gone_on}: give the command again")
            for name in ("non_finite.npz", "traceback.txt"):  # what stopped the run then need not stop it again
                (Path(logdir) / name).unlink(missing_ok=True)
        directory.write_whole(Path(logdir) / "config.gin", config.write(settings))
        print(_described(logdir, env, loop), flush=True)
        if restored:
            print(f"resumed at step {loop.step}, begun with tfsac {restored.facts.get('tfsac')}", flush=True)
        interrupts = Interrupts(second=signal.SIG_DFL)
        log = RunLog(logdir, options.total_steps, loop.step, log_state, loop.agent.shown)
        with interrupts, contextlib.closing(log), contextlib.closing(loop.collector):
            warned = _train(logdir, settings, loop, evaluation_env, log, interrupts)
    if not interrupts and not warned:
        _say(one_line(logdir, loop.agent.action_dim))
    return Outcome(loop.step, interrupts.received, loop.policy)


def _train(logdir, settings, loop, evaluation_env, log, interrupts):
    """The loop with its checkpoints and evaluations, to its end or an interrupt; -> a warning that was printed."""
    options, warned = TrainSettings(**settings["train"]), None

    def save():
        facts, arrays = loop.get_state()
        facts |= {"tfsac": tfsac.__version__, "settings": settings, "log": log.get_state()}
        checkpoint.save(Path(logdir) / "checkpoints", loop.step, facts, arrays, loop.replay)

    def evaluate():
        results = rollout(loop.policy.deterministic, evaluation_env, options.eval_episodes, is_over=interrupts.__bool__)
        if results:
            log.evaluation(loop.step, *results)

    save()  # so that there is always one from before whatever may happen
    if log.evaluated < loop.step and loop.block_at(options.total_steps).is_due(options.eval_every):
        evaluate()  # the one that an interrupt broke off
    for block in loop.blocks(options.total_steps) if not interrupts else ():
        log.block(block)
        if block.last:
            save()  # before the evaluation, which may take long
        if block.is_due(options.eval_every) and not interrupts:
            evaluate()
        if block.is_due(options.checkpoint_every) or interrupts:
            save()
        if block.before < options.total_steps // 10 <= block.step:
            warned = _say(one_line(logdir, loop.agent.action_dim, finished=False))
        if interrupts:
            break
    if log.evaluated == loop.step == options.total_steps:
        finished = {"step": loop.step, "log": log.get_state()}  # of which the last checkpoint knows nothing
        directory.write_whole(Path(logdir) / "finished.json", json.dumps(finished))
    return warned


@contextlib.contextmanager
def _explained(logdir):
    """A context that leaves in the run directory what led to an error, and says so; the run is this process's own."""
    try:
        yield
    except (RunError, OSError) as error:
        steps = checkpoint.steps(Path(logdir) / "checkpoints")
        if not steps:
            raise
        kept = ""
        with contextlib.suppress(OSError):  # a full disk may be what stopped the run
            directory.write_whole(Path(logdir) / "traceback.txt", traceback.format_exc())
            place = f"{logdir}/traceback.txt"
            if isinstance(error, NonFiniteError):
                place = f"{logdir}/non_finite.npz"
                np.savez(place, **error.batch)
            kept = f"what led to it is in {place}, "
        raise type(error)(f"{error}; {kept}last checkpoint: step {steps[-1]}") from error


def _say(line):
    if line:
        print(line, flush=True)
    return line


def _restore(loop, restored, logdir):
    """Puts the checkpoint's state into the loop; -> the state of the log."""
    with checkpoint.reading(f"the checkpoint of step {restored.step}"):
        segments = checkpoint.replay_segments(restored)
        for i in loop.set_state(restored.step, restored.facts, restored.arrays, segments):
            print(f"environment {i} is not deterministic: its episode could not be continued; a new one begins")
    return LogState.of_run(restored, logdir)


def _described(logdir, env, loop):
    """Lines that tell the user what is about to be trained."""
    agent, replay = loop.agent, loop.replay
    numbers = sum(variable.shape.num_elements() for variable in agent.variables().values())
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    return "\n".join(
        [
            f"run directory  {logdir}",
            f"environment    {env.id}: {agent.observation_dim} observations, {agent.action_dim} actions",
            f"algorithm      {agent.scope}: {loop.policy.parameters:,} parameters in the policy "
            f"({4 * loop.policy.parameters / 1e3:,.0f} kB once deployed), {numbers:,} numbers in all",
            f"replay         {replay.nbytes / 1e6:,.0f} MB when full ({replay.capacity:,} transitions)",
            f"device         {', '.join(gpus) or 'CPU'}",
        ]
    )


def set_threads():
    """Sets TensorFlow's thread counts and returns (inside one operation, across operations).

    A product of 256-wide layers gains nothing from a second thread; the two critics side by side do.
    TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS win where they are set.

    Raises:
        UserError: one of them is set to no number of threads.
    """
    cores = len(os.sched_getaffinity(0))
    chosen = []
    for name, default in (("TF_NUM_INTRAOP_THREADS", 1), ("TF_NUM_INTEROP_THREADS", min(2, cores))):
        text = os.environ.get(name) or str(default)
        require(text.isdigit() and int(text) > 0, f"{name}: expected a number of threads, received {text!r}")
        chosen.append(int(text))
    tf.config.threading.set_intra_op_parallelism_threads(chosen[0])
    tf.config.threading.set_inter_op_parallelism_threads(chosen[1])
    if chosen[1] == cores > 1:
        _spread_threads()
    return tuple(chosen)


def _spread_threads():
    """Gives each of TensorFlow's threads across operations a core of its own.

    If the other core has just run Python, Linux wakes both threads on one core and leaves them there for milliseconds:
    a gradient step on two cores then takes as long as on one.
    """
    tf.config.list_logical_devices()  # starts the threads
    names = {task: (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    threads = sorted(int(task.name) for task, name in names.items() if name == "tf_Compute")
    for thread, core in zip(threads, sorted(os.sched_getaffinity(0)), strict=False):
        os.sched_setaffinity(thread, {core})


def run(logdir, settings, restored=None, overwrite=False, ray_address=None, video=False):
    """Trains with the arguments of `train`, draws the pictures and says how the run ended.

    Args:
        video: whether a clip is one of the pictures.

    Returns:
        The exit status of the command: 0, or 128 plus the number of the signal that interrupted it.
    """
    step, interrupts, policy = train(logdir, settings, restored, overwrite, ray_address)
    if interrupts:
        modules = [name for name in run_settings.modules(settings) if ":" in name]
        again = [f"--logdir={logdir}", *(f"--trust={name.partition(':')[0]}" for name in modules)]
        print(f"interrupted at step {step}; go on with: python -m tfsac.train --resume {shlex.join(again)}")
        return 128 + interrupts[0]
    results = "episodes.csv, metrics.csv, checkpoints/"
    if settings["train"]["eval_every"]:
        pictures.draw([logdir], logdir)
        results = "returns.png, losses.png, evaluations.csv, checkpoints/"
    _say(clip.write_of_run(policy, EnvSettings(**settings["env"]), logdir, step) if video else None)
    print(f"done at step {step}; results are in {logdir}: {results}")
    return 0


def main():
    """The command; see the module's docstring."""
    args = flags.FLAGS
    require(not (args.resume and args.overwrite), "--resume and --overwrite exclude each other")
    require(not args.resume or args.logdir, "--resume needs the --logdir of the run to go on with")
    params = args.gin_param + ([f"env.id = {args.env_id!r}"] if args.env_id else [])
    restored = checkpoint.restore(Path(args.logdir) / "checkpoints") if args.resume else None
    settings = run_settings.read(args.gin_file, params, args.logdir if restored else None, args.trust)
    logdir = args.logdir or directory.default_name(settings["env"]["id"])
    if not restored:
        directory.check_free(logdir, args.overwrite)
    threads = set_threads()
    print(f"threads        {threads[0]} inside an operation, {threads[1]} across operations")
    return run(logdir, settings, restored, args.overwrite, args.ray_address, video=not args["no-video"].value)


if __name__ == "__main__":
    flags.DEFINE_multi_string("gin_file", [], "Settings, lines of name.parameter = literal; repeatable.")
    flags.DEFINE_multi_string("gin_param", [], "One setting, such as 'train.seed = 1'; repeatable, wins over files.")
    flags.DEFINE_string("logdir", None, "Run directory; default runs/<environment>-<time>.")
    flags.DEFINE_bool("resume", False, "Go on with the run in --logdir, from its last checkpoint.")
    flags.DEFINE_bool("overwrite", False, "Remove an earlier run in --logdir first.")
    flags.DEFINE_string("env_id", None, "Shorthand for --gin_param=\"env.id = '...'\".")
    flags.DEFINE_multi_string("trust", [], "A module of yours that the run in --logdir names; repeatable.")
    flags.DEFINE_bool("no-video", False, "Write no clip at the end.")
    flags.DEFINE_string("ray_address", None, "Ray that train.collectors join, such as auto; default one started here.")
    run_command(main)
