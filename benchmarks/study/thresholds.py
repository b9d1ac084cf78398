"""The diagnosis's thresholds from the study's runs: python benchmarks/study/thresholds.py

Writes tfsac/diagnosis/thresholds.py, and the table of docs/symptoms.md, from the first two seeds of everything in
results/ (of Stable-Baselines3's runs: the first); the others are the test, in tests/test_diagnose.py. A threshold lies
half-way between the healthy run and the run with the fault that are nearest to each other, on a scale of ratios where
the measure is one. Where no run with the fault is known, it lies as far beyond the others as they are from each other.
"""

import math
from pathlib import Path
from typing import NamedTuple

import labelled
import numpy as np

from tfsac.diagnosis.findings import diagnose
from tfsac.diagnosis.measures import MEASURES, View
from tfsac.diagnosis.record import Record
from tfsac.diagnosis.symptoms import STRONG, SYMPTOMS
from tfsac.diagnosis.thresholds import Threshold

ROOT = Path(labelled.__file__).parents[2]
OUT, DOCUMENT = ROOT / "tfsac" / "diagnosis" / "thresholds.py", ROOT / "docs" / "symptoms.md"
MARK = "<!-- written by benchmarks/study/thresholds.py -->\n"
SEEDS = (0, 1)


class Spec(NamedTuple):
    """How one threshold comes about.

    Attributes:
        measure, side: what is suspicious is on that side.
        faulty: names of faults that it tells ...
        others: ... from these; 'none' are the healthy runs.
        ratio: whether the measure is one, so that the middle is the geometric mean.
    """

    measure: str
    side: str
    faulty: tuple = ()
    others: tuple = ("none",)
    ratio: bool = True


RANDOM = ("no_gradient_through_q", "b_against_b1")  # the policy stays as random as it can be
STILL = ("target_never_moves", "average_as_printed")
REWARDS_SMALL = ("no_reward_scale", "rewards_small")
SPECS = {
    "entropy_depth": Spec("entropy_depth", "above", ("wrong_sign_of_entropy",)),
    "loss_sign": Spec("loss_sign", "below", ("policy_minimises_q",), ratio=False),
    "q_reach": Spec("q_reach", "below", STILL),
    "q_growth": Spec("q_growth", "below", STILL),
    "value_loss_held": Spec("value_loss", "above", ("average_as_printed",), ("target_never_moves",)),
    "limit_error": Spec("limit_error", "above", ("time_limit_is_terminal",)),
    "relative_q_error": Spec("relative_q_error", "above", ("time_limit_is_terminal",)),
    "q_loss_floor": Spec("q_loss_floor", "above", ("b_against_b1",), ("no_gradient_through_q",)),
    "entropy_gap": Spec("entropy_gap", "below", RANDOM),
    "entropy_near": Spec("entropy_gap", "below", REWARDS_SMALL),
    "value_loss": Spec("value_loss", "above", ("replay_actions_for_v",)),
    "entropy_share": Spec("entropy_share", "above", REWARDS_SMALL, ("none", *RANDOM)),
    "entropy_share_to_come": Spec("entropy_share_to_come", "above", REWARDS_SMALL, ("none", *RANDOM)),
    "exchange_low": Spec("exchange_at_first", "below", ("rewards_large",)),
    "alpha_growth": Spec("alpha_growth", "above", ("rewards_large",)),
    "q_bias_high": Spec("q_bias", "above", ratio=False),
    "q_bias_low": Spec("q_bias", "below", ratio=False),
}
# Of what only whole runs show; nothing clear hangs on these.
LEARNED = ("none", "one_q", "no_tanh_correction", "replay_actions_for_v", "time_limit_is_terminal")  # more or less
WHOLE_SPECS = {
    "saturation": Spec("saturation", "above", ("wrong_sign_of_entropy",), LEARNED),
    "policy_gradient": Spec("policy_gradient", "below", (*RANDOM, *STILL), LEARNED),
    "q_gradient": Spec("q_gradient", "above", others=LEARNED),
    "evaluation_gap": Spec("evaluation_gap", "below", others=(*LEARNED, *RANDOM, *STILL), ratio=False),
    "largest_observation": Spec("largest_observation", "above", others=("task",)),
    "smallest_observation": Spec("smallest_observation", "below", others=("task",)),
}
EXACT = {  # by definition: a density has no more, a loss is a number, alpha moves one way or the other
    "not_finite": Threshold(0.0),
    "entropy_excess": Threshold(0.0),
    "alpha_sign": Threshold(0.0),
    "other_returns": Threshold(0.01),
    "terminal_ends": Threshold(0.5),
    "share_held": Threshold(1.0),  # nothing is lost before the replay is full
    "constant_observations": Threshold(0.0),
}


def middle(spec, measured):
    """The threshold of a Spec.

    Args:
        spec: the Spec.
        measured: values by name of the fault.

    Returns:
        A Threshold, or None where a side has no run.
    """
    high, faulty = spec.side == "above", _of(measured, spec.faulty)
    healthy, others = _of(measured, ("none",)), _of(measured, spec.others)
    if not others or (spec.faulty and not faulty):
        return None
    near = max(others) if high else min(others)
    if not spec.faulty:
        width = max(others) / min(others) if spec.ratio else max(others) - min(others)
        if spec.ratio:
            return Threshold(near * width if high else near / width, _range(others), None)
        return Threshold(near + width if high else near - width, _range(others), None)
    far = min(faulty) if high else max(faulty)
    value = math.sqrt(near * far) if spec.ratio else round((near + far) / 2, 3)
    # Where other conditions tell healthy runs, this one need not.
    told = all(x < value for x in healthy) if high else all(x > value for x in healthy)
    return Threshold(value, _range(healthy) if told else None, _range(faulty))


