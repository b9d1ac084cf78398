"""What stops a command with one line instead of a traceback."""

import sys


class UserError(ValueError):
    """The user can mend this: the message says what was expected, what was received and the cure. Exit status 2."""


class RunError(RuntimeError):
    """The run cannot go on, through no fault in its settings that could be seen at the start. Exit status 1."""


class NonFiniteError(RunError):
    """NaN or infinity in a tensor that the message names.

    Attributes:
        batch: what held it, or led to it: arrays by name, for the file that the trainer leaves behind.
    """

    def __init__(self, message, batch=None):
        super().__init__(message)
        self.batch = batch or {}


def require(condition, message):
    """Raises UserError(message) unless condition holds."""
    if not condition:
        raise UserError(message)


def run_command(main, arguments=None):
    """absl.app.run for a command whose mistakes end in one line on standard error and an exit status.

    Args:
        main: called once the flags are parsed; returns the exit status or None.
        arguments: what the words that are no flags are, for a command that takes one or more of them; main is called
            with their list. Without it, main takes no arguments.
    """
    from absl import app, flags

    def parse(argv):
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            print(f"error: {' '.join(str(error).split())}; --help lists the flags", file=sys.stderr)
            sys.exit(2)
        if bool(rest[1:]) != bool(arguments) and not flags.FLAGS.help:
            fault = f"expected {arguments}" if arguments else f"unexpected argument {rest[1]!r}"
            print(f"error: {fault}; --help lists the flags", file=sys.stderr)
            sys.exit(2)
        if flags.FLAGS.help:
            print(sys.modules["__main__"].__doc__ + flags.FLAGS.main_module_help())
            sys.exit(0)
        return rest

    def guarded(argv):
        try:
            return main(argv[1:]) if arguments else main()
        except (UserError, RunError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2 if isinstance(error, UserError) else 1

    app.run(guarded, flags_parser=parse)
