"""Settings from gin files: read, checked against the functions they configure, and written back.

The only file that imports gin, and of gin only the parser: statements come back as data and are checked here, so no
gin file can import a module or name a Python object, and the functions are called with plain keyword arguments.
"""

import difflib
import re
import tokenize
from pathlib import Path

import gin.config_parser

from tfsac import __version__, setting_types
from tfsac.errors import UserError, require

SHORT_FORMS = {"train.env_id": "env.id"}
# What users of other libraries type, and our names for it.
OTHER_NAMES = {
    "gamma": "discount",
    "lr": "policy_learning_rate and q_learning_rate",
    "learning_rate": "policy_learning_rate and q_learning_rate",
    "actor_lr": "policy_learning_rate",
    "critic_lr": "q_learning_rate",
    "ent_coef": "initial_alpha",
    "alpha": "initial_alpha",
    "polyak": "tau",
    "net_arch": "policy_hidden_units and critic_hidden_units",
    "hidden_sizes": "policy_hidden_units and critic_hidden_units",
    "buffer_size": "train.replay_capacity",
    "replay_size": "train.replay_capacity",
    "learning_starts": "train.start_steps",
    "total_timesteps": "train.total_steps",
    "gradient_steps": "train.updates_per_step",
    "utd": "train.updates_per_step",
    "train_freq": "train.steps_per_call",
    "n_envs": "train.num_envs",
    "eval_freq": "train.eval_every",
    "n_eval_episodes": "train.eval_episodes",
    "env": "env.id",
    "env_kwargs": "env.kwargs",
    "env_wrapper": "env.wrappers",
    "max_episode_steps": "env.max_episode_steps",
    "render_mode": "env.kwargs",
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
            text = Path(path).read_text(encoding="utf-8-sig")  # Windows editors put a mark in front
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
        configurables: functions or classes by the scope that gin files use; see `setting_types.parameters`.

    Returns:
        {scope: {parameter: value}}, complete with defaults.

    Raises:
        UserError: an unknown setting, a value of the wrong type or out of range.
    """
    settable = {scope: setting_types.parameters(configurable) for scope, configurable in configurables.items()}
    settings = {scope: {k: default for k, (_, default) in named.items()} for scope, named in settable.items()}
    for dotted, value in bindings.items():
        scope, _, parameter = dotted.rpartition(".")
        if parameter not in settable.get(scope, {}):
            names = [f"{scope}.{k}" for scope, named in settable.items() for k in named]
            raise UserError(f"unknown setting {dotted}: {_hint(dotted, names)}")
        settings[scope][parameter] = setting_types.checked(dotted, value, settable[scope][parameter][0])
    return settings


def _hint(dotted, names):
    meant = OTHER_NAMES.get(dotted.rpartition(".")[2].lower(), "")
    can_be_set = {*names, *(name.rpartition(".")[2] for name in names)}  # SACv1 has no alpha, for instance
    if meant and set(meant.split(" and ")) <= can_be_set:
        return f"did you mean {meant}?"
    near = difflib.get_close_matches(dotted, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"this run has {', '.join(names)}"


def write(settings):
    """Settings {scope: {parameter: value}} as the text of a gin file that gives them back."""
    lacks = "with an env.id, " * (settings.get("env", {"id": ""})["id"] is None)  # the environment was an object
    lines = [f"# tfsac {__version__}: all settings of this run; {lacks}--gin_file=THIS_FILE repeats it"]
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
            name = f"{statement.selector}.{statement.arg_name}"
            bindings[SHORT_FORMS.get(name, name)] = statement.value
    except (UserError, SyntaxError, ValueError, RecursionError, tokenize.TokenError) as error:
        words = re.sub("malformed node.*?> ", "", " ".join(str(error).split()))  # Python's, with an address in memory
        raise UserError(f"{source}: {words}; {cure}") from error
    return bindings
