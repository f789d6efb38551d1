"""Competitors that take turns, each in a process of its own: what the machine does besides falls on all alike.

A process of its own keeps the thread pools and the memory of one from those of another, and its peak memory is its own.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from glcic_tf.common.errors import UserError, first_line

_PAUSE_S = 0.3  # threads of the one before go on spinning for a while


def pin(cpus, flag):
    """Keep this process and those that it starts on `cpus` CPUs, where the system can; 0: all. Returns their number."""
    if not hasattr(os, "sched_setaffinity"):
        return cpus or os.cpu_count()
    allowed = sorted(os.sched_getaffinity(0))
    if cpus > len(allowed):
        raise UserError(f"--{flag}={cpus}: this process may use {len(allowed)} CPUs; give at most that.")
    os.sched_setaffinity(0, allowed[: cpus or len(allowed)])
    return cpus or len(allowed)


def keep_memory():
    """Let glibc keep what the processes started from now on free, as TensorFlow's allocator does, for the next step."""
    limits = {"MMAP_THRESHOLD": 2**33, "TRIM_THRESHOLD": 2**34, "TOP_PAD": 2**28}
    os.environ.update({f"MALLOC_{name}_": str(value) for name, value in limits.items()})


@contextlib.contextmanager
def start(module, case):
    """Run `python -m module --case=...`, with this process's own flags too, as long as the `with` lasts.

    Args:
        module: program that calls `serve` where it is given --case.
        case: dict of JSON values.

    Yields:
        Worker.
    """
    command = [sys.executable, "-m", module, *sys.argv[1:], f"--case={json.dumps(case)}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(command, stderr=errors, **pipes)
        try:
            yield Worker(process, errors, f"{module} {case}")
        except BaseException:
            process.kill()
            raise
        finally:
            process.communicate()  # nothing more to ask: it ends


class Worker:
    """A process that answers requests, see `start` and `serve`.

    Args:
        process: subprocess.Popen.
        errors: file of what it prints on stderr.
        name: for messages.
    """

    def __init__(self, process, errors, name):
        self._process, self._errors, self._name = process, errors, name

    def ask(self, what, **arguments):
        """Send a request and wait for the answer.

        Raises:
            UserError: the process died, with the last line that it printed.
        """
        with contextlib.suppress(BrokenPipeError):  # it died; the lines below say of what
            self._process.stdin.write(json.dumps([what, arguments]) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            lines = [line for line in self._errors.read().splitlines() if line.strip()]
            raise UserError(f"a competitor failed ({self._name}): {first_line(lines[-1] if lines else 'no message')}")
        return json.loads(answer)


def serve(answers):
    """Answer the requests of a `Worker` until there are no more.

    Args:
        answers: {request: function of the request's arguments that returns JSON values}.
    """
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    for line in sys.stdin:
        what, arguments = json.loads(line)
        channel.write(json.dumps(answers[what](**arguments)) + "\n")
        channel.flush()


def take_turns(workers, repetitions, what, **arguments):
    """Ask each of {name: Worker} the same, one after the other, `repetitions` times; every other time from the end.

    Returns:
        {name: list of the answers}.
    """
    answers = {name: [] for name in workers}
    for i in range(repetitions):
        for name in list(workers)[:: -1 if i % 2 else 1]:
            time.sleep(_PAUSE_S)
            answers[name].append(workers[name].ask(what, **arguments))
    return answers


def spread(values):
    """Return {"median", "least", "most"} of some numbers."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratios(ours, theirs):
    """`spread` of the ratios `ours / theirs`, both lists, one of each repetition."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def show(found, decimals=2):
    """One `spread` as text."""
    return f"{found['median']:.{decimals}f} ({found['least']:.{decimals}f}-{found['most']:.{decimals}f})"


def memory_mb():
    """Return (now, peak) of the memory of this process that is in RAM, MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process was forked from
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return tuple(int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    return peak, peak
