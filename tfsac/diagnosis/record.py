"""The record of a run, which the diagnosis reads: from a run directory or from another program's CSV file."""

import csv
import math
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfsac.data.replay import Transition
from tfsac.errors import RunError, UserError, require
from tfsac.run import checkpoint, config
from tfsac.run.tables import TABLES, read_csv

# Facts on a run beside its tables, by the name that --fact takes: type, least value, greatest value.
FACTS = {
    "discount": (float, 0, 1),
    "tau": (float, 1e-9, 1),
    "action_dim": (int, 1, math.inf),
    "target_entropy": (float, -math.inf, math.inf),
    "reward_scale": (float, 1e-30, math.inf),
    "start_steps": (int, 0, math.inf),  # environment steps before the first gradient step
    "updates_per_step": (float, 1e-9, math.inf),  # gradient steps for each environment step
    "total_steps": (int, 0, math.inf),  # environment steps that the run has when it is over
    "replay_capacity": (int, 1, math.inf),  # transitions
}
DEFAULTS = {"discount": 0.99, "tau": 0.005, "reward_scale": 1.0, "start_steps": 0, "updates_per_step": 1.0}

TRAINING = ("training_kwargs", "training_wrappers")  # settings that make training another task than evaluations

TRANSITIONS = 100_000  # of the replay, that are looked at

# Our names of what other programs may have. A column of `metrics` or of the returns can be named by --column.
COLUMNS = (
    "step", "updates", "q1_loss", "q2_loss", "v_loss", "policy_loss", "alpha_loss", "alpha", "entropy", "q1", "q2", "v",
    "q_gradient_norm", "policy_gradient_norm", "v_gradient_norm", "return", "length", "evaluation",
)  # fmt: skip
# Stable-Baselines3's logger; critic_loss is the sum of both critics' and `return` a mean over the last 100 episodes.
SB3 = {
    "step": "time/total_timesteps",
    "updates": "train/n_updates",
    "critic_loss": "train/critic_loss",
    "policy_loss": "train/actor_loss",
    "alpha_loss": "train/ent_coef_loss",
    "alpha": "train/ent_coef",
    "return": "rollout/ep_rew_mean",
    "length": "rollout/ep_len_mean",
    "evaluation": "eval/mean_reward",
}
SB3_FACTS = {"start_steps": 100}  # its defaults, where they differ from DEFAULTS


class Record(NamedTuple):
    """One run, or what there is of it.

    Attributes:
        metrics: columns by name, float64 [rows] each, `step` among them; NaN where a row lacks a value.
        training: `step`, `return`, `length` of training episodes in order; empty arrays if unknown.
        evaluations: the same of evaluations, each the mean of its episodes, and its standard `error`, NaN if unknown.
        facts: values by name of FACTS; unknown ones are missing.
        assumed: names of facts that are DEFAULTS.
        transitions: the newest of the replay at the last checkpoint, in order, a `Transition`; or None.
        observation_scale: factors of the observations for the networks, or None; without those of remembered actions,
            which follow the observations.
        observations: how many numbers one observation has, O, where a transition holds several, or remembered actions;
            None stands for all.
        names: the other program's name of a column, by our name, if they differ.
        remarks: what could not be read, in one line each.
        stopped: whether the run ended because an observation, a reward or a loss was NaN or infinite.
        derived: names of metrics that were computed from others, and cannot be checked against these.
        other_task: whether it was evaluated in another task than it was trained in (env.training_kwargs).
    """

    metrics: dict
    training: dict
    evaluations: dict
    facts: dict
    assumed: tuple = ()
    transitions: Transition | None = None
    observation_scale: tuple | None = None
    observations: int | None = None
    names: dict = {}
    remarks: tuple = ()
    stopped: bool = False
    derived: tuple = ()
    other_task: bool = False

    def until(self, step):
        """The record as it was at that environment step, without the transitions, which have no step."""

        def cut(columns):
            keep = columns["step"] <= step if columns else slice(None)
            return {name: values[keep] for name, values in columns.items()}

        metrics, training, evaluations = cut(self.metrics), cut(self.training), cut(self.evaluations)
        return self._replace(
            metrics=metrics, training=training, evaluations=evaluations, transitions=None, stopped=False
        )


