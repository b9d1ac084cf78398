"""Settings are keyword parameters: the annotation of each says its type, range and choices.

    def __init__(self, ..., discount: Fraction = 0.99, hidden_units: Sizes = (256, 256)):

Types are bool, int, float, str, Literal, tuples (`tuple[X, ...]`, or `tuple[X, Y]` for a pair), dict (text to
literals), dict[str, X] and unions of these; ranges are those of the package annotated_types.
"""

import inspect
import math
import types
import typing
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Len

from tfsac.errors import UserError

Count = Annotated[int, Gt(0)]
CountOrZero = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
PositiveOrZero = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
Step = Annotated[float, Interval(gt=0, le=1)]
Seed = Annotated[int, Interval(ge=0, le=2**31 - 1)]
Sizes = Annotated[tuple[Count, ...], Len(1)]
Factors = Annotated[tuple[Positive, ...], Len(1)]
Deviations = Annotated[tuple[PositiveOrZero, ...], Len(1)]
Steps = CountOrZero | tuple[CountOrZero, CountOrZero]  # a number, or (least, largest) to draw from


def parameters(configurable):
    """The parameters of a function or class that can be set: annotation and default by name.

    These are the ones with both an annotation and a default. A class whose constructor takes **settings, to pass them
    on, has those of its base class, too.
    """
    signature = inspect.signature(configurable).parameters.values()
    own = {p.name: (p.annotation, p.default) for p in signature if p.empty not in (p.annotation, p.default)}
    if not isinstance(configurable, type) or all(p.kind is not p.VAR_KEYWORD for p in signature):
        return own
    _, base, *_ = (x for x in configurable.__mro__ if "__init__" in vars(x))
    return parameters(base) | own


def checked(name, value, annotation):
    """The value as the annotation's type: an int is taken for a float, 1e6 for an int, a list for a tuple.

    Raises:
        UserError: another type, out of range or none of the choices; the message names what was expected.
    """
    try:
        return _taken(value, annotation)
    except _Unfit as unfit:
        raise UserError(f"{name}: expected {unfit.expected}, received {unfit.received!r}") from None


class _Unfit(Exception):
    def __init__(self, expected, received):
        super().__init__(expected)
        self.expected, self.received = expected, received


def _taken(value, annotation):
    limits, origin = (), typing.get_origin(annotation)
    if origin is Annotated:
        annotation, *limits = typing.get_args(annotation)
        origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return _one_of(value, arguments)
    if origin is Literal:
        taken, words = value, f"one of {arguments}"
        fits = any(type(value) is type(choice) and value == choice for choice in arguments)
    elif origin is tuple:
        return _tuple(value, arguments, limits)
    elif origin is dict:
        return _mapping(value, arguments[1])
    elif annotation is dict:
        return _mapping(value, Any)
    elif annotation is Any:
        return _plain(value)
    elif annotation in (int, float):
        # Neither NaN nor infinite, nor beyond what every counter can hold.
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2.0**63
        fits = fits and (annotation is float or value == value // 1)
        taken, words = annotation(value) if fits else None, {int: "a whole number", float: "a number"}[annotation]
    else:
        taken, fits = value, type(value) is annotation
        words = {bool: "True or False", str: "text in quotes", types.NoneType: "None"}[annotation]
    if not fits:
        raise _Unfit(words, value)
    for limit in limits:
        fits, words = _within(taken, limit)
        if not fits:
            raise _Unfit(f"a number {words}", taken)
    return taken


def _one_of(value, annotations):
    unfits = []
    for annotation in annotations:
        try:
            return _taken(value, annotation)
        except _Unfit as unfit:
            unfits.append(unfit)
    inside = [unfit for unfit in unfits if unfit.received is not value]  # of the right kind, with a wrong element
    if inside:
        raise inside[0]
    raise _Unfit(" or ".join(unfit.expected for unfit in unfits if unfit.expected != "None"), value)


def _tuple(value, arguments, limits):
    item, *others = arguments
    if others == [...]:
        numbers = _innermost(item) in (int, float)
        words = "a list of numbers such as (256, 256)" if numbers else "a list such as ('a', 'b')"
        fits = isinstance(value, list | tuple) and all(len(value) >= limit.min_length for limit in limits)
        arguments = [item] * len(value) if fits else ()
    else:
        words = f"{len(arguments)} values such as (1, 2)"
        fits = isinstance(value, list | tuple) and len(value) == len(arguments)
    if not fits:
        raise _Unfit(words, value)
    return tuple(_taken(x, kind) for x, kind in zip(value, arguments, strict=True))


def _mapping(value, annotation):
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _Unfit("a mapping such as {'name': 1.0}", value)
    return {key: _taken(x, annotation) for key, x in value.items()}


def _plain(value):
    """What gin files and JSON can both hold; a list becomes a tuple, since JSON turns tuples into lists."""
    if isinstance(value, dict):
        return _mapping(value, Any)
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if value is None or isinstance(value, bool | str) or (isinstance(value, int | float) and abs(value) < math.inf):
        return value
    raise _Unfit("numbers, text, True, False, None, lists or mappings of these", value)


def _innermost(annotation):
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def _within(value, limit):
    """Whether a number keeps to Gt, Ge or an Interval, and the words for it."""
    above, least, most = (getattr(limit, name, None) for name in ("gt", "ge", "le"))
    fits = (above is None or value > above) and (least is None or value >= least) and (most is None or value <= most)
    start = f"above {above}" if above is not None else f"{least} or more"
    if most is None:
        return fits, start
    return fits, f"above {above}, up to {most}" if above is not None else f"from {least} to {most}"
