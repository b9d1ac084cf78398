"""Examines a log of the device: whether the file answered as it does here, the rate, the delay, the ranges."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfsac.deploy.device_kit import run_policy
from tfsac.errors import UserError, require

LONGEST_DELAY = 10  # steps that are tried
CLEAR = 0.99  # a delay is called so if what it leaves unexplained is at most this part of what any other leaves


class Log(NamedTuple):
    """What `run_policy.py --log` wrote: seconds [T], observations [T, O] and commands [T, A]."""

    seconds: np.ndarray
    observations: np.ndarray
    actions: np.ndarray


def read(path, policy):
    """A log of this policy.

    Args:
        path: a CSV file with a line of names, then time, observation and action.
        policy: a `run_policy.Policy`.

    Raises:
        UserError: no such file, or not a log of this policy.
    """
    require(Path(path).is_file(), f"no {path}: expected a log written by run_policy.py --log")
    sensors, actions = policy.sensors, len(policy.facts["action"]["low"])
    try:
        with open(path, newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file)
            if rows and len(rows[-1]) < len(names):
                rows.pop()  # broken off while it was written
            values = np.array(rows, np.float64).reshape(len(rows), -1)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a log of run_policy.py: {error}") from error
    columns = 1 + sensors + actions
    require(
        values.shape[0] >= 2 and values.shape[1] == columns and np.all(np.isfinite(values[:, 0])),
        f"{path}: expected at least 2 rows of {columns} numbers (time, {sensors} observations, {actions} actions), "
        f"received {values.shape[0]} of {values.shape[1]}",
    )
    return Log(values[:, 0], values[:, 1 : 1 + sensors].astype(np.float32), values[:, 1 + sensors :].astype(np.float32))


def examine(path, policy_path):
    """Replays a log through the file, which remembers the commands of the log.

    Returns:
        Dict: steps; not_judged, how many of the first ones rest on readings from before the log, where it does not
        begin with the policy's start; disagreed (of the others those whose command differs from the file's by more than
        its tolerance, failed sensors included); largest_error and tolerance in parts of the span; rate_hz and
        trained_rate_hz; odd_periods, the share outside 0.8 to 1.2 of the control period; delay_steps, None if no delay
        explains the log clearly better than every other; unexplained, by delay, the share of the motion that it does
        not explain; outside, by name of an observation, the share of steps outside the range of training, if there are
        any.

    Raises:
        UserError: no such log or policy.
    """
    try:
        policy = run_policy.Policy(policy_path)
    except ValueError as error:
        raise UserError(f"{error}; a log is replayed through a .tflite file") from error
    require(not policy.samples, f"{policy_path} draws noise, which no log holds: take the file that ran, policy.tflite")
    log = read(path, policy)
    facts = policy.facts
    span = np.subtract(facts["action"]["high"], facts["action"]["low"])
    span = np.where(span > 0, span, 1)
    tolerance = float((facts.get("golden") or {}).get("tolerance", 1e-5))
    periods = np.diff(log.seconds)
    trained = facts.get("environment", {}).get("control_rate_hz")
    expected = 1 / trained if trained else float(np.median(periods))
    errors, judged, unknown = [], [], 0
    if log.seconds[0] > run_policy.SLOWEST * expected:  # a ring's last rows: what was remembered before is not in it
        past = facts.get("history", {"observations": 1, "actions": 0})
        unknown = max(past["observations"] - 1, past["actions"])
    policy.reset()
    elapsed = [None, *periods]
    for observation, seconds, command in zip(log.observations, elapsed, log.actions, strict=True):
        row, _ = policy.remember(observation, seconds)
        errors.append(np.inf if row is None else float(np.max(np.abs(policy.run(row) - command) / span)))
        policy.commanded(command)
        judged.append(unknown == 0)
        unknown -= unknown > 0 and row is not None
    errors = np.array(errors)[judged]
    finite = errors[np.isfinite(errors)]
    odd = (periods < run_policy.FASTEST * expected) | (periods > run_policy.SLOWEST * expected)
    unexplained = _unexplained(log)
    best = min(unexplained, key=unexplained.get) if unexplained else None
    clear = best is not None and all(
        unexplained[best] <= CLEAR * left for delay, left in unexplained.items() if delay != best
    )
    low, high = (np.float32(facts["observation"][name][: policy.sensors]) for name in ("low", "high"))
    outside = np.mean(~((log.observations >= low) & (log.observations <= high)), axis=0)
    names = facts["observation"]["names"]
    return {
        "steps": len(log.seconds),
        "not_judged": len(log.seconds) - len(errors),
        "disagreed": int(np.sum(~(errors <= tolerance))),
        "largest_error": float(finite.max()) if len(finite) else None,
        "tolerance": tolerance,
        "rate_hz": float(1 / np.median(periods)) if np.median(periods) > 0 else None,
        "trained_rate_hz": trained,
        "odd_periods": float(np.mean(odd)),
        "delay_steps": best if clear else None,
        "unexplained": unexplained,
        "outside": {name: float(x) for name, x in zip(names, outside, strict=False) if x > 0},
    }


def lines(examined):
    """The same for people."""
    steps = examined["steps"] - examined["not_judged"]
    agreed = steps - examined["disagreed"]
    said = "" if examined["largest_error"] is None else f"; largest error {examined['largest_error']:.2e} of the span"
    yield f"{agreed} of {steps} commands are the file's, to {examined['tolerance']:.0e} of the span{said}"
    if examined["not_judged"]:
        yield f"not judged: the first {examined['not_judged']} commands, which rest on readings from before the log"
    if examined["rate_hz"]:
        trained = f", trained for {examined['trained_rate_hz']:.4g} Hz" if examined["trained_rate_hz"] else ""
        yield (
            f"rate {examined['rate_hz']:.4g} Hz{trained}; {100 * examined['odd_periods']:.1f} % of the periods lie "
            f"outside {run_policy.FASTEST} to {run_policy.SLOWEST} of the control period"
        )
    if examined["delay_steps"] is None:
        yield "delay: no number of steps explains the log clearly better than all others; log a livelier motion"
    else:
        yield f"delay: a command shows in the observations as if it took effect {examined['delay_steps']} steps late"
    for name, share in examined["outside"].items():
        yield f"{name}: outside the range of training in {100 * share:.1f} % of the steps"
    if not examined["outside"]:
        yield "every observation lay inside the range of training"


def _unexplained(log):
    """By delay d, the part of the motion o_{t+1} - o_t that no linear function of o_t and a_{t-d} explains.

    The geometric mean over the observations, as in a Gaussian likelihood: most may feel no command within a step.
    """
    sound = np.all(np.isfinite(log.observations))
    first = min(LONGEST_DELAY, (len(log.seconds) - 1) // 3)  # so that every delay is held to the same steps
    present = np.float64(log.observations[first:-1])
    motion = np.float64(log.observations[first + 1 :]) - present
    scale = motion.std(axis=0)
    if not sound or len(motion) < 3 * (present.shape[1] + log.actions.shape[1] + 1) or not np.any(scale > 0):
        return {}
    motion = ((motion - motion.mean(axis=0)) / np.where(scale > 0, scale, 1))[:, scale > 0]
    left = {}
    for delay in range(first + 1):
        commands = np.float64(log.actions[first - delay : len(log.actions) - 1 - delay])
        inputs = np.column_stack([np.ones(len(present)), present, commands])
        fitted = inputs @ np.linalg.lstsq(inputs, motion, rcond=None)[0]
        shares = np.mean((motion - fitted) ** 2, axis=0)  # of a variance of 1
        left[delay] = float(np.exp(np.mean(np.log(np.maximum(shares, 1e-9)))))
    return left
