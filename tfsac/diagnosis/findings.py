"""From measures to findings: the symptoms of a run, strongest first, each with its evidence."""

import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfsac.diagnosis.measures import MEASURES, Measurement, View
from tfsac.diagnosis.record import FACTS, read_run
from tfsac.diagnosis.symptoms import NOTE, POSSIBLE, STRONG, SYMPTOMS, Condition, Symptom
from tfsac.diagnosis.thresholds import MIN_UPDATES, THRESHOLDS, Threshold
from tfsac.errors import UserError

WIDTH = 110  # characters of a line
LEVELS = (STRONG, POSSIBLE, NOTE)


class Evidence(NamedTuple):
    """A condition that holds, with its numbers."""

    condition: Condition
    measurement: Measurement
    threshold: Threshold


class Finding(NamedTuple):
    """A symptom that the run has.

    Attributes:
        symptom: which.
        evidence: of each condition, the most telling first.
        cause: the symptom that explains this one, or None.
    """

    symptom: Symptom
    evidence: list
    cause: Symptom | None = None


class Diagnosis(NamedTuple):
    """The findings in a record.

    Attributes:
        findings: strongest first, causes before effects; those that another finding explains are at the end.
        looked: how many symptoms could be looked for.
        unseen: symptoms that could not, with what the record lacks: [(Symptom, names of columns, facts or tables)].
        updates: gradient steps of the record.
        too_early: whether these are too few for a judgement.
    """

    findings: list
    looked: int
    unseen: list
    updates: int
    too_early: bool

    @property
    def suspicious(self):
        """Findings that are more than notes."""
        return [finding for finding in self.findings if finding.symptom.level != NOTE]


def diagnose(record, thresholds=THRESHOLDS, min_updates=MIN_UPDATES):
    """Looks for every symptom.

    Args:
        record: a `Record`.
        thresholds: by name, as THRESHOLDS; a symptom without its threshold is not looked for.
        min_updates: gradient steps before which only NaN and infinity are looked for: every run looks odd at the start.

    Returns:
        A Diagnosis.
    """
    view = View(record)
    with np.errstate(all="ignore"):
        measured = {name: measure(view) for name, measure in MEASURES.items()}
        updates = int(view.updates[-1]) if view.rows else 0
    too_early = updates < min_updates
    findings, unseen, looked = [], [], 0
    for symptom in SYMPTOMS:
        if too_early and symptom.name != "not_finite":
            continue
        finding = _find(symptom, measured, thresholds)
        if finding:
            findings.append(finding)
        if any(all(measured[c.measure] for c in conditions) for conditions in symptom.alternatives):
            looked += 1
        else:
            unseen.append((symptom, _lacking(symptom, measured, view)))
    return Diagnosis(_ranked(findings), looked, unseen, updates, too_early)


def _find(symptom, measured, thresholds):
    for conditions in symptom.alternatives:
        if all(_holds(condition, measured, thresholds) for condition in conditions):
            return Finding(symptom, [Evidence(c, measured[c.measure], thresholds[c.threshold]) for c in conditions])
    return None


def _holds(condition, measured, thresholds):
    measurement, threshold = measured[condition.measure], thresholds.get(condition.threshold)
    if measurement is None or threshold is None:
        return False
    above = measurement.value > threshold.value
    return above if condition.side == "above" else measurement.value < threshold.value


def _lacking(symptom, measured, view):
    """What the first alternative of the symptom lacks; nothing if it is too early, or if it does not apply."""
    lacking = []
    for condition in symptom.alternatives[0]:
        if measured[condition.measure] is None:
            measure = MEASURES[condition.measure]
            lacking += [name for name in measure.columns if name not in view.metrics]
            lacking += [name for name in measure.facts if name not in view.facts]
            lacking += [name for name in measure.tables if not view.has_table(name)]
    return tuple(dict.fromkeys(lacking))


def _ranked(findings):
    """By level, then as in SYMPTOMS; findings that a clear one explains are at the end."""
    causes = {}
    for finding in findings:
        if finding.symptom.level == STRONG and finding.symptom.name not in causes:
            causes |= {name: finding.symptom for name in finding.symptom.explains if name not in causes}
    findings = [finding._replace(cause=causes.get(finding.symptom.name)) for finding in findings]
    return sorted(findings, key=lambda x: (x.cause is not None, LEVELS.index(x.symptom.level)))  # stable


def described(diagnosis, record):
    """The diagnosis in words, as lines."""
    lines = [_head(diagnosis, record), ""]
    if diagnosis.too_early:
        lines += [f"Too early to say: every run looks odd before {MIN_UPDATES:,} gradient steps. Ask again then.", ""]
    for number, finding in enumerate((x for x in diagnosis.findings if not x.cause), start=1):
        lines += [f"{number}. {finding.symptom.level}: {finding.symptom.title}", *_details(finding, record), ""]
    followers = [x for x in diagnosis.findings if x.cause]
    if followers:
        lines += ["Seen as well, and explained by these:"]
        for x in followers:
            lines += _wrapped("   ", f"{x.symptom.title}: {_seen(x.evidence[0], record)}")
        lines += [""]
    if not diagnosis.suspicious and not diagnosis.too_early:
        lines += [_all_clear(diagnosis), ""]
    lines += _remarks(diagnosis, record)
    return lines


