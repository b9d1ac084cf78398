"""TensorFlow as tfsac uses it: imported when it is first needed, and without its start-up notices.

    from tfsac.quiet_tensorflow import keras, tf

Importing it takes seconds; `--help`, a refused setting and the evaluation of a .tflite file do not need it. On a
machine without a GPU, TensorFlow 2.21 writes lines about CUDA that no setting silences (tensorflow issue 100442). Users
would take them for errors, and so would programs that expect one line on standard error.
"""

import contextlib
import functools
import importlib
import os
import tempfile
from pathlib import Path

from tfsac.errors import require


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


@contextlib.contextmanager
def path_for_tensorflow(path):
    """A context with an ASCII name of an existing path.

    TensorFlow takes names as UTF-8 in every locale: others it refuses, or writes to a directory of another name.
    """
    if str(path).isascii():
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "link")
        link.symlink_to(Path(path).absolute())
        yield str(link)


class _Lazy:
    """Stands for a module until one of its names is asked for."""

    def __init__(self, load):
        self._load = load

    def __getattr__(self, name):
        value = getattr(self._load(), name)
        setattr(self, name, value)  # the next time it is found without a detour
        return value


@functools.cache
def _tensorflow():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its CUDA notices come as errors
    with silenced():
        module = importlib.import_module("tensorflow")
        module.config.list_physical_devices()  # looks for GPUs, and says so
    return module


@functools.cache
def _keras():
    _tensorflow()
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the one that the compiled step runs on, whatever others run on
    try:
        module = importlib.import_module("keras")
    finally:
        del os.environ["KERAS_BACKEND"]
        if before is not None:
            os.environ["KERAS_BACKEND"] = before
    backend = module.config.backend()
    require(
        backend == "tensorflow",
        f"expected Keras on TensorFlow, received Keras imported on {backend} before tfsac: set "
        "KERAS_BACKEND=tensorflow, or import tfsac.algorithms.agent first",
    )
    return module


@functools.cache
def _probability():
    _keras()
    return importlib.import_module("tensorflow_probability")


tf, keras, tfp = _Lazy(_tensorflow), _Lazy(_keras), _Lazy(_probability)
