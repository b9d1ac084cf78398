"""Trains Soft Actor-Critic: python -m tfsac.train --gin_file=gin/reacher.gin

Writes a run directory (--logdir) with config.gin, metrics.csv, episodes.csv, evaluations.csv, checkpoints/,
tensorboard/, losses.png and returns.png. Ctrl-C or SIGTERM saves a checkpoint; --resume goes on from the last one.
"""

import tfsac.quiet_tensorflow  # isort: skip  (before anything imports TensorFlow)

import contextlib
import os
import shlex
import signal
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

import tfsac
from tfsac import checkpoint, config, plot, run_dir
from tfsac.collector import BehaviourPolicy, Collector
from tfsac.envs import check_trusted, make_env
from tfsac.errors import NonFiniteError, require, require_ray, run_command
from tfsac.numpy_policy import NumpyPolicy
from tfsac.replay import Replay
from tfsac.rollout import rollout
from tfsac.run_log import RunLog
from tfsac.sac import SAC
from tfsac.sac_v1 import SACv1

AGENTS = {"sac": SAC, "sac_v1": SACv1}
METRICS_EVERY = 250  # environment steps between two rows of metrics.csv
# What a resumed run may change: none of it touches what is learned up to a given step.
RESUMABLE = ("train.total_steps", "train.eval_every", "train.checkpoint_every")


