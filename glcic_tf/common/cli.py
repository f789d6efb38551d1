"""What the commands share: flags, errors as one line each, and work on many files."""

import collections
import contextlib
import inspect
import itertools
import logging
import os
import re
import sys
import tempfile
import textwrap
import threading
import time
from concurrent import futures

from absl import app, flags

from glcic_tf.common import files
from glcic_tf.common.errors import UsageError, UserError, without_secrets

_HELP_FLAGS = {"--help", "-help", "-h", "-?", "--helpshort", "--helpfull"}
_HELP_COLUMNS = 100
_NUMBERS = (flags.IntegerParser, flags.FloatParser)

# TensorFlow logs these from C++ before anything can set its level; none of them is about what the user asked for.
_START_UP_NOTICE = re.compile(
    r"^(WARNING: All log messages before absl::|I0000 |.*cuInit"
    r"|[EW]0000 .*(Unable to register cu\w+ factory|computation placer already registered))"  # 2.19 alone
)


def run(main, define_flags=None, command=None, extra=""):
    """Parse the flags, run `main()`, and exit.

    Exit codes: 0 or what `main` returns, 1 on a UserError or a package that is missing, 2 on a wrong command line, 130
    on Ctrl-C. An error that the user can cause is one line on stderr that starts with the name in sys.argv[0]; anything
    else is a bug and keeps its traceback. --help prints `main`'s docstring and all flags of the command.

    Args:
        main: function without arguments, which finds the flags in `absl.flags.FLAGS`.
        define_flags: function that defines them; None: the module that is run has done so.
        command: how its docstring calls it; --help has the name in sys.argv[0] there.
        extra: see `missing_package`.
    """
    others = set(flags.FLAGS)
    if define_flags is None:
        names = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
    else:
        define_flags()
        names = [name for name in flags.FLAGS if name not in others]

    def parse(argv):
        before_the_end = argv[1 : argv.index("--") if "--" in argv else None]
        if not _HELP_FLAGS.isdisjoint(before_the_end):
            about = inspect.getdoc(main) or inspect.getdoc(sys.modules["__main__"]) or ""
            print(_help(about.replace(command, _name()) if command else about, names))
            sys.exit(0)
        try:
            rest = flags.FLAGS(argv)
            if rest[1:]:
                raise flags.Error(f"found {rest[1]!r}, which belongs to no flag")
            _expand_homes(names)
        except flags.Error as error:
            missing = re.findall(r"Flag (--\w+) must have a value other than None", str(error))
            message = f"missing: {', '.join(missing)}" if missing else error
            say(f"{message}; see {_name()} --help")
            sys.exit(2)
        except UserError as error:  # of a config
            say(error)
            sys.exit(2 if isinstance(error, UsageError) else 1)
        except PermissionError as error:
            if error.filename is None:
                raise
            say(files.told_of_permission(error))
            sys.exit(1)
        return rest

    def guarded(_):
        try:
            with missing_package(extra):
                return main()
        except UserError as error:
            say(error)
            return 2 if isinstance(error, UsageError) else 1
        except PermissionError as error:
            if error.filename is None:
                raise
            say(files.told_of_permission(error))
            return 1
        except KeyboardInterrupt:
            say("stopped by Ctrl-C")
            return 130

    try:
        app.run(guarded, flags_parser=parse)
    finally:  # so that a process can run several commands
        if define_flags is not None:
            for name in [name for name in flags.FLAGS if name in names or name.startswith("config.")]:
                delattr(flags.FLAGS, name)


def _expand_homes(names):
    """Put the home folder in place of "~" at the beginning of flags, as shells do not behind a "="."""
    for name in names:
        value = flags.FLAGS[name].value
        if isinstance(value, str) and value.startswith("~"):
            flags.FLAGS[name].value = files.with_home(value)
        elif isinstance(value, list):
            flags.FLAGS[name].value = [files.with_home(v) if str(v).startswith("~") else v for v in value]


