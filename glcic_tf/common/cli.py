"""What the scripts share: flags, errors as one line each, and work on many files."""

import collections
import contextlib
import itertools
import logging
import os
import re
import sys
import tempfile
import time
from concurrent import futures

from absl import app, flags
from tqdm import tqdm

from glcic_tf.common.errors import UserError

# TensorFlow logs these from C++ before anything can set its level; none of them is about what the user asked for.
_START_UP_NOTICE = re.compile(
    r"^(WARNING: All log messages before absl::|I0000 |.*cuInit"
    r"|[EW]0000 .*(Unable to register cu\w+ factory|computation placer already registered))"  # 2.19 alone
)


def run(main):
    """Parse the flags, run `main()`, and exit: 0 or what it returns, 1 on a UserError, 2 on bad flags, 130 on Ctrl-C.

    An error that the user can cause is one line on stderr that starts with the script's name; anything else is a bug
    and keeps its traceback.
    """
    script = _name()

    def parse(argv):
        try:
            rest = flags.FLAGS(argv)
            if rest[1:]:
                raise flags.Error(f"found {rest[1]!r}, which belongs to no flag")
        except flags.Error as error:
            missing = re.findall(r"Flag (--\w+) must have a value other than None", str(error))
            message = f"missing: {', '.join(missing)}" if missing else error
            say(f"{message}; see {script} --help")
            sys.exit(2)
        return rest

    def guarded(_):
        try:
            return main()
        except UserError as error:
            say(error)
            return 1
        except KeyboardInterrupt:
            say("stopped by Ctrl-C")
            return 130

    app.run(guarded, flags_parser=parse)


class _ScaleParser(flags.ArgumentParser):
    """Of "auto", or a number in (0, 1]."""

    def parse(self, argument):
        with contextlib.suppress(ValueError):
            if argument == "auto" or 0 < float(argument) <= 1:
                return argument if argument == "auto" else float(argument)
        raise ValueError("expected auto or a number in (0, 1]")


def define_scale(default, text):
    """Define the flag --scale, the argument of `Completer.complete`."""
    flags.DEFINE(_ScaleParser(), "scale", default, text)


def for_each(jobs, work, unit="photo", threads=1):
    """Do `work(job)` for every job; a UserError is reported on stderr and does not stop the rest.

    Shows a progress bar on a terminal, and a line with the counts and the time at the end.

    Args:
        jobs: list.
        work: function of one job; with several threads it is called in some of them at once.
        unit: what a job is, for the progress bar and the line.
        threads: jobs under way at once. Errors are reported in the order of the jobs all the same.

    Returns:
        Number of jobs that failed.
    """
    failed, start = 0, time.perf_counter()

    def error_of(job):
        try:
            work(job)
        except UserError as error:
            return str(error)  # without the traceback, which would keep a photo in memory

    pool, submitted, waiting = futures.ThreadPoolExecutor(threads), collections.deque(), iter(jobs)
    ahead = 16 * threads  # so that no thread waits for the oldest job, and a million of them take no memory
    try:
        for _ in tqdm(jobs, unit=unit, disable=None, leave=False):
            submitted += [pool.submit(error_of, job) for job in itertools.islice(waiting, ahead - len(submitted))]
            error = submitted.popleft().result()
            if error:
                failed += 1
                say(error)
    except KeyboardInterrupt:
        if submitted:
            say(f"interrupted: ends with the {unit}s under way")
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    done, seconds = len(jobs) - failed, time.perf_counter() - start
    print(f"{done} of {len(jobs)} {unit}s done in {seconds:.1f} s" + (f", {failed} failed" if failed else ""))
    return failed


@contextlib.contextmanager
def quiet_start():
    """Hold back the notices that TensorFlow prints on stderr when it is imported and looks for devices.

    Everything else that was printed meanwhile, also by code in C++, comes out at the end.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            sys.stderr.writelines(line for line in held if not _START_UP_NOTICE.match(line))


class _AboveProgressBar(logging.Handler):
    def emit(self, record):
        tqdm.write(self.format(record), file=sys.stderr)


def log_to_stderr():
    """Show what the package logs, with the time, above a progress bar."""
    handler = _AboveProgressBar()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("glcic_tf")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def say(message):
    """Print one line on stderr that starts with the script's name; a progress bar makes room for it."""
    with tqdm.external_write_mode(file=sys.stderr):
        print(f"{_name()}: {' '.join(str(message).split())}", file=sys.stderr)


def _name():
    return os.path.basename(sys.argv[0])