def derive(runs, specs=SPECS):
    """Thresholds by name, from Labelled runs; those are missing for which there is no run with the fault."""
    measured = {}
    for run in runs:
        for name, value in measures(run).items():
            measured.setdefault(name, {}).setdefault(run.fault, []).append(value)
    thresholds = {name: middle(spec, measured.get(spec.measure, {})) for name, spec in specs.items()}
    exact = {
        name: threshold._replace(healthy=_range(_of(measured.get(name, {}), ("none",))))
        for name, threshold in EXACT.items()
    }
    if thresholds.get("exchange_low"):  # what alpha has grown from is the same as what it is, where it cannot grow
        healthy = _range(_of(measured["exchange"], ("none",)))
        thresholds["exchange_now"] = Threshold(thresholds["exchange_low"].value, healthy)
    return exact | {name: threshold for name, threshold in thresholds.items() if threshold}


def measures(run):
    """Values by name of the measures that the run has."""
    view = View(run.record)
    with np.errstate(all="ignore"):
        own = {name: measure(view) for name, measure in MEASURES.items()}
    return run.measured | {name: x.value for name, x in own.items() if x is not None}


def observed():
    """What is known of the tasks' observations, as if each task were a run."""
    sizes = labelled.observation_sizes()
    names = "largest_observation", "smallest_observation"
    empty = Record({}, {}, {}, {})
    return [
        labelled.Labelled(task, "task", task, "", 0, empty, dict(zip(names, x, strict=True)))
        for task, x in sizes.items()
    ]


def setbacks(healthy):
    """Thresholds of how far the return may fall back: the largest setback of each run at any time.

    What half of the healthy runs have is worth no word, what none has is suspicious.
    """
    largest = []
    for run in healthy:
        steps = run.record.evaluations["step"]
        found = [MEASURES["setback"](View(run.record.until(step))) for step in steps]
        largest.append(max((x.value for x in found if x is not None), default=0.0))
    return {
        "setback": Threshold(float(np.median(largest)), _range(largest)),
        "setback_large": Threshold(max(largest), _range(largest)),
    }


def min_updates(healthy, thresholds):
    """Half as many gradient steps again as the last at which a healthy run has a clear finding; in hundreds.

    Every row of the first 10,000 steps is looked at, and of the later ones every tenth.
    """
    latest = 0
    for run in healthy:
        steps = run.record.metrics["step"]
        for step in [*steps[steps <= 10_000], *steps[steps > 10_000][::10]]:
            diagnosis = diagnose(run.record.until(step), thresholds, 0)
            if any(finding.symptom.level == STRONG for finding in diagnosis.findings):
                latest = max(latest, diagnosis.updates)
    return math.ceil(1.5 * latest / 100) * 100


def calibrated(seeds=SEEDS):
    """-> all thresholds by name, and min_updates; the clear ones from these seeds alone."""
    runs, whole, sb3 = (list(x()) for x in (labelled.labelled_runs, labelled.whole_runs, labelled.sb3_runs))
    known = [run for run in runs + whole if run.seed in seeds] + [run for run in sb3 if run.seed == 0]
    healthy = [run for run in runs if run.seed in seeds and run.fault == "none"]
    thresholds = derive(whole + observed(), WHOLE_SPECS) | derive(known) | setbacks(healthy)
    return thresholds, min_updates(healthy, thresholds)


def _of(measured, faults):
    return [value for fault in faults for value in measured.get(fault, ())]


def _range(values):
    return (min(values), max(values)) if values else None


HEAD = '''"""Where healthy ends: numbers from the study's runs. benchmarks/study/thresholds.py writes this file.

value: between healthy and faulty runs; healthy, faulty: the least and the most of these runs, None where there is none.
"""

from typing import NamedTuple


class Threshold(NamedTuple):
    """See the module's docstring."""

    value: float
    healthy: tuple[float, float] | None = None
    faulty: tuple[float, float] | None = None


'''


def written(thresholds, updates):
    """The file's text."""
    lines = [f"MIN_UPDATES = {updates}  # gradient steps before which every run looks odd", "", "THRESHOLDS = {"]
    for name, threshold in sorted(thresholds.items()):
        healthy, faulty = (x and tuple(map(short, x)) for x in (threshold.healthy, threshold.faulty))
        lines.append(f'    "{name}": Threshold({short(threshold.value)!r}, {healthy!r}, {faulty!r}),')
    return HEAD + "\n".join(lines) + "\n}\n"


def short(value):
    """To three digits."""
    return float(f"{value:.3g}") + 0.0  # no minus before 0


def table(thresholds):
    """The same for docs/symptoms.md."""
    lines = [
        "| threshold | what is measured | suspicious | healthy runs | runs with the fault |",
        "|---|---|---|---|---|",
    ]
    conditions = {c.threshold: c for symptom in SYMPTOMS for x in symptom.alternatives for c in x}
    for name, threshold in sorted(thresholds.items()):
        ranges = [f"{short(x[0]):g} to {short(x[1]):g}" if x else "" for x in (threshold.healthy, threshold.faulty)]
        text = MEASURES[conditions[name].measure].text.replace("|", r"\|")
        side = f"{conditions[name].side} {short(threshold.value):g}"
        lines.append(f"| `{name}` | {text} | {side} | {' | '.join(ranges)} |")
    return "\n".join(lines)


def main():
    thresholds, updates = calibrated()
    OUT.write_text(written(thresholds, updates))
    text = DOCUMENT.read_text()
    head, mark, _ = text.partition(MARK)
    DOCUMENT.write_text(head + mark + "\n" + table(thresholds) + "\n")
    print(f"wrote {OUT} and the table of {DOCUMENT}")


if __name__ == "__main__":
    main()
