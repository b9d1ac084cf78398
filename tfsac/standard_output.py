"""Standard output for a program's answer alone, for programs that read it."""

import os
import sys


def for_answers():
    """Sends what is printed from now on to standard error: by an environment, or by C code that it calls (PyBullet).

    Returns:
        Standard output, a text file.
    """
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers
