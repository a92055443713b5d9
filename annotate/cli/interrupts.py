"""Ctrl-C, SIGTERM, a closed terminal: the first lets a command end in order, the second ends it at once."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

PATIENCE = 30.0
"""Seconds that ending in order may take."""

_SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}


class _Listener:
    """What this process does with signals.

    Attributes:
        first: the signal that has come; None before.
        heard: the signals that end the command.
        at_once: what is done, if it is not done yet, before the process ends.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.heard = {number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
        self.at_once: Callable[[], None] = lambda: None
        self._raised = False
        self._stderr = os.dup(2)
        self._waking, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self.arm()
        threading.Thread(target=self._listen, daemon=True).start()

    def arm(self) -> None:
        for number in self.heard:
            signal.signal(number, self._handle)
        # The interpreter writes each signal here at once, also while the main thread is inside a library.
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.first = self.first or number
        if not self._raised:  # once: what cleans up is not interrupted again
            self._raised = True
            raise KeyboardInterrupt

    def _listen(self) -> None:
        patience: threading.Timer | None = None
        while True:
            for number in self._waking.recv(64):
                if number not in self.heard:
                    continue
                self.first = self.first or number
                if patience is not None:
                    self.end()
                self._hush()
                patience = threading.Timer(PATIENCE, self.end)
                patience.daemon = True
                patience.start()

    def _hush(self) -> None:
        """Drop what Ray's own threads and C++ print from here on: stacks, and the deaths of its processes."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)

    def speak(self) -> None:
        os.dup2(self._stderr, 2)

    def end(self) -> None:
        number = self.first or signal.SIGINT
        try:
            self.at_once()
        finally:
            os.write(self._stderr, _message(number, sys.argv).encode())
            os._exit(128 + number)


_listener: _Listener | None = None


def listen() -> None:
    """Let signals raise KeyboardInterrupt, once; a second one, or `PATIENCE`, ends the process without more ado."""
    global _listener
    if _listener is None and threading.current_thread() is threading.main_thread():
        _listener = _Listener()


def arm() -> None:
    """Listen again, after a library has put handlers of its own in place."""
    if _listener is not None:
        _listener.arm()


@contextmanager
def armed() -> Iterator[None]:
    """Keep listening while a library that takes its handlers away is called: Ray's end has SIGTERM kill the process."""
    if _listener is None or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda number, frame: arm())
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        arm()


def at_once(clean: Callable[[], None]) -> None:
    """Say what is still to be done before the process ends, also where it ends at once."""
    if _listener is not None:
        _listener.at_once = clean


def came() -> int | None:
    """The signal that has come, if any."""
    return _listener.first if _listener is not None else None


def told(arguments: Sequence[str]) -> int:
    """Say what ended the command, what is kept and how to go on, and give the exit code."""
    number = came() or signal.SIGINT
    if _listener is not None:
        _listener.at_once()  # where the signal came while what is done at an end was being done
        _listener.speak()
    sys.stderr.write(_message(number, arguments))
    return 128 + number


def _message(number: int, arguments: Sequence[str]) -> str:
    text = "interrupted." if number == signal.SIGINT else f"ended by {signal.Signals(number).name}."
    text += " What is committed is kept: run the same command again to go on.\n"
    if "--rescore" in arguments:
        text += "If it has said 'scores dropped', leave --rescore out: else all is scored once more.\n"
    return f"\n{text}"  # what stands on the line may be "^C", or a bar