@contextlib.contextmanager
def missing_package(extra):
    """Exit with one line where a package that is not installed is imported.

    Args:
        extra: the one of the package's extras that installs it; empty: the core install has it; None: it is for the
            user to choose, since the core install does not work there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "glcic_tf").partition(".")[0]
        if package == "glcic_tf":  # a bug
            raise
        advice = "install it" if extra is None else f"run: {install_line(extra)}"
        say(f"the package {package} is not installed; {advice}")
        sys.exit(1)


def install_line(extra=""):
    """Return the command that installs this package with one of its extras."""
    return f"pip install 'glcic-tf[{extra}]'" if extra else "pip install glcic-tf"


def _help(about, names):
    """Return what --help prints: about the command, then its flags in the order of their definition."""
    lines = [*about.splitlines(), "", "Flags:"]
    for flag in (flags.FLAGS[name] for name in names):
        required = any("must have a value other than None" in v.message for v in flag.validators)
        default = None if flag.boolean and not flag.default else (flag.default_as_str or "").strip("'")
        bounds = flag.parser.syntactic_help if isinstance(flag.parser, _NUMBERS) else ""
        notes = [bounds, "required" if required else f"default: {default}" if default else ""]
        choices = getattr(flag.parser, "enum_values", None)
        values = f"<{'|'.join(choices)}>" if choices else ""  # absl has them in the text
        text = flag.help.removeprefix(f"{values}: ")
        if any(notes):
            text += f" ({'; '.join(filter(None, notes))})"
        lines.append(f"  --{'[no]' if flag.boolean else ''}{flag.name} {values}".rstrip())
        lines += textwrap.wrap(text, _HELP_COLUMNS, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


class _ScaleParser(flags.ArgumentParser):
    """Reads "auto", or a number in (0, 1]."""

    def parse(self, argument):
        with contextlib.suppress(ValueError):
            if argument == "auto" or 0 < float(argument) <= 1:
                return argument if argument == "auto" else float(argument)
        raise ValueError("expected auto or a number in (0, 1]")


def define_scale(default, text):
    """Define the flag --scale, the argument of `Completer.complete`."""
    flags.DEFINE(_ScaleParser(), "scale", default, text)


def for_each(jobs, work, unit="photo", threads=1, skipped=0):
    """Do `work(job)` for every job; a UserError is reported on stderr and does not stop the rest.

    Shows a progress bar on a terminal, and a line with the counts and the time at the end.

    Args:
        jobs: list.
        work: function of one job; with several threads it is called in some of them at once.
        unit: what a job is, for the progress bar and the line.
        threads: jobs under way at once. Errors are reported in the order of the jobs all the same.
        skipped: how many more there are that need not be done, for the line.

    Returns:
        Number of jobs that failed.
    """
    from tqdm import tqdm

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
    _print_counts(len(jobs), failed, skipped, unit, start)
    return failed


def report_each(results, count, unit="photo", skipped=0):
    """Report on jobs that others do as `for_each` does.

    Args:
        results: iterator of (lines to say, error or None), whichever is done first.
        count: how many there will be.
        unit, skipped: as for `for_each`.

    Returns:
        Number of jobs that failed.
    """
    from tqdm import tqdm

    failed, start = 0, time.perf_counter()
    for lines, error in tqdm(results, total=count, unit=unit, disable=None, leave=False):
        failed += error is not None
        for line in [*lines, *([error] if error else [])]:
            say(line)
    _print_counts(count, failed, skipped, unit, start)
    return failed


def counted(count, unit):
    """A number of things in words: "1 photo", "2 photos"."""
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _print_counts(count, failed, skipped, unit, start):
    seconds = time.perf_counter() - start
    others = "".join(f", {n} {what}" for n, what in ((skipped, "skipped"), (failed, "failed")) if n)
    print(f"{count - failed} of {count + skipped} {unit}s done in {seconds:.1f} s{others}")


@contextlib.contextmanager
def clock(label):
    """Show on a terminal for how many seconds something has been going on, once that takes more than one.

    Args:
        label: what it is, printed before the time.
    """
    if not sys.stderr.isatty():
        yield
        return
    from tqdm import tqdm

    over = threading.Event()
    with os.fdopen(os.dup(2), "w") as terminal:  # which `quiet_start` leaves alone

        def tick():
            if over.wait(1):
                return
            with tqdm(desc=label, bar_format="{desc}: {elapsed}", initial=0, leave=False, file=terminal) as bar:
                bar.start_t -= 1
                while not over.wait(0.5):
                    bar.refresh()

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


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
        from tqdm import tqdm

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
    """Print one line on stderr that starts with the command's name; a progress bar makes room for it."""
    tqdm = sys.modules.get("tqdm")  # without it there is no bar
    with tqdm.tqdm.external_write_mode(file=sys.stderr) if tqdm else contextlib.nullcontext():
        print(f"{_name()}: {' '.join(without_secrets(message).split())}", file=sys.stderr)


def _name():
    return os.path.basename(sys.argv[0])
