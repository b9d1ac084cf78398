"""Settings from gin files: read, checked against the functions they configure, and written back.

The only file that imports gin, and of gin only the parser: statements come back as data and are checked here, so no
gin file can import a module or name a Python object, and the functions are called with plain keyword arguments.
"""

import difflib
import inspect
import re
import tokenize
import types
import typing
from pathlib import Path

import gin.config_parser

from tfsac import __version__
from tfsac.errors import UserError, require

CHOICES = {"algorithm": ("sac", "sac_v1")}
# What a number must be, by the name of its parameter; a positive number where nothing is said.
RANGES = {
    "seed": (lambda x: 0 <= x < 2**31, "from 0 to 2147483647"),
    "collectors": (lambda x: x >= 0, "0 or more"),
    "start_steps": (lambda x: x >= 0, "0 or more"),
    "discount": (lambda x: 0 <= x <= 1, "from 0 to 1"),
    "tau": (lambda x: 0 < x <= 1, "above 0, up to 1"),
    "alpha_learning_rate": (lambda x: x >= 0, "0 (alpha stays fixed) or more"),
    "target_entropy": (lambda x: True, ""),
}


def read(files, params):
    """Reads gin files, then single bindings, the later ones winning.

    Args:
        files: paths.
        params: bindings as text, 'SAC.tau = 0.01'.

    Returns:
        Values by dotted name, {'SAC.tau': 0.01}.

    Raises:
        UserError: a missing file, or anything but `name.parameter = literal`.
    """
    bindings = {}
    for path in files:
        require(Path(path).is_file(), f"no such gin file: {path}")
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        bindings |= _parse(text, path)
    for param in params:
        bindings |= _parse(param, "--gin_param")
    return bindings


def resolve(bindings, configurables):
    """Puts bindings over the defaults of the functions they configure.

    Args:
        bindings: values by dotted name, from `read`.
        configurables: functions or classes by the name that gin files use; each keyword parameter with an
            annotation can be bound.

    Returns:
        {name: {parameter: value}}, complete with defaults.

    Raises:
        UserError: a binding that nothing reads, a value of the wrong type or out of range.
    """
    settings, annotations = {}, {}
    for name, configurable in configurables.items():
        parameters = inspect.signature(configurable).parameters
        bindable = {k: p for k, p in parameters.items() if p.annotation is not inspect.Parameter.empty}
        settings[name] = {k: p.default for k, p in bindable.items()}
        annotations |= {f"{name}.{k}": p.annotation for k, p in bindable.items()}
    for dotted, value in bindings.items():
        if dotted not in annotations:
            near = difflib.get_close_matches(dotted, annotations, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(annotations)}"
            raise UserError(f"nothing in this run reads {dotted}: {hint}")
        name, parameter = dotted.split(".")
        settings[name][parameter] = _checked(dotted, value, annotations[dotted])
    return settings


def write(settings):
    """Settings {name: {parameter: value}} as the text of a gin file that gives them back."""
    lines = [f"# tfsac {__version__}: all settings of this run; --gin_file=THIS_FILE repeats it"]
    for name, values in settings.items():
        lines += ["", *(f"{name}.{parameter} = {value!r}" for parameter, value in values.items())]
    return "\n".join(lines) + "\n"


class _NoReferences(gin.config_parser.ParserDelegate):
    def configurable_reference(self, scoped_configurable_name, evaluate):
        raise UserError(f"@{scoped_configurable_name} names a Python object")

    def macro(self, macro_name):
        raise UserError(f"%{macro_name} names a macro")


def _parse(text, source):
    cure = "expected lines of the form name.parameter = literal"
    bindings = {}
    try:
        for statement in gin.config_parser.ConfigParser(text, _NoReferences()):
            if not isinstance(statement, gin.config_parser.BindingStatement):
                kind = type(statement).__name__.removesuffix("Statement").lower()
                raise UserError(f"{kind} in line {statement.location.line_num}")
            if statement.scope or not statement.selector or not statement.arg_name:
                raise UserError(f"{statement.location.line_content.strip()!r} binds no name.parameter")
            repr(statement.value)  # fails for an integer of more than 4300 digits, which no message could show
            bindings[f"{statement.selector}.{statement.arg_name}"] = statement.value
    except (UserError, SyntaxError, ValueError, RecursionError, tokenize.TokenError) as error:
        words = re.sub("malformed node.*?> ", "", " ".join(str(error).split()))  # Python's, with an address in memory
        raise UserError(f"{source}: {words}; {cure}") from error
    return bindings


def _checked(name, value, annotation):
    """The value as the annotation's type: an int is taken for a float, 1e6 for an int, a list for a tuple."""
    parameter = name.split(".")[1]
    allowed = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if value is None and type(None) in allowed:
        return None
    kind = allowed[0]
    if typing.get_origin(kind) is tuple:
        require(
            isinstance(value, list | tuple) and len(value) > 0,
            f"{name}: expected a list of numbers such as (256, 256), received {value!r}",
        )
        return tuple(_checked(name, x, typing.get_args(kind)[0]) for x in value)
    # Neither NaN nor infinite, nor beyond what every counter can hold.
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2.0**63
    if kind is int and is_number and value == value // 1:
        value = int(value)
    if kind is float and is_number:
        value = float(value)
    fits_kind = type(value) is kind and (is_number or kind is str)
    require(fits_kind, f"{name}: expected {_WORDS[kind]}, received {value!r}")
    if kind is str:
        choices = CHOICES.get(parameter)
        require(not choices or value in choices, f"{name}: expected one of {choices}, received {value!r}")
    else:
        fits, words = RANGES.get(parameter, (lambda x: x > 0, "above 0"))
        require(fits(value), f"{name}: expected a number {words}, received {value!r}")
    return value


_WORDS = {int: "a whole number", float: "a number", str: "text in quotes"}