def train(
    logdir,
    overwrite,
    restored,
    settings,
    ray_address=None,
    env_id: str = "Pendulum-v1",
    algorithm: str = "sac",
    seed: int = 0,
    total_steps: int = 1_000_000,
    start_steps: int = 1_000,
    batch_size: int = 256,
    replay_capacity: int = 1_000_000,
    num_envs: int = 1,
    collectors: int = 0,
    updates_per_step: int = 1,
    steps_per_call: int = 8,
    eval_every: int = 5_000,
    eval_episodes: int = 10,
    checkpoint_every: int = 10_000,
):
    """Algorithm 1's outer loop: for each environment step ..., for each gradient step ....

    # Deviation: steps_per_call environment steps, then as many gradient steps (times updates_per_step) in one
    # compiled call; 2018b, appendix D, alternates one and one; because every call of TensorFlow costs time. The policy
    # that acts is so up to steps_per_call steps old.

    Args:
        logdir: the run directory.
        overwrite: whether an earlier run there is removed.
        restored: the Checkpoint to go on from, or None.
        settings: {name: {parameter: value}} of `train` and of the algorithm, as config.gin will say them.
        ray_address: for collectors, see `remote_collectors.connect`.
        env_id: Gymnasium's id, or `module:EnvId`.
        algorithm: 'sac' or 'sac_v1'.
        seed: of weights, noise, replay, exploration and episodes.
        total_steps: environment steps, all environments together, like every number of steps here.
        start_steps: so many first actions are uniform in [-1, 1]^A, and nothing is learned before.
        batch_size: transitions a gradient step.
        replay_capacity: transitions kept.
        num_envs: environments side by side, of each collector if there are collectors.
        collectors: Ray actors that step the environments beside the learner; 0 steps them in this process.
        updates_per_step: gradient steps for each environment step.
        steps_per_call: environment steps between two compiled calls.
        eval_every, checkpoint_every: steps between two evaluations, two checkpoints.
        eval_episodes: episodes of an evaluation, with the deterministic policy.

    Returns:
        The step where it ended, and the numbers of the signals that interrupted it: normally [].

    Raises:
        UserError: settings that cannot work; nothing is written then.
        NonFiniteError: NaN or infinity in a tensor; the last checkpoint is from before it.
    """
    if restored:
        check_unchanged(settings, restored.facts["settings"])
    require(
        batch_size <= replay_capacity,
        f"train.batch_size = {batch_size} is larger than train.replay_capacity = {replay_capacity}",
    )
    evaluation_env = make_env(env_id)
    sizes = evaluation_env.observation_space.shape[0], evaluation_env.action_space.shape[0]
    agent = AGENTS[algorithm](*sizes, seed, **settings[AGENTS[algorithm].__name__])
    replay = Replay(replay_capacity, *sizes, seed=[seed, 1])
    if collectors:
        require_ray("train.collectors")
        from tfsac.remote_collectors import RemoteCollectors  # here, so that nothing of Ray is imported without need

        acting = env_id, num_envs, start_steps, seed
        collector = RemoteCollectors(collectors, *acting, block=steps_per_call, ray_address=ray_address)
    else:
        collector = Collector([make_env(env_id) for _ in range(num_envs)], seed)
    act = BehaviourPolicy(None, sizes[1], start_steps, np.random.default_rng([seed, 2]))
    step, log_state = 0, None
    if restored:
        step, log_state = restored.step, restored.facts["log"]
        _restore(restored, agent, replay, collector, act)

    lock = run_dir.take(logdir, overwrite)  # nothing is written before this line
    run_dir.write_whole(Path(logdir) / "config.gin", config.write(settings))
    print(_described(logdir, evaluation_env, agent, replay), flush=True)
    if restored:
        print(f"resumed at step {step}", flush=True)
    log = RunLog(logdir, total_steps, step, log_state)
    act.policy = NumpyPolicy(agent.policy_weights())

    def save():
        facts = {"tfsac": tfsac.__version__, "settings": settings, "log": log.get_state()}
        _save(Path(logdir) / "checkpoints", step, facts, agent, replay, collector, act)

    interrupts = _catch_interrupts()
    with lock, contextlib.closing(log), contextlib.closing(collector):
        save()  # so that there is always one from before whatever may happen
        while step < total_steps and not interrupts:
            before, step = step, min(total_steps, (step // steps_per_call + 1) * steps_per_call)
            transitions, episodes = collector.collect(step - before, act)
            replay.insert(transitions)
            for episode in episodes:
                log.episode(*episode)
            if step >= start_steps:
                batches = replay.sample((step - before) * updates_per_step, batch_size)
                metrics = agent.update(batches)
                _check_finite(metrics, batches)
                act.policy = NumpyPolicy(agent.policy_weights())
                if _due(METRICS_EVERY, before, step, total_steps):
                    log.metrics(step, metrics | collector.metrics())
            if _due(eval_every, before, step, total_steps):
                log.evaluation(step, *rollout(act.policy.deterministic, evaluation_env, eval_episodes))
            if _due(checkpoint_every, before, step, total_steps):
                save()
            log.advance(step)
        save()
    return step, interrupts


def _due(every, before, step, total_steps):
    """Whether a block of steps (before, step] is the first to end at or after a multiple of `every`, or the last."""
    return step // every > before // every or step == total_steps


def _check_finite(metrics, batches):
    for name, values in metrics.items():
        finite = np.isfinite(values)
        if not np.all(finite):
            first = int(np.argmin(finite))
            batch = {field: array[first] for field, array in batches._asdict().items()}
            raise NonFiniteError(f"{name} is {values[first]}: the losses left the range of numbers", batch)


def _save(folder, step, facts, agent, replay, collector, act):
    episodes, arrays = collector.get_state()
    facts |= {"replay": replay.get_state(), "collector": episodes, "rng": act.rng.bit_generator.state}
    checkpoint.save(folder, step, facts, agent.get_state() | arrays, replay)


def check_unchanged(settings, before):
    """Refuses to go on with other settings than the checkpoint's, whether given now or edited in config.gin."""
    configurables = {"train": train} | {agent.__name__: agent for agent in AGENTS.values()}
    for scope, values in before.items():
        # A run from before a parameter existed had what is its default now.
        defaults = config.resolve({}, {scope: configurables[scope]})[scope]
        for parameter, old in (defaults | values).items():
            old = tuple(old) if isinstance(old, list) else old  # JSON knows no tuples
            name, new = f"{scope}.{parameter}", settings.get(scope, {}).get(parameter)
            require(
                old == new or name in RESUMABLE,
                f"{name} was {old!r} so far and cannot become {new!r}: a resumed run may change "
                f"{', '.join(RESUMABLE)}; train anew in another --logdir",
            )


def _restore(restored, agent, replay, collector, act):
    facts = restored.facts
    agent.set_state({name: x for name, x in restored.arrays.items() if not name.startswith("environment_")})
    replay.set_state(facts["replay"], checkpoint.replay_segments(restored))
    for i in collector.set_state(facts["collector"], restored.arrays):
        print(f"environment {i} is not deterministic: its episode could not be taken up and begins anew")
    act.rng.bit_generator.state = facts["rng"]


def _catch_interrupts():
    """-> a list that the number of the first SIGINT or SIGTERM will be appended to; a second one ends the process."""
    received = []

    def note(number, _):
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGTERM, note)
    return received


def _described(logdir, env, agent, replay):
    """What was resolved, for the user to see before anything long begins."""
    policy = agent.policy.count_params()
    critics = sum(x.count_params() for name, x in vars(agent).items() if name in ("q1", "q2", "v"))
    unused = agent.policy.get_layer("log_std").count_params()  # the deterministic action has no need of it
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    return "\n".join(
        [
            f"run directory  {logdir}",
            f"environment    {env.spec.id}: {env.observation_space}, {env.unwrapped.action_space}",
            f"algorithm      {type(agent).__name__}: {policy:,} parameters in the policy "
            f"({4 * (policy - unused) / 1e3:,.0f} kB once deployed), {critics:,} in the critics",
            f"replay         {replay.nbytes / 1e6:,.0f} MB when full ({replay.capacity:,} transitions)",
            f"device         {', '.join(gpus) or 'CPU'}",
        ]
    )


def set_threads():
    """Sets TensorFlow's thread counts and returns (inside one operation, across operations).

    A product of 256-wide layers gains nothing from a second thread, the two critics beside each other do.
    TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS win where they are set.
    """
    cores = len(os.sched_getaffinity(0))
    chosen = []
    for name, default in (("TF_NUM_INTRAOP_THREADS", 1), ("TF_NUM_INTEROP_THREADS", min(2, cores))):
        text = os.environ.get(name) or str(default)
        require(text.isdigit() and int(text) > 0, f"{name}: expected a number of threads, received {text!r}")
        chosen.append(int(text))
    tf.config.threading.set_intra_op_parallelism_threads(chosen[0])
    tf.config.threading.set_inter_op_parallelism_threads(chosen[1])
    return tuple(chosen)


def read_settings(gin_files, gin_params, resumed=None):
    """Settings of a new run, or of one to go on with.

    Args:
        gin_files, gin_params: paths, single bindings; the later win.
        resumed: directory of the run to go on with, whose config.gin comes first, or None.

    Returns:
        {name: {parameter: value}} of `train` and of the algorithm it chooses.

    Raises:
        UserError: see `config.read`, `config.resolve` and, for a resumed run, `check_trusted`.
    """
    kept = config.read([Path(resumed) / "config.gin"], []) if resumed else {}
    given = config.read(gin_files, gin_params)
    # An unknown algorithm is refused by resolve.
    agent = AGENTS.get(str((kept or given).get("train.algorithm", "sac")), SAC)
    settings = config.resolve(kept | given, {"train": train, agent.__name__: agent})
    if resumed:
        check_trusted(settings["train"]["env_id"], given.get("train.env_id"), f"{resumed}/config.gin")
    return settings


def main():
    """The command; see the module's docstring."""
    args = flags.FLAGS
    threads = set_threads()
    require(not (args.resume and args.overwrite), "--resume and --overwrite exclude each other")
    params = args.gin_param + ([f"train.env_id = {args.env_id!r}"] if args.env_id else [])
    restored = None
    if args.resume:
        require(args.logdir, "--resume needs the --logdir of the run to go on with")
        restored = checkpoint.restore(Path(args.logdir) / "checkpoints")
    settings = read_settings(args.gin_file, params, args.logdir if restored else None)
    logdir = args.logdir or run_dir.default_name(settings["train"]["env_id"])
    if not restored:
        run_dir.check_free(logdir, args.overwrite)
    print(f"threads        {threads[0]} inside an operation, {threads[1]} across operations")
    return run(logdir, args.overwrite, restored, settings, args.ray_address)


def run(logdir, overwrite, restored, settings, ray_address=None):
    """`train`, of which the arguments are, then the pictures and a word on how it ended.

    Returns:
        The exit status of the command: 0, or 128 and the number of the signal that interrupted it.
    """
    options = settings["train"]
    try:
        step, interrupts = train(logdir, overwrite, restored, settings, ray_address, **options)
    except NonFiniteError as error:
        known = checkpoint.steps(Path(logdir) / "checkpoints")
        if not known:
            raise  # at the very first reset: there is no run yet
        np.savez(Path(logdir) / "non_finite.npz", **error.batch)
        place = f"{logdir}/non_finite.npz"
        raise NonFiniteError(f"{error}; what led to it is in {place}, last checkpoint: step {known[-1]}") from error
    if interrupts:
        again = [f"--logdir={logdir}"] + [f"--env_id={options['env_id']}"] * (":" in options["env_id"])
        print(f"interrupted at step {step}; go on with: python -m tfsac.train --resume {shlex.join(again)}")
        return 128 + interrupts[0]
    plot.draw([logdir], logdir)
    print(f"done at step {step}; results are in {logdir}: returns.png, losses.png, evaluations.csv, checkpoints/")
    return 0


if __name__ == "__main__":
    flags.DEFINE_multi_string("gin_file", [], "Settings, lines of name.parameter = literal; repeatable.")
    flags.DEFINE_multi_string("gin_param", [], "One setting, such as 'train.seed = 1'; repeatable, wins over files.")
    flags.DEFINE_string("logdir", None, "Run directory; default runs/<environment>-<time>.")
    flags.DEFINE_bool("resume", False, "Go on with the run in --logdir, from its last checkpoint.")
    flags.DEFINE_bool("overwrite", False, "Remove an earlier run in --logdir first.")
    flags.DEFINE_string("env_id", None, "Shorthand for --gin_param=\"train.env_id = '...'\".")
    flags.DEFINE_string("ray_address", None, "Ray that train.collectors join, such as auto; default one started here.")
    run_command(main)
