"""Imports TensorFlow without its start-up notices; commands import this before anything that imports TensorFlow.

On a machine without a GPU, TensorFlow 2.21 writes lines about CUDA that no setting silences (tensorflow issue 100442):
a user would take them for errors, and a program that reads standard error for the one line that a mistake leaves there.
"""

import contextlib
import os


@contextlib.contextmanager
def silenced():
    """Keeps what C++ code writes to standard error off the terminal; Python's exceptions pass."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with silenced():
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for GPUs, and says so
