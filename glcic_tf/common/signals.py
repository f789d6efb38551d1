"""Signals that a long run answers in its own time."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def stop_on_signals():
    """Yield a list that the first SIGTERM or Ctrl-C fills, so that a run can save; the second acts as usual."""
    stopped, previous = [], {}

    def stop(number, frame):
        stopped.append(number)
        for n, handler in previous.items():
            signal.signal(n, handler)

    with contextlib.suppress(ValueError):  # not the main thread, as when called from a notebook's worker
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupt_ignored():
    """Ignore Ctrl-C. Processes started meanwhile do so for good, instead of ending with a traceback each."""
    if threading.current_thread() is not threading.main_thread():  # there Python does not allow it
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
