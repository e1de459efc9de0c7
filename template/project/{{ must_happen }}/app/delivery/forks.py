"""Let a process that a task forks end by a signal of its own, and nothing else by it.

A fork has its parent's handlers, and the pipe through which a signal wakes the parent's
event loop (docs.python.org/3/library/signal.html#signal.set_wakeup_fd): whoever ended
the child would tell the parent to shut down.
"""

import os
import signal
import threading

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_forking = threading.local()


def _hold_signals() -> None:
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _go_on() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _forget_handlers() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Some engines block them in their threads, one of which this one was.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def forget_handlers_in_forks() -> None:
    """Give the processes that this one forks from now on Python's own handlers."""
    if hasattr(os, "register_at_fork"):  # Windows has no forks.
        os.register_at_fork(
            before=_hold_signals,
            after_in_parent=_go_on,
            after_in_child=_forget_handlers,
        )
