"""Compiles policy.h, for this and for other processors."""

import re
import subprocess
from pathlib import Path

from tfsac.errors import RunError, require


def act_source(directory):
    """C source that makes the policy.h of a directory a function `act`; it works under any --name."""
    return f"""\
#include "policy.h"
void act(const float *observation, float *action);
void act(const float *observation, float *action) {{ {symbol_prefix(directory)}_act(observation, action); }}
"""


def symbol_prefix(directory):
    """The prefix of the symbols of the policy.h in a directory; UserError if tfsac did not write it."""
    path = Path(directory, "policy.h")
    text = path.read_text(encoding="utf-8", errors="replace")
    match = re.search(r"^static inline void (\w+)_act\(", text, re.MULTILINE)
    require(match, f"{path} is no policy.h of tfsac: expected a function named *_act, as tfsac.export writes it")
    return match[1]


def run(*command):
    """What a command writes to standard output; RunError if it fails."""
    try:
        return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        raise RunError(f"{command[0]} failed: {error.stderr.strip()}") from error
