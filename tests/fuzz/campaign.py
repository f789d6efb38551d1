"""Campaigns of spoilt files, commands that are killed, and hostile requests: `make fuzz N=1000`.

    python tests/fuzz/campaign.py N [TARGET ...] [--seed=0]

Each input either does what it should or ends in one clear error (held); a traceback, a crash, more than 10 s, more
memory than is allowed or a half-written file is a failure, and what caused it is kept in the folder `fuzz/`. Work is
done in processes that may crash. The same N and seed give the same inputs. A failure is printed when it is found, and
the counts every minute; Ctrl-C prints those so far.
"""

import collections
import contextlib
import faulthandler
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import typing
import zlib
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import mutators  # noqa: E402 - found in the folder above

MAX_S = 10.0
_GIVEN_UP_S = 60
_MADE_S = 300  # for what is made once, servers that start among it
_PROGRESS_S = 60
_STACKS = "stacks.txt"  # where a process was that did not end


class Outcome(typing.NamedTuple):
    """What became of an input: "done", "refused" or "failed", and why."""

    kind: str
    why: str = ""


def attempt(target, made, number, seed, folder):
    """Do one input of a target.

    Args:
        target: a targets.Target.
        made: what its `make` returned.
        number, seed: decide the input.
        folder: empty; holds the input afterwards.
    """
    from glcic_tf.common.errors import UserError

    rng = random.Random(f"{target.name}/{seed}/{number}")
    given = target.spoil(made, folder, rng)
    before = set(_files(folder))
    processes = target.processes(made)
    for process in processes:
        _reset_peak(process)
    bases = [_memory(process, "VmRSS") for process in processes]
    start, cpu = time.perf_counter(), _cpu_seconds(processes)
    try:
        target.read(given)
        outcome = Outcome("done")
    except UserError as error:
        outcome = Outcome("refused", str(error))
    except (SystemExit, Exception) as error:  # whatever it is, it is a failure
        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "glcic_tf" in f.filename]
        where = (
            f"{Path(place.filename).name}:{place.lineno} by {Path(ours[-1].filename).name}:{ours[-1].lineno}"
            if ours
            else ""
        )
        return Outcome("failed", f"traceback: {type(error).__name__}: {str(error)[:500]} ({where})")
    # Of the processor, since others may use it too; of the clock, since several threads may work.
    seconds = min(time.perf_counter() - start, _cpu_seconds(processes) - cpu)
    more = max(_memory(process, "VmHWM") - base for process, base in zip(processes, bases, strict=True))
    if seconds > MAX_S:
        return Outcome("failed", f"time: {seconds:.0f} s")
    if more > target.max_bytes:
        return Outcome("failed", f"memory: {more / 1e6:.0f} MB")
    if outcome.kind == "refused" and ("\n" in outcome.why or len(outcome.why) > 2000):
        return Outcome("failed", f"message: {len(outcome.why)} characters, {outcome.why.count(chr(10)) + 1} lines")
    left = [path.name for path in set(_files(folder)) - before if ".part" in path.name]
    if left:
        return Outcome("failed", f"half-written: {left}")
    return outcome


