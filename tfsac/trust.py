"""Modules that a file may name, and who must agree before they are imported."""

import importlib

from tfsac.errors import UserError, require

TRUSTED = ("gymnasium", "shimmy", "tfsac")  # tfsac's own and those that come with it or with an extra


def check_trusted(names, repeated, source):
    """Refuses modules that a file names, unless they are trusted or the user has named them, too.

    Args:
        names: 'module:Name' texts as read from a run directory or an artefact; without a colon they name no module.
        repeated: such texts, or modules, that the user has given.
        source: where the names were read, for the message.

    Raises:
        UserError: one names a module that is neither trusted nor repeated.
    """
    agreed = {*TRUSTED, *(_module(name) or name for name in repeated if name)}
    for name in filter(_module, names):
        require(
            _module(name).partition(".")[0] in TRUSTED or _module(name) in agreed,
            f"{source} would import the module {_module(name)!r}: if you trust it, add --trust={_module(name)}",
        )


def load_named(name, what):
    """The object that 'module:Name' names; its module is imported.

    Args:
        name: the text.
        what: the setting that it stands in, for the message.

    Raises:
        UserError: no such module, nothing of that name in it, or the import fails.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module may be anyone's
        raise UserError(f"{what} = {name!r}: cannot be imported: {type(error).__name__}: {error}") from error


def _module(name):
    return name.partition(":")[0] if ":" in name else ""