def read_run(logdir, facts=None, replay=True):
    """A run directory of tfsac, of a run that is over or still going on.

    Args:
        logdir: its path.
        facts: by name of FACTS; they win over the directory's.
        replay: whether to read the last checkpoint, too, which may hold gigabytes.

    Raises:
        UserError: no run there, or a damaged table.
    """
    logdir = Path(logdir)
    require(
        (logdir / "config.gin").is_file(),
        f"no {logdir}/config.gin: expected the directory of a run (--logdir of tfsac.train), or a .csv file",
    )
    settings = _settings(logdir / "config.gin")
    if "discount" in settings:
        settings.setdefault("tau", 1.0)  # an algorithm without target networks
    scale, transitions, observations, remarks = settings.pop("observation_scale", None), None, None, []
    other_task = any(settings.pop(name, None) for name in TRAINING)
    metrics, training, evaluations = (read_csv(logdir / f"{name}.csv") for name in TABLES)
    evaluations = means(evaluations)
    if replay:
        try:
            restored = checkpoint.restore(logdir / "checkpoints")
            transitions = _read_replay(restored)
            with checkpoint.reading(f"the checkpoint of step {restored.step}"):
                remembered = restored.env.remembered_actions * transitions.action.shape[1]
                seen = transitions.observation.shape[1] - remembered
                observations = seen // restored.env.observation_history  # the newest one comes first
                history = restored.facts.get("history", {})
                if any((logdir / f"{name}.csv").exists() for name in TABLES):
                    if any(history.values()):
                        remarks.append("the tables end where Python went on: its steps were not looked at")
                else:
                    metrics, training, evaluations = _read_history(history)
                    if not metrics:
                        remarks.append("this run has no tables, and no metrics in its history: was it trained at all?")
            settings["action_dim"] = transitions.action.shape[1]
        except (UserError, RunError) as error:  # the tables may still say what is wrong
            remarks.append(f"observations and actions were not looked at: {error}")
    settings |= facts or {}
    return Record(
        metrics=metrics,
        training=training,
        evaluations=evaluations,
        facts={name: value for name, value in settings.items() if name in FACTS and value is not None},
        transitions=transitions,
        observation_scale=scale,
        observations=observations,
        remarks=tuple(remarks),
        stopped=(logdir / "non_finite.npz").exists(),
        other_task=other_task,
    )


def read_table(path, columns=None, facts=None):
    """A CSV file of another program, one row for each log entry.

    Args:
        path: of the file. The columns of Stable-Baselines3's progress.csv are recognised.
        columns: its names of columns, by our names (COLUMNS).
        facts: by name of FACTS.

    Raises:
        UserError: no such file or column, or no step among the columns.
    """
    require(Path(path).is_file(), f"no {path}: expected a run directory or a CSV file")
    table, facts = read_csv_with_gaps(path), dict(facts or {})
    require(table, f"no row in {path} yet")
    names = {name: name for name in COLUMNS if name in table}
    if SB3["step"] in table:
        names |= {ours: theirs for ours, theirs in SB3.items() if theirs in table}
        facts = SB3_FACTS | facts
    for ours, theirs in (columns or {}).items():
        require(theirs in table, f"no column {theirs!r} in {path}: it has {', '.join(table)}")
        names[ours] = theirs
    require(
        "step" in names, f"no column of environment steps in {path}: name it with --column=step=NAME; "
        f"it has {', '.join(table)}",
    )  # fmt: skip
    counted = np.isfinite(table[names["step"]])
    require(np.any(counted), f"no number in the column {names['step']} of {path}")
    table = {ours: table[theirs][counted] for ours, theirs in names.items()}
    assumed = tuple(name for name in DEFAULTS if name not in facts)
    facts = {name: DEFAULTS[name] for name in assumed} | facts
    training = _rolling(table, "return", "length")
    evaluations = _rolling(table, "evaluation", "length")
    # A row may be of an evaluation alone: of the metrics only those count that come after a gradient step.
    metrics, derived = _completed(table, facts)
    losses = [name for name in ("q1_loss", "policy_loss") if name in metrics]
    if losses:
        kept = np.any([np.isfinite(metrics[name]) for name in losses], axis=0)
        kept |= np.any([np.isinf(metrics[name]) for name in losses], axis=0)
        metrics = {name: values[kept] for name, values in metrics.items()}
    shown = {ours: theirs for ours, theirs in names.items() if ours != theirs}
    shown |= {ours: f"{ours} by way of {names.get(by, by)}" for ours, by in derived.items()}
    return Record(metrics, training, evaluations, facts, assumed, names=shown, derived=tuple(derived))


