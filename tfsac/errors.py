"""Exceptions that a command reports in one line, without a traceback."""

import codecs
import importlib.util
import sys
import traceback


class UserError(ValueError):
    """The user can mend this: the message says what was expected, what was received and the cure. Exit status 2."""


class RunError(RuntimeError):
    """The run cannot go on, for a reason that its settings did not show at the start. Exit status 1."""


class NonFiniteError(RunError):
    """NaN or infinity in a tensor that the message names.

    Attributes:
        batch: the arrays that held it or led to it, by name, for the file that the trainer writes.
    """

    def __init__(self, message, batch=None):
        super().__init__(message)
        self.batch = batch or {}


def require(condition, message):
    """Raises UserError(message) unless condition holds."""
    if not condition:
        raise UserError(message)


def require_ray(what):
    """Raises UserError unless the extra `ray`, which `what` needs, is installed."""
    installed = all(map(importlib.util.find_spec, ("ray", "rich")))
    require(installed, f"{what} needs Ray, with rich, which are not installed: pip install ray rich")


def run_command(main, arguments=None):
    """Runs a command: parses its flags, calls main, and reports a mistake in one line on standard error.

    Args:
        main: called after the flags are parsed; returns the exit status or None.
        arguments: name of the positional arguments, such as RUN; main is then called with their list, at least one.
            None: there are none, and main is called without arguments.
    """
    from absl import app, flags, logging

    flags.DEFINE_bool("traceback", False, "On an error, print the traceback, too.")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells of every step of a SavedModel
    codecs.register_error("printable", _printable)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="printable")

    def parse(argv):
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            sys.exit(_fail(f"{error}; --help lists the flags", 2))
        except SystemExit:
            sys.exit(0)  # --help has been answered; absl takes that for a failure
        if bool(rest[1:]) != bool(arguments):
            fault = f"expected {arguments}" if arguments else f"unexpected argument {rest[1]!r}"
            sys.exit(_fail(f"{fault}; --help lists the flags", 2))
        return rest

    def guarded(argv):
        try:
            return main(argv[1:]) if arguments else main()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except (UserError, RunError, OSError) as error:  # OSError: a full disk, a file that may not be read
            if flags.FLAGS.traceback:
                traceback.print_exc()
            return _fail(error, 2 if isinstance(error, UserError) else 1)

    app.run(guarded, flags_parser=parse)


def _printable(error):
    """What the terminal's encoding lacks: bytes of a file's name as they are, anything else as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(error)


def _fail(error, status):
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return status
