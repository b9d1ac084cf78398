"""The measures of a run: each is one number that does not depend on the task's units.

A row of metrics is one moment of the run. A measure is the median over the last quarter of the rows, unless it says
otherwise: single rows are noise. It is None if the record lacks what it needs.

Symbols: c is the factor of the rewards and w that of the entropy (`sac`: 1 and alpha, `sac_v1`: reward_scale and 1),
r the mean reward of a step in the replay, H the entropy, A the number of actions, gamma the discount.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from tfsac.diagnosis.record import DEFAULTS, mean_reward

LOG_2 = math.log(2)  # the entropy of the uniform density on [-1, 1]: no density there has more
MEASURES = {}


class Measurement(NamedTuple):
    """One number and where it comes from."""

    value: float
    columns: tuple  # our names
    first: int  # environment steps
    last: int


def _measure(*columns, facts=(), tables=(), text):
    """Registers a measure: a function from a View to a number, or None if the record does not hold it.

    Args:
        columns: metrics that it needs, finite in the last quarter of the rows.
        facts, tables: those that it needs, of FACTS and of View.has_table.
        text: the number in words.
    """

    def register(function):
        def measure(view):
            complete = all(view.has(name) for name in columns) and all(name in view.facts for name in facts)
            value = function(view) if complete and all(view.has_table(name) for name in tables) else None
            if value is None or np.isnan(value):
                return None
            return Measurement(float(value), columns, *view.span(function.__name__))

        MEASURES[function.__name__] = measure
        measure.text, measure.columns, measure.facts, measure.tables = text, columns, facts, tables
        return function

    return register


class View:
    """The record's arrays [rows] as the measures need them.

    Attributes:
        late: the last quarter of the rows, four at least.
    """

    def __init__(self, record):
        self.record, self.metrics = record, record.metrics
        self.facts = DEFAULTS | record.facts
        self.rows = len(self.metrics.get("step", ()))
        self.late = slice(-max(4, self.rows // 4), None)
        self.scaled_rewards = "v_loss" in self.metrics

    def has(self, name):
        values = self.metrics.get(name)
        return values is not None and self.rows > 0 and bool(np.all(np.isfinite(values[self.late])))

    def has_table(self, name):
        """Whether the record has training episodes, evaluations, either of them ('episodes'), or the replay."""
        episodes = {"training": self.record.training, "evaluations": self.record.evaluations}
        if name == "replay":
            return self.record.transitions is not None and len(self.record.transitions.action) >= 100
        if name == "episodes":
            return any(len(x.get("length", ())) > 1 for x in episodes.values())
        return len(episodes[name].get("step", ())) > 0

    def span(self, name):
        if not self.rows:
            return 0, 0
        steps = self.metrics["step"][slice(None) if name in _ALL_ROWS else self.late]
        return int(steps[0]), int(steps[-1])

    def median(self, values):
        return float(np.median(values[self.late]))

    def __getitem__(self, name):
        return self.metrics[name]

    @functools.cached_property
    def updates(self):
        """Gradient steps so far, 1 at least."""
        if "updates" in self.metrics:
            updates = self["updates"]
        else:
            updates = (self["step"] - self.facts["start_steps"]) * self.facts["updates_per_step"]
        return np.clip(np.nan_to_num(updates, nan=1.0), 1.0, 1e15)

    def discounted(self, per_step):
        """The share of per_step, a quantity that each step adds, in a target network at each row: [rows] -> [rows].

        For Q = b + gamma Q-bar and Q-bar <- Q-bar + tau (Q - Q-bar) after each gradient step, the target is a geometric
        series in n: Q-bar_n = b / (1 - gamma) + (Q-bar_0 - b / (1 - gamma)) (1 - tau (1 - gamma))^n, from Q-bar_0 = 0;
        b changes from row to row. As an approximation, Q follows its target at once.
        """
        gap = max(1 - self.facts["discount"], 1e-6)
        kept = (1 - min(self.facts["tau"] * gap, 1.0)) ** np.diff(self.updates, prepend=0)
        target, targets = 0.0, []
        for step, share in zip(_filled(per_step), kept, strict=True):
            target = step / gap + (target - step / gap) * share
            targets.append(target)
        return np.array(targets)

    @functools.cached_property
    def entropy_part(self):
        """The part of Q that is entropy: gamma (w H + the target's part)."""
        bonus = _filled(self.temperature * self["entropy"])
        discount = self.facts["discount"]
        return discount * (bonus + self.discounted(discount * bonus))

    @functools.cached_property
    def reward_part(self):
        """The part of Q that is rewards: c r + gamma times the target's part."""
        return self.reward + self.facts["discount"] * self.discounted(self.reward)

    @functools.cached_property
    def reward(self):
        """c r, the reward of a step as Q sees it; None if unknown."""
        mean = mean_reward(self.record)
        return None if mean is None else mean * (self.facts["reward_scale"] if self.scaled_rewards else 1.0)

    @functools.cached_property
    def temperature(self):
        """w."""
        return np.ones(self.rows) if self.scaled_rewards else self["alpha"]

    @functools.cached_property
    def alpha_left(self):
        """The share of alpha that is left at the run's end if it falls on as in the last quarter: as exp(-rate n)."""
        steps = self.facts.get("total_steps", 0) - self["step"][-1]
        if self.scaled_rewards or steps <= 0:
            return 1.0
        alpha, updates = self["alpha"][self.late], self.updates[self.late]
        rate = np.log(alpha[0] / alpha[-1]) / max(updates[-1] - updates[0], 1.0)
        return math.exp(-max(rate, 0.0) * steps * self.facts["updates_per_step"])

    @functools.cached_property
    def q_loss(self):
        """The mean of both."""
        both = [self[name] for name in ("q1_loss", "q2_loss") if self.has(name)]
        return sum(both) / len(both)

    @functools.cached_property
    def q_size(self):
        """The largest |Q| so far: Q itself may pass through 0."""
        return np.fmax.accumulate(np.abs(self["q1"]))

    @functools.cached_property
    def horizon(self):
        """How many steps' rewards Q can hold by now."""
        return 1 + self.facts["discount"] * self.discounted(np.ones(self.rows))

    @functools.cached_property
    def expected_size(self):
        """|Q| if rewards and entropy did not cancel at all."""
        per_step = np.abs(self.reward) + np.abs(_filled(self.temperature * self["entropy"]))
        return per_step + self.facts["discount"] * self.discounted(per_step)

    @functools.cached_property
    def never_terminated(self):
        """Whether the replay is known, and holds no terminal transition."""
        transitions = self.record.transitions
        return transitions is not None and not np.any(transitions.terminated)

    @functools.cached_property
    def equal_lengths(self):
        """The length of every episode so far, if all are equal; else None."""
        for episodes in (self.record.training, self.record.evaluations):
            lengths = episodes.get("length", ())
            if len(lengths) > 1:  # one alone says nothing
                return float(lengths[0]) if np.ptp(lengths) == 0 < lengths[0] else None
        return None


_ALL_ROWS = {
    "not_finite",
    "other_returns",
    "loss_sign",
    "q_growth",
    "q_loss_floor",
    "alpha_growth",
    "exchange_at_first",
    "alpha_sign",
    "setback",
}


@_measure(text="columns that hold what is no number")
def not_finite(view):
    """How many, or 1 where the run itself stopped for that reason."""
    return max(sum(bool(np.any(np.isinf(x))) for x in view.metrics.values()), int(view.record.stopped))


@_measure(tables=["training"], text="share of the training episodes whose return is another than the first one's")
def other_returns(view):
    """None of fewer than five episodes."""
    returns = view.record.training["return"]
    return np.mean(returns[1:] != returns[0]) if len(returns) >= 5 else None


@_measure("policy_loss", "q1", "entropy", "alpha", text="agreement of policy_loss with -Q - alpha entropy, -1 to 1")
def loss_sign(view):
    """Cosine between Q and -policy_loss - w H, which is E[Q(s, a)] for the policy's own actions."""
    if "q1" in view.record.derived:
        return None
    ours = -view["policy_loss"] - view.temperature * view["entropy"]
    q, kept = view["q1"], np.isfinite(view["q1"]) & np.isfinite(ours)
    ours, q = ours[kept], q[kept]
    return _cosine(ours, q)


@_measure("entropy", facts=["action_dim"], text="entropy of each action above log 2, in nats")
def entropy_excess(view):
    """H / A - log 2."""
    return view.median(view["entropy"]) / view.facts["action_dim"] - LOG_2


@_measure("entropy", facts=["action_dim"], text="entropy of each action below 0, in nats")
def entropy_depth(view):
    """-H / A."""
    return -view.median(view["entropy"]) / view.facts["action_dim"]


@_measure("entropy", facts=["action_dim"], text="entropy of each action below log 2, in nats")
def entropy_gap(view):
    """log 2 - H / A."""
    return LOG_2 - view.median(view["entropy"]) / view.facts["action_dim"]


@_measure(
    "q1",
    "entropy",
    "alpha",
    tables=["episodes"],
    text="|Q|, as a share of what rewards and entropy would add up to by now",
)
def q_reach(view):
    """|Q| / (horizon (|c r| + |w H|)); None where no target network may be still.

    Q then follows the policy at once, and a policy that is far better than the replay's has Q near 0 on its way up.
    """
    if view.facts["tau"] == 1:
        return None
    per_step = np.abs(view.reward) + np.abs(view.temperature * view["entropy"])
    return view.median(np.abs(view["q1"]) / (view.horizon * per_step))


@_measure("v_loss", text="v_loss, in nats squared")
def value_loss(view):
    """V's loss. Q - log pi is constant over the actions of the best policy, so the unit is the temperature's."""
    return view.median(view["v_loss"])


@_measure("q1", text="largest |Q|, as a multiple of its largest in the first 1,000 gradient steps")
def q_growth(view):
    """max |Q| / max |Q| up to there."""
    early = (view.updates <= 1000) & np.isfinite(view["q1"])
    if not np.any(early):
        return None
    return np.nanmax(np.abs(view["q1"])) / np.max(np.abs(view["q1"][early]))


@_measure(
    "q1_loss",
    "q1",
    tables=["episodes"],
    text="q1_loss, as a share of what an episode's end taken as terminal makes of it",
)
def limit_error(view):
    """2 loss L / max |Q|^2, where every episode has the same length L.

    One transition in L has r as its target instead of r + gamma V(s'), which Q cannot foresee: its error there is |Q|.
    """
    if view.equal_lengths is None or view.never_terminated:
        return None
    return view.median(2 * view.q_loss * view.equal_lengths / view.q_size**2)


@_measure(tables=["episodes"], text="error of Q that such an end would leave, as a share of |Q|")
def limit_trace(view):
    """1 / sqrt(L): in long episodes this error is too small beside the other errors of Q."""
    return None if view.equal_lengths is None else 1 / math.sqrt(view.equal_lengths)


@_measure("q1_loss", "q1", text="error of Q, as a share of the largest |Q|")
def relative_q_error(view):
    """sqrt(2 loss) / max |Q|."""
    return view.median(np.sqrt(2 * view.q_loss) / view.q_size)


@_measure("q1_loss", text="smallest q1_loss, as a share of the first")
def q_loss_floor(view):
    """min loss / first loss, over all rows."""
    first = _first(view.q_loss)
    return np.nanmin(view.q_loss) / first if first > 0 else None


@_measure("q1", "entropy", "alpha", text="entropy's share of Q")
def entropy_share(view):
    """E / (|E| + |Q - E|), where E is the part of Q that is entropy; the rest is rewards."""
    return _share_of_entropy(view, view.entropy_part)


@_measure("q1", "entropy", "alpha", text="entropy's share of Q at the end of the run, if alpha falls on as it does")
def entropy_share_to_come(view):
    """As entropy_share, with E times the share of alpha that will be left. Rewards are as they are."""
    return _share_of_entropy(view, view.entropy_part * view.alpha_left)


@_measure(
    "alpha",
    facts=["action_dim"],
    tables=["episodes"],
    text="alpha times the number of actions, beside the reward of a step",
)
def exchange(view):
    """w A / |c r|."""
    with np.errstate(divide="ignore"):
        return view.median(view.temperature * view.facts["action_dim"] / np.abs(view.reward))


@_measure(
    "alpha",
    facts=["action_dim"],
    tables=["episodes"],
    text="the first alpha for each action, beside the reward of a step",
)
def exchange_at_first(view):
    """w A / |c r|, with w as it was in the first row."""
    with np.errstate(divide="ignore"):
        return view.median(_first(view.temperature) * view.facts["action_dim"] / np.abs(view.reward))


@_measure("alpha", text="alpha, as a multiple of what it was at the start")
def alpha_growth(view):
    """alpha / first alpha."""
    first = _first(view["alpha"])
    return view.median(view["alpha"]) / first if first > 0 else None


@_measure(
    "q1",
    "entropy",
    "alpha",
    tables=["episodes"],
    text="Q less what rewards and entropy add up to, as a share of their sizes",
)
def q_bias(view):
    """(Q - what rewards and entropy add up to) / the sum of their sizes."""
    return view.median((view["q1"] - view.reward_part - view.entropy_part) / view.expected_size)


@_measure("alpha", "entropy", facts=["action_dim"], text="agreement of alpha's movement with target - entropy, -1 to 1")
def alpha_sign(view):
    """Cosine between the steps of log alpha and Hbar - H, over all rows: alpha has to rise where the entropy is low."""
    if "entropy" in view.record.derived:
        return None
    target = view.facts.get("target_entropy", -view.facts["action_dim"])
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.diff(np.log(view["alpha"]))
    missing = target - (view["entropy"][1:] + view["entropy"][:-1]) / 2
    kept = np.isfinite(moved) & np.isfinite(missing)
    return _cosine(moved[kept], missing[kept])


@_measure("policy_gradient_norm", "alpha", text="gradient of the policy, in units of the temperature")
def policy_gradient(view):
    """The norm over w."""
    return view.median(view["policy_gradient_norm"] / view.temperature)


@_measure("q_gradient_norm", "q1", text="gradient of Q, as a multiple of the largest |Q|")
def q_gradient(view):
    """The norm over max |Q|."""
    return view.median(view["q_gradient_norm"] / view.q_size)


@_measure(tables=["evaluations"], text="what the return has lost of its rise, as a share")
def setback(view):
    """(best - last) / (best - first) of the evaluations; "last" is the mean of their last tenth.

    None if the rise may be chance: below five standard errors of an evaluation.
    """
    returns = view.record.evaluations["return"]
    if len(returns) < 3:
        return None
    rise, error = np.max(returns) - returns[0], np.median(view.record.evaluations["error"])
    if not rise > (5 * error if np.isfinite(error) else 0):
        return None
    return (np.max(returns) - np.mean(returns[-max(1, len(returns) // 10) :])) / rise


@_measure(tables=["evaluations", "training"], text="evaluation less training return, as a share of the larger")
def evaluation_gap(view):
    """(evaluation - training) / max(|evaluation|, |training|), both over the last quarter of the steps.

    None if they are of different tasks.
    """
    means = []
    if not view.rows or view.record.other_task:
        return None
    for episodes in (view.record.evaluations, view.record.training):
        late = episodes["step"] > 0.75 * view["step"][-1]
        if not np.any(late):
            return None
        means.append(float(np.mean(episodes["return"][late])))
    size = max(map(abs, means))
    return (means[0] - means[1]) / size if size else None


@_measure(tables=["replay"], text="share of actions within 0.01 of a bound")
def saturation(view):
    """Of the last quarter of the replay's actions."""
    actions = view.record.transitions.action
    late = actions[-len(actions) // 4 :]
    return np.mean(np.abs(late) > 0.99)


@_measure(tables=["replay"], text="observations that never change")
def constant_observations(view):
    """How many."""
    return np.sum(observation_sizes(view.record)[1] == 0)


@_measure(tables=["replay"], text="typical size of the largest observation, as the networks see it")
def largest_observation(view):
    """The largest root mean square."""
    return np.max(observation_sizes(view.record)[0])


@_measure(tables=["replay"], text="typical size of the smallest observation that changes, as the networks see it")
def smallest_observation(view):
    """The smallest standard deviation that is not 0."""
    deviations = observation_sizes(view.record)[1]
    return np.min(deviations[deviations > 0]) if np.any(deviations) else None


@_measure(tables=["replay", "episodes"], text="share of the episodes of full length that end in a terminal state")
def terminal_ends(view):
    """Terminal transitions over episodes, where every episode has the same length."""
    terminated, length = view.record.transitions.terminated, view.equal_lengths
    if length is None or len(terminated) < 2 * length:
        return None
    return np.sum(terminated) / (len(terminated) / length)


@_measure(facts=["replay_capacity"], text="share of the run that the replay holds")
def share_held(view):
    """min(1, replay_capacity / steps so far)."""
    return min(1.0, view.facts["replay_capacity"] / view["step"][-1]) if view.rows else None


def _share_of_entropy(view, entropy):
    return view.median(entropy / (np.abs(entropy) + np.abs(view["q1"] - view.entropy_part)))


def _first(values):
    """The first finite value; every column that a measure gets has one."""
    return values[np.isfinite(values)][0]


def _cosine(x, y):
    """x y / (|x| |y|), None where one of them is 0."""
    if not np.any(x) or not np.any(y):
        return None
    x, y = x / np.max(np.abs(x)), y / np.max(np.abs(y))  # squares stay in range
    return np.sum(x * y) / math.sqrt(np.sum(x**2) * np.sum(y**2))


def _filled(values):
    """A row without a value gets the last value before it, or the first after it."""
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return values
    return values[finite[np.maximum(np.searchsorted(finite, np.arange(len(values)), side="right") - 1, 0)]]


def observation_sizes(record):
    """-> root mean square and standard deviation of each observation as the networks see it, [O] each."""
    seen = record.transitions.observation.astype(np.float64)
    scaled = len(record.observation_scale or ())
    seen[:, :scaled] *= record.observation_scale or ()
    constant = np.ptp(seen, axis=0) == 0  # else rounding would leave a little
    return np.sqrt(np.mean(seen**2, axis=0)), np.where(constant, 0.0, np.std(seen, axis=0))
