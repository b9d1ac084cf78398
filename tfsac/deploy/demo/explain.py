"""Finds how an environment computes its observation from MuJoCo's data, by search, so that a page can do it too.

Every entry of the observation is compared bit for bit, in float32, with every number that MuJoCo keeps: plain, behind
a function, in counts of an encoder, clipped, or as the difference of two positions. Runs of neighbours are preferred:
"qvel 0 to 8" explains nine entries at once and is hardly chance.
"""

from typing import NamedTuple

import numpy as np

from tfsac.data.furuta import COUNTS
from tfsac.errors import UserError

# Arrays of MjData that observations are made of, the likeliest first; equal runs go to the first.
ARRAYS = (
    "qpos", "qvel", "act", "ctrl", "sensordata", "xpos", "geom_xpos", "site_xpos", "xipos", "subtree_com", "xquat",
    "xmat", "geom_xmat", "site_xmat", "cvel", "cinert", "qfrc_actuator", "qfrc_constraint", "actuator_force",
    "cfrc_ext", "qacc", "ten_length", "ten_velocity", "subtree_linvel",
)  # fmt: skip
POSITIONS = ("xpos", "geom_xpos", "site_xpos", "xipos", "subtree_com")
ENCODERS = {  # tried only where all that is observed are whole numbers
    "counts": lambda angle: np.round(angle * COUNTS / (2 * np.pi)),
    "counts from upright": lambda angle: np.round(angle * COUNTS / (2 * np.pi)) % COUNTS - COUNTS // 2,
}
FUNCTIONS = {"identity": np.array, "cos": np.cos, "sin": np.sin, "log1p": np.log1p} | ENCODERS
RECURRENCES = 5  # how often a column must show its largest size for that to be a clip's bound
PROBES = 4  # states that most candidates fail on


class Term(NamedTuple):
    """count neighbours of the observation: function(array[at ...]) - array[minus_at ...], clipped to [-clip, clip].

    Attributes:
        array, at: an array of MjData, flat, and the first index.
        count: how many.
        function: a name in FUNCTIONS.
        clip: the bound, or None.
        minus, minus_at: what is subtracted, or None.
    """

    array: str
    at: int
    count: int
    function: str = "identity"
    clip: float | None = None
    minus: str | None = None
    minus_at: int | None = None

    def __call__(self, read):
        """[count] float64, where read(name) gives MjData's array of that name, flat."""
        found = FUNCTIONS[self.function](read(self.array)[self.at : self.at + self.count])
        if self.minus:
            found = found - read(self.minus)[self.minus_at : self.minus_at + self.count]
        return found if self.clip is None else np.clip(found, -self.clip, self.clip)

    def __str__(self):
        text = f"{self.array} {self.at}" + (f" to {self.at + self.count - 1}" if self.count > 1 else "")
        text = text if self.function == "identity" else f"{self.function}({text})"
        text = f"{text} - {self.minus} {self.minus_at} ..." if self.minus else text
        return text if self.clip is None else f"clip({text}, {self.clip:g})"


def snapshot(data):
    """All numbers that an observation may be made of: array by name, flat."""
    return {name: np.array(getattr(data, name), np.float64).ravel() for name in ARRAYS}


def observe(terms, data):
    """The observation that the terms give, [O] float64."""
    return np.concatenate([term(lambda name: np.asarray(getattr(data, name)).ravel()) for term in terms])


def explain(observations, snapshots, names):
    """Finds terms that give all of the observations.

    Args:
        observations: [N, O] float32.
        snapshots: N dicts of `snapshot`, of the same moments.
        names: of the entries of the observation, for messages.

    Returns:
        A list of Term, in the observation's order.

    Raises:
        UserError: an entry that nothing explains; the message names it.
    """
    columns = {name: np.array([shot[name] for shot in snapshots]) for name in ARRAYS}  # [N, size]
    candidates = _single_candidates(observations, columns) + _difference_candidates(observations, columns)
    terms, entry = [], 0
    while entry < observations.shape[1]:
        best = None
        for run in candidates:
            for start in run.starts(entry):
                count = run.length(entry, start)
                if best is None or count > best.count:
                    best = run.term(start, count)
        if best is None:
            raise UserError(f"nothing in MuJoCo's data explains entry {entry} of the observation, {names[entry]}")
        terms.append(best)
        entry += best.count
    return terms


class _Candidates:
    """Which columns of one kind match which entry.

    Args:
        matches: one set for each entry of the observation: starts (an index, or a pair of them) that give it.
        term: (start, count) -> Term.
    """

    def __init__(self, matches, term):
        self._matches, self.term = matches, term

    def starts(self, entry):
        return sorted(self._matches[entry])

    def length(self, entry, start):
        count = 0
        while entry + count < len(self._matches) and _shifted(start, count) in self._matches[entry + count]:
            count += 1
        return count


def _shifted(start, count):
    return tuple(x + count for x in start) if isinstance(start, tuple) else start + count


def _single_candidates(observations, columns):
    found, functions = [], FUNCTIONS
    if (observations != np.round(observations)).any():
        functions = {name: apply for name, apply in FUNCTIONS.items() if name not in ENCODERS}
    for clip in (None, *_clips(observations)):
        for array, values in columns.items():
            for function, apply in functions.items():
                with np.errstate(invalid="ignore", divide="ignore"):
                    shown = apply(values)
                if clip is not None:
                    shown = np.clip(shown, -clip, clip)
                matches = _matches(observations, shown.astype(np.float32))

                def term(start, count, array=array, function=function, clip=clip):
                    return Term(array, start, count, function, clip)

                found.append(_Candidates(matches, term))
    return found


def _matches(observations, shown):
    """For each entry, the columns of shown [N, C] that equal it in every state."""
    found = []
    for entry in observations.T:
        likely = np.flatnonzero((shown[:PROBES] == entry[:PROBES, None]).all(axis=0))
        found.append({int(c) for c in likely if np.array_equal(shown[:, c], entry)})
    return found


def _difference_candidates(observations, columns):
    found = []
    for array in POSITIONS:
        for minus in POSITIONS:
            left, right = columns[array], columns[minus]
            matches = [set() for _ in observations.T]
            differences = (left[:PROBES, :, None] - right[:PROBES, None, :]).astype(np.float32)
            for entry, values in enumerate(observations.T):
                likely = np.argwhere((differences == values[:PROBES, None, None]).all(axis=0))
                for i, j in likely if len(likely) < 1000 else ():  # an entry that is always 0 is nobody's difference
                    if np.array_equal((left[:, i] - right[:, j]).astype(np.float32), values):
                        matches[entry].add((int(i), int(j)))

            def term(start, count, array=array, minus=minus):
                return Term(array, start[0], count, minus=minus, minus_at=start[1])

            found.append(_Candidates(matches, term))
    return found


def _clips(observations):
    """Sizes that a column reaches again and again and never passes."""
    sizes = np.abs(observations)
    largest = sizes.max(axis=0)
    recurring = (sizes == largest).sum(axis=0)
    constant = (observations == observations[0]).all(axis=0)
    return sorted({float(x) for x in largest[(recurring >= RECURRENCES) & ~constant & (largest > 0)]})
