"""tfsac: Soft Actor-Critic in TensorFlow, from training to device."""

import sys
from typing import TYPE_CHECKING

__version__ = "0.2.0.dev0"
__all__ = ["SAC", "CrossQ", "Learner", "SACv1", "export_policy", "load", "load_policy"]

if TYPE_CHECKING:
    from tfsac.api import SAC, CrossQ, Learner, SACv1, export_policy, load, load_policy


def __getattr__(name):
    """The public names, which import what they need when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'tfsac' has no attribute {name!r}")
    from tfsac import api

    return getattr(api, name)


def _end_in_one_word(kind, error, trace):
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# python -m tfsac.train: what it imports takes a second, in which it may be interrupted. A program of the user's that
# imports tfsac, and may run by -m itself, keeps its hook.
_started = dict(zip(sys.orig_argv, sys.orig_argv[1:], strict=False)).get("-m", "")
if sys.argv[:1] == ["-m"] and _started.partition(".")[0] == __name__:
    sys.excepthook = _end_in_one_word
