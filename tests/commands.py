"""Commands of tfsac as processes of their own, forked from a server that has imported TensorFlow once.

Importing it takes ten seconds, a fork none; and the child is in all else what `python -m MODULE` is: it has its own
working directory, output, signals and exit status.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from envs_for_tests import gate, reached
from runs import flags

TESTS = str(Path(__file__).parent)

_server = multiprocessing.get_context("forkserver")
# tfsac's commands leave TensorFlow until they need it; the base class of normalised_q is Keras', and so imports both.
_IMPORTED = ["tfsac.train", "tfsac.evaluate", "tfsac.algorithms.normalised_q", "tensorflow_probability"]
_server.set_forkserver_preload(_IMPORTED)


class Done(NamedTuple):
    """How a command ended. status is negative, -SIGNAL, where a signal ended it."""

    status: int
    out: str
    err: str


class Command:
    """A command that runs beside the test.

    Args:
        module: as in `python -m MODULE`.
        arguments: of the command.
        cwd: where it runs.
        environment: variables that are set for it.
    """

    def __init__(self, module, *arguments, cwd, **environment):
        self._files = []
        for _ in range(2):
            descriptor, name = tempfile.mkstemp(dir=cwd, prefix=".")
            os.close(descriptor)
            self._files.append(Path(name))
        if module in ("tfsac.train", "tfsac.export") and "--help" not in arguments:
            arguments = ["--no-video", *arguments]  # a clip takes seconds, and has tests of its own
        become = (module, list(map(str, arguments)), cwd, self._files, environment)
        # A daemon: should a test fail before its command ends, pytest does not wait for it.
        self._process = _server.Process(target=_become, args=become, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def output(self):
        """What it has written to standard output so far."""
        return self._files[0].read_text()

    def alive(self):
        return self._process.is_alive()

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)

    def wait_until(self, condition, seconds=600):
        """Waits until condition() is true or the command has ended."""
        try:
            wait_until(lambda: condition() or not self.alive(), seconds)
        except TimeoutError as error:
            self.kill()
            raise TimeoutError(f"{error}: {self.output()}") from None

    def wait(self, seconds=600):
        """Waits for the end."""
        self._process.join(seconds)
        if self.alive():
            self.kill()
            raise TimeoutError(f"not done after {seconds} seconds: {self.output()}")
        texts = [file.read_text() for file in self._files]
        for file in self._files:
            file.unlink()
        return Done(self._process.exitcode, *texts)


def wait_until(condition, seconds=600):
    """Waits until condition() is true; no test waits for a time instead."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {seconds} seconds")
        time.sleep(0.01)


def run(module, *arguments, cwd, **environment):
    """Runs a command to its end."""
    return Command(module, *arguments, cwd=cwd, **environment).wait()


def stopped(folder, logdir, params, number, at, where="training"):
    """Trains with a gate in its environments, sends a signal there, opens the gate; -> how it ended.

    Args:
        folder: where it runs, and where the gate is.
        logdir: of the run, in the folder.
        params: single bindings.
        number: of the signal; SIGKILL ends it there, any other after the block of steps under way.
        at, where: as in `envs_for_tests.gate`.
    """
    opens = folder / "gate"
    params = [*params, f"env.wrappers = {[gate(opens, at, where)]!r}"]
    command = Command("tfsac.train", f"--logdir={logdir}", *flags(params), cwd=folder, PYTHONPATH=TESTS)
    command.wait_until(reached(opens).exists)
    command.signal(number)
    if number != signal.SIGKILL:  # it says so at once, in the middle of whatever it does
        command.wait_until(lambda: "saving; interrupt again to end at once" in command.output())
        assert command.alive()
    opens.touch()
    return command.wait()


def _become(module, arguments, cwd, files, environment):
    assert sys.modules.keys() >= set(_IMPORTED)  # the server keeps silent about an import that failed
    multiprocessing.current_process()._config["daemon"] = False  # a command may have processes of its own
    os.chdir(cwd)
    os.environ.update(environment)
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)  # the server may have imported it, but not yet run
    runpy.run_module(module, run_name="__main__", alter_sys=True)
