"""Ctrl-C, SIGTERM and a closed terminal: the first signal ends a command in order, the second ends it at once."""

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

_COMMITTED = "What is committed is kept: run the same command again to go on."
_ANEW = "It writes nothing before its end: the same command begins anew."
_LEFT = {
    "submit": "A job that was submitted goes on: `annotate jobs list` shows it.",
    "clean": "What is removed is gone: the same command removes the rest.",
    "export": "An export without a manifest is not whole: run the same command again to write it anew.",
    "prove": "What was trained is kept as it was last saved: run the same command again to go on.",
    **dict.fromkeys(("tune", "directions", "distill", "probe"), _ANEW),
    **dict.fromkeys(("jobs", "show", "status", "new", "scheme", "model"), ""),
}
"""By command, what is left of it when it is ended, and how to go on. A run, also of a pipeline file, commits."""

_SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}


class _Listener:
    """Handles the signals of this process.

    Attributes:
        first: the first signal that came; None before.
        heard: the signals that end the command.
        at_once: cleans up before the process ends; does nothing if that is done.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.heard = {number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
        self.at_once: Callable[[], None] = lambda: None
        self._raised = self._speaks = False
        self._mutex = threading.Lock()
        self._stderr = os.dup(2)
        self._waking, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self.arm()
        threading.Thread(target=self._listen, daemon=True).start()

    def arm(self) -> None:
        for number in self.heard:
            signal.signal(number, self._handle)
        # Python writes each signal to this socket at once, even while the main thread is inside a library.
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.first = self.first or number
        if not self._raised:  # only once, so that cleaning up is not interrupted
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
        """Drop all output to stderr from here on: Ray's threads and C++ print stacks, and that processes died."""
        with self._mutex:
            if not self._speaks:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 2)
                os.close(null)

    def speak(self) -> None:
        """Let output to stderr pass from here on, also if the thread that listens comes only now to drop it."""
        with self._mutex:
            self._speaks = True
            os.dup2(self._stderr, 2)

    def end(self) -> None:
        number = self.first or signal.SIGINT
        try:
            self.at_once()
        finally:
            os.write(self._stderr, _message(number, sys.argv[1:]).encode())
            os._exit(128 + number)


_listener: _Listener | None = None


def listen() -> None:
    """Let the first signal raise KeyboardInterrupt. A second one, or `PATIENCE` seconds, end the process at once."""
    global _listener
    if _listener is None and threading.current_thread() is threading.main_thread():
        _listener = _Listener()


def arm() -> None:
    """Put our handlers in place again, after a library has put its own there."""
    if _listener is not None:
        _listener.arm()


@contextmanager
def armed() -> Iterator[None]:
    """Keep our handlers in place during a call that resets them. `ray.shutdown` would let SIGTERM kill the process."""
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
    """Set the function that cleans up before the process ends, even if it ends at once."""
    if _listener is not None:
        _listener.at_once = clean


def came() -> int | None:
    """The signal that came, if any."""
    return _listener.first if _listener is not None else None


def told(arguments: Sequence[str]) -> int:
    """Print which signal ended the command, what is kept and how to go on. Returns the exit code."""
    number = came() or signal.SIGINT
    if _listener is not None:
        _listener.at_once()  # the signal may have interrupted the cleaning up
        _listener.speak()
    sys.stderr.write(_message(number, arguments))
    return 128 + number


def left(arguments: Sequence[str]) -> str:
    """What is left of a command that was ended, and how to go on; empty if it only shows something."""
    if "--plan" in arguments:
        return ""
    return _LEFT.get(arguments[0], _COMMITTED) if arguments else _COMMITTED


def _message(number: int, arguments: Sequence[str]) -> str:
    text = "interrupted." if number == signal.SIGINT else f"ended by {signal.Signals(number).name}."
    text = f"{text} {left(arguments)}".rstrip() + "\n"
    if "--rescore" in arguments:
        text += "If it has said 'scores dropped', leave --rescore out: else all is scored once more.\n"
    return f"\n{text}"  # "^C" or a progress bar may stand on the current line
