"""Ctrl-C and SIGTERM during a run: answered at once, and obeyed where nothing gets lost."""

import os
import signal
import threading


class Interrupts:
    """A context in which the first SIGINT or SIGTERM is noted, and answered with a line on standard output.

    Outside of the main thread, where Python delivers no signals, it does nothing. It restores the handlers at its end.

    Attributes:
        received: the numbers of the signals noted: one, or none yet.

    Args:
        second: the handler of a second signal; None stands for the one from before.
        words: of the answer, in one line.
    """

    def __init__(self, second=None, words="saving; interrupt again to end at once"):
        self.received, self._second, self._before = [], second, {}
        self._answer = f"\n{words}\n".encode()

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self):
        return bool(self.received)

    def _note(self, number, _):
        self.received.append(number)
        signal.signal(number, self._before[number] if self._second is None else self._second)
        os.write(1, self._answer)  # print may be what was interrupted
