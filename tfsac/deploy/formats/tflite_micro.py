"""What a .tflite policy needs on a microcontroller with TensorFlow Lite Micro."""

import importlib.util
import subprocess
import sys

from tfsac.errors import RunError

# The model on standard input, the answer on standard output. A process for each trial: given too small an arena the
# library refuses the file or crashes. Forked from one that has only loaded the library, a trial takes a millisecond.
_BISECTION = """
import os, resource, sys
from tflite_micro import runtime

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
model = sys.stdin.buffer.read()

def fits(arena):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        runtime.Interpreter.from_bytes(model, arena_size=arena)
    except BaseException:
        os._exit(1)
    os._exit(0)

too_small, enough = 0, 1 << 24
if fits(enough):
    while enough - too_small > 16:
        middle = (too_small + enough) // 2
        too_small, enough = (too_small, middle) if fits(middle) else (middle, enough)
    print(enough)
"""


def micro_arena(model):
    """The smallest arena with which the interpreter of TensorFlow Lite Micro accepts a file.

    Measured on this machine, whose pointers of 64 bits make it an upper bound for a microcontroller's 32.

    Args:
        model: the file's bytes.

    Returns:
        Bytes, up to 16 too many; None where the package tflite-micro is absent or cannot run the file (float16 weights,
        int8 weights with float activations).
    """
    if importlib.util.find_spec("tflite_micro") is None:
        return None
    arena = subprocess.run([sys.executable, "-c", _BISECTION], input=model, capture_output=True, check=True).stdout
    return int(arena) if arena else None


def micro_policy(model):
    """A file under TensorFlow Lite Micro as a function: observation [O] -> action [A].

    Raises:
        RunError: tflite-micro is absent or cannot run the file.
    """
    try:
        from tflite_micro import runtime

        from tfsac.quiet_tensorflow import silenced

        with silenced():
            interpreter = runtime.Interpreter.from_bytes(model)
    except (ImportError, RuntimeError) as error:
        raise RunError(f"cannot run under TensorFlow Lite Micro: {error}") from error

    def act(observation):
        interpreter.set_input(observation[None], 0)
        interpreter.invoke()
        return interpreter.get_output(0)[0]

    return act


def micro_registrations(operators):
    """The calls that register a file's operators with MicroMutableOpResolver: SELECT_V2 -> AddSelectV2."""
    return ["Add" + "".join(map(str.capitalize, name.split("_"))) for name in operators]