def _files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def _memory(process, name):
    try:
        with open(f"/proc/{process}/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))
    except (OSError, StopIteration):
        return 0


def _cpu_seconds(processes):
    """Seconds of the processor that processes have used, those of their children that have ended among them."""
    ticks = 0
    for process in processes:
        with contextlib.suppress(OSError), open(f"/proc/{process}/stat") as file:
            ticks += sum(int(word) for word in file.read().rpartition(")")[2].split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _reset_peak(process):
    with contextlib.suppress(OSError), open(f"/proc/{process}/clear_refs", "w") as file:
        file.write("5")


def check_sound(target, made, folder):
    """Raise an AssertionError unless the target reads what is not spoilt; what is done once is done then, too."""
    mutators.sound = True
    folder.mkdir()
    try:
        outcome = attempt(target, made, 0, 0, folder)
    finally:
        mutators.sound = False
        shutil.rmtree(folder, ignore_errors=True)
    assert outcome.kind == "done" or outcome.why.startswith(("time", "memory")), outcome


def run_here(target, count, seed, folder):
    """Do the first `count` inputs of a target in this process: counts by kind, and who failed why."""
    folder = Path(folder)
    made = target.make(folder / "made")
    check_sound(target, made, folder / "input")
    counts, failed = collections.Counter(), []
    for number in range(count):
        place = folder / "input"
        place.mkdir()
        outcome = attempt(target, made, number, seed, place)
        counts[outcome.kind] += 1
        if outcome.kind == "failed":
            failed.append((number, outcome.why))
        shutil.rmtree(place, ignore_errors=True)
    target.close(made)
    return counts, failed


def _worker(find, name, seed, connection):
    """A process that does inputs as their numbers come, until None does."""
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the process that counts; what this starts has its own
    target = find(name)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        made = target.make(Path(folder) / "made")
        place = Path(folder) / "input"
        stacks = (Path(folder) / _STACKS).open("w")
        faulthandler.register(signal.SIGUSR1, stacks)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries' own complaints
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            check_sound(target, made, place)
        except AssertionError as error:
            connection.send(error)
            raise
        connection.send(place)
        while (number := connection.recv()) is not None:
            place.mkdir()
            connection.send(attempt(target, made, number, seed, place))
            if connection.recv():  # whether to keep it
                shutil.copytree(place, Path("fuzz", name, str(number)), dirs_exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
        target.close(made)


def find_target(name):
    """The target of a name."""
    from targets import TARGETS

    return TARGETS[name]


class Run:
    """Inputs of a target, done in another process, which is started anew when an input ended it.

    Attributes:
        counts: by kind.
        failures: {why: [numbers]}.
    """

    def __init__(self, name, seed=0, find=find_target):
        self.counts, self.failures = collections.Counter(), collections.defaultdict(list)
        self._arguments, self._worker = (find, name, seed), None

    def run(self, count, first=0):
        """Do inputs `first` to `count`; print failures as they come, and now and then the counts."""
        told = time.monotonic()
        for number in range(first, count):
            outcome = self._attempt(number)
            self.counts[outcome.kind] += 1
            if outcome.kind == "failed":
                self.failures[outcome.why].append(number)
                print(f"  {self._arguments[1]} {number}: {outcome.why}", flush=True)
            if time.monotonic() - told > _PROGRESS_S:
                print(f"  {self._arguments[1]}: {number + 1} of {count}, {self.counts['failed']} failed", flush=True)
                told = time.monotonic()
        return self

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._worker = context.Process(target=_worker, args=(*self._arguments, theirs), daemon=True)
        self._worker.start()
        theirs.close()
        if not self._ours.poll(_MADE_S):
            raise TimeoutError(f"what {self._arguments[1]} needs was not made within {_MADE_S} s")
        self._place = self._ours.recv()
        if isinstance(self._place, AssertionError):
            raise self._place

    def _attempt(self, number):
        if self._worker is None:
            self._start()
        before = _cpu_seconds([self._worker.pid])
        try:
            self._ours.send(number)
            if self._ours.poll(_GIVEN_UP_S):
                outcome = self._ours.recv()
                self._ours.send(outcome.kind == "failed")
                return outcome
            used = _cpu_seconds([self._worker.pid]) - before
            outcome = Outcome("failed", f"time: more than {_GIVEN_UP_S} s, {used:.0f} s of the processor")
            os.kill(self._worker.pid, signal.SIGUSR1)  # it writes down where it is
            time.sleep(1)
        except (EOFError, OSError):
            self._worker.join()
            outcome = Outcome("failed", f"crash: exit code {self._worker.exitcode}")
        if self._place.exists():
            kept = Path("fuzz", self._arguments[1], str(number))
            shutil.copytree(self._place, kept, dirs_exist_ok=True)
            shutil.copy(self._place.with_name(_STACKS), kept)
        self._worker.kill()
        self._worker.join()
        self._worker = None
        return outcome

    def close(self):
        """End the process, which ends what it started in good order."""
        if self._worker is not None:
            with contextlib.suppress(OSError):
                for _ in range(2):  # after an interruption it first asks whether to keep what it did
                    self._ours.send(None)
            self._worker.join(_GIVEN_UP_S)
            self._worker.kill()


def table(rows):
    """Counts as text: rows are (name, counts)."""
    lines = [f"{'target':<16}{'tried':>8}{'held':>8}{'failed':>8}   (held: done + refused)"]
    for name, counts in rows:
        held = counts["done"] + counts["refused"]
        tried = held + counts["failed"]
        lines.append(f"{name:<16}{tried:>8}{held:>8}{counts['failed']:>8}   ({counts['done']} + {counts['refused']})")
    return "\n".join(lines)


def main():
    """Do all targets, or those that are named, and print what became of them."""
    arguments = [word for word in sys.argv[1:] if not word.startswith("--seed=")]
    seed = next((int(word[7:]) for word in sys.argv if word.startswith("--seed=")), zlib.crc32(b"glcic"))
    from kills import COMMANDS, Kills
    from targets import TARGETS

    for number in (signal.SIGINT, signal.SIGTERM):  # a process in the background ignores the first
        signal.signal(number, signal.default_int_handler)
    names = arguments[1:] or [*TARGETS, *(f"kill {name}" for name in COMMANDS)]
    rows, interrupted = [], False
    for name in names:
        start = time.perf_counter()
        campaign = Run(name, seed) if name in TARGETS else Kills(name.removeprefix("kill "), seed)
        try:
            campaign.run(int(arguments[0]))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            campaign.close()
        rows.append((name, campaign.counts))
        print(table(rows[-1:]).splitlines()[1], f"{time.perf_counter() - start:.0f} s", flush=True)
        for why, numbers in campaign.failures.items():
            print(f"  {len(numbers)} x {why}; {json.dumps(numbers[:5])}", flush=True)
        if interrupted:
            break
    print(table(rows))
    sys.exit(130 if interrupted else any(counts["failed"] for _, counts in rows))


if __name__ == "__main__":
    main()