def read_csv_with_gaps(path):
    """As `tables.read_csv`, for a program that may leave cells empty.

    An empty cell becomes NaN, a missing value; a written NaN becomes infinity, a loss that is no number.

    Raises:
        UserError: something in it is neither empty nor a number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: expected a CSV file") from error
    return columns(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()), path)


def columns(rows, path):
    """Columns as `read_csv_with_gaps` gives them, from rows of that file: dicts of text by column."""
    numbers = defaultdict(list)
    for row in rows:
        for name, cell in row.items():
            try:
                numbers[name].append(_number(cell))
            except (TypeError, ValueError) as error:
                raise UserError(f"{path}: expected numbers in the column {name}, received {cell!r}") from error
    return {name: np.array(values) for name, values in numbers.items()}


def means(evaluations):
    """The evaluation episodes of `evaluations.csv` -> the mean of each step, and its standard error."""
    if not evaluations:
        return {}
    steps = np.unique(evaluations["step"])
    columns = {name: evaluations[name] for name in ("return", "length") if name in evaluations}
    rows = [evaluations["step"] == step for step in steps]
    averaged = {name: np.array([values[row].mean() for row in rows]) for name, values in columns.items()}
    error = [np.std(evaluations["return"][row]) / np.sqrt(row.sum()) if row.sum() > 1 else np.nan for row in rows]
    return {"step": steps, "error": np.array(error)} | averaged


def _number(text):
    if text == "":
        return np.nan
    value = float(text)  # TypeError: a row that is too short
    return value if np.isfinite(value) else np.inf


def _settings(path):
    """config.gin -> what FACTS and TRAINING name, and observation_scale."""
    values = {}
    for dotted, value in config.read([path], []).items():
        values[dotted.rpartition(".")[2]] = value
    if values.get("observation_scale"):  # holds for each of several observations
        values["observation_scale"] = tuple(values["observation_scale"]) * values.get("observation_history", 1)
    return {name: values[name] for name in (*FACTS, "observation_scale", *TRAINING) if name in values}


def _read_history(history):
    """What an agent that Python trained and saved has instead of tables -> metrics, training, evaluations."""
    rows = [{"step": x["step"], "return": value} for x in history.get("evaluations", ()) for value in x["returns"]]
    metrics, training, evaluations = (
        {name: np.array([float(row[name]) for row in table]) for name in (table[0] if table else ())}
        for table in (history.get("metrics", []), history.get("episodes", []), rows)
    )
    return metrics, training, means(evaluations)


def _read_replay(restored):
    """The newest TRANSITIONS of a checkpoint, or a few more; all of them may not fit into memory."""
    observation_dim, *_, action_dim = restored.policy.sizes
    segments = [np.zeros([0, 2 * observation_dim + action_dim + 2], np.float32)]
    for segment in checkpoint.replay_segments(restored):
        segments.append(segment)
        while sum(map(len, segments[1:])) >= TRANSITIONS:
            del segments[0]
    return Transition.split(np.concatenate(segments), observation_dim, action_dim)


def _rolling(table, value, length):
    if value not in table:
        return {}
    kept = np.isfinite(table[value])
    # A mean of unknown episodes has no standard error.
    columns = {"step": table["step"], "return": table[value], "error": np.full(len(kept), np.nan)}
    if length in table:
        columns["length"] = table[length]
    return {name: values[kept] for name, values in columns.items()}


def _completed(table, facts):
    """Computes what Stable-Baselines3 does not log itself: both losses of Q, the entropy, Q at the policy's actions.

    -> the metrics, and for each computed one the column that it comes from.
    """
    derived = {}
    metrics = {name: values for name, values in table.items() if name not in ("return", "length", "evaluation")}
    if "critic_loss" in metrics:
        half = metrics.pop("critic_loss") / 2
        metrics = {"q1_loss": half, "q2_loss": half} | metrics
        derived |= {"q1_loss": "critic_loss", "q2_loss": "critic_loss"}
    target = facts.get("target_entropy", -facts["action_dim"] if "action_dim" in facts else None)
    if "entropy" not in metrics and target is not None and {"alpha", "alpha_loss"} <= set(metrics):
        # alpha_loss = -log alpha (E[log pi] + target), and the entropy is -E[log pi].
        with np.errstate(divide="ignore", invalid="ignore"):
            log_alpha = np.log(metrics["alpha"])
            entropy = target + metrics["alpha_loss"] / log_alpha
        metrics["entropy"] = np.where(np.abs(log_alpha) > 0.01, entropy, np.nan)  # the quotient of two small numbers
        derived["entropy"] = "alpha_loss"
    if "q1" not in metrics and {"policy_loss", "alpha", "entropy"} <= set(metrics):
        # policy_loss = E[alpha log pi - Q]
        metrics["q1"] = -metrics["policy_loss"] - metrics["alpha"] * metrics["entropy"]
        derived["q1"] = "policy_loss"
    return metrics, derived


def mean_reward(record):
    """The mean reward of a step in the replay, at each row of the metrics: [rows]; None if unknown.

    It is the mean over the training episodes that fit into the replay; if these are unknown, over the evaluations so
    far.
    """
    steps = record.metrics["step"]
    episodes = next((x for x in (record.training, record.evaluations) if len(x.get("length", ())) > 0), None)
    if episodes is None:
        return None
    held = record.facts.get("replay_capacity", np.inf)
    returns, lengths = (np.concatenate([[0.0], np.cumsum(episodes[name])]) for name in ("return", "length"))
    last = np.searchsorted(episodes["step"], steps, side="right")
    last = np.maximum(last, 1)  # before the first has ended: the first
    first = np.minimum(np.searchsorted(episodes["step"], steps - held, side="left"), last - 1)
    return (returns[last] - returns[first]) / (lengths[last] - lengths[first])