def _all_clear(diagnosis):
    every = diagnosis.looked + sum(bool(lacking) for _, lacking in diagnosis.unseen)
    if diagnosis.looked < every / 2:
        return f"Nothing is suspicious, but only {diagnosis.looked} of {every} symptoms could be looked for."
    return f"All looks healthy: of the {diagnosis.looked} symptoms that were looked for the run has none."


def _remarks(diagnosis, record):
    lines, by_lack = [], {}
    for symptom, lacking in diagnosis.unseen:
        if lacking:
            by_lack.setdefault(lacking, {})[symptom.title] = None
    for lacking, titles in by_lack.items():
        lines += _wrapped("", f"Not looked for, without {', '.join(lacking)}: {'; '.join(titles)}.")
    if any(set(lacking) & set(FACTS) for lacking in by_lack):
        lines += ["   --fact=NAME=VALUE gives what the file does not say, such as --fact=action_dim=1."]
    for remark in record.remarks:
        lines += _wrapped("", f"Remark: {remark}.")
    if record.assumed:
        assumed = ", ".join(f"{name} = {record.facts[name]:g}" for name in record.assumed)
        lines += [f"Assumed: {assumed}; --fact=NAME=VALUE says otherwise."]
    return lines


def one_line(logdir, action_dim, command="python -m tfsac.diagnose", finished=True):
    """One line for `tfsac.train` about its own run, from the tables alone; or None.

    Args:
        logdir: the run directory.
        action_dim: size A.
        command: the command that says more.
        finished: whether the run is over. Before that, only clear findings are reported.
    """
    try:
        diagnosis = diagnose(read_run(Path(logdir), {"action_dim": action_dim}, replay=False))
    except (UserError, OSError):  # a table that cannot be read is no reason to end a run
        return None
    more = f"{command} {shlex.quote(str(logdir))}"
    clear = [x for x in diagnosis.findings if x.symptom.level == STRONG and not x.cause]
    if clear:
        return f"something is wrong: {_lower(clear[0].symptom.title)}; {more} says more"
    if not finished:
        return None
    if diagnosis.too_early:
        return f"too early to say whether it learns; later: {more}"
    if diagnosis.suspicious:
        return f"perhaps something is wrong: {_lower(diagnosis.suspicious[0].symptom.title)}; {more} says more"
    return f"nothing looks wrong; {more} says what was looked at"


def observation_scale(record):
    """A ready `observation_scale`: 1 / standard deviation of each observation, to one digit; 1 if it never changes."""
    observation = record.transitions.observation[:, : record.observations]
    deviations, constant = np.std(observation.astype(np.float64), axis=0), np.ptp(observation, axis=0) == 0
    return tuple(1.0 if c else float(f"{1 / x:.0e}") for x, c in zip(deviations, constant, strict=True))


def _head(diagnosis, record):
    words = [f"{diagnosis.updates:,} gradient steps"]
    if len(record.metrics.get("step", ())):
        words.insert(0, f"{int(record.metrics['step'][-1]):,} environment steps")
    for name, episodes in (("training", record.training), ("evaluation", record.evaluations)):
        returns = episodes.get("return", ())
        if len(returns) > 1:
            few = max(1, len(returns) // 10)
            first, last = np.mean(returns[:few]), np.mean(returns[-few:])
            words.append(f"{name} return from {first:.4g} to {last:.4g}")
    return ", ".join(words)


def _details(finding, record):
    symptom, lines = finding.symptom, []
    for evidence in finding.evidence:
        lines += _wrapped("   seen      ", _seen(evidence, record)) + [f"   healthy   {_healthy(evidence)}"]
    lines += _wrapped("   meaning   ", symptom.meaning) + _wrapped("   try       ", symptom.remedy)
    if symptom.name == "observations_differ":
        lines += [f"             observation_scale = {_shown_scale(observation_scale(record))}"]
    return [*lines, f"   more      {symptom.anchor}"]


def _wrapped(label, text):
    """Lines of at most WIDTH characters; the second and later ones are indented by the label's width."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=label, subsequent_indent=" " * len(label), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _seen(evidence, record):
    measure, (value, columns, first, last) = MEASURES[evidence.condition.measure], evidence.measurement
    source = [record.names.get(name, name) for name in columns] or list(measure.tables)
    return f"{measure.text}: {value:.3g} ({', '.join(source)}; steps {first:,} to {last:,})"


def _healthy(evidence):
    threshold = evidence.threshold
    runs = "{:.3g} to {:.3g} in healthy runs; ".format(*threshold.healthy) if threshold.healthy else ""
    return f"{runs}suspicious {evidence.condition.side} {threshold.value:.3g}"


def _shown_scale(scale):
    return "(" + ", ".join(f"{x:g}" for x in scale) + ("," if len(scale) == 1 else "") + ")"


def _lower(title):
    """A title inside a sentence: names of one letter keep their capital."""
    return title if title.split()[0] in ("Q", "V") else title[0].lower() + title[1:]
