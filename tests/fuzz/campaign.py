"""Campaigns of spoilt files, commands that are killed, and hostile requests: `make fuzz N=1000`.

    python tests/fuzz/campaign.py N [TARGET ...] [--seed=0]

Each input either does what it should or ends in one clear error (held); a traceback, a crash, more than 10 s, more
memory than is allowed or a half-written file is a failure, and what caused it is kept in the folder `fuzz/`. Work is
done in processes that may crash. The same N and seed give the same inputs.
"""

import collections
import contextlib
import json
import multiprocessing
import os
import random
import shutil
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
    _reset_peak()
    base, start, cpu = _memory("VmRSS"), time.perf_counter(), time.process_time()
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
    seconds, more = min(time.perf_counter() - start, time.process_time() - cpu), _memory("VmHWM") - base
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


def _memory(name):
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))
    except (OSError, StopIteration):
        return 0


def _reset_peak():
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
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


def _worker(name, seed, connection):
    """A process that does inputs as their numbers come, until None does."""
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    from targets import TARGETS

    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        made = target.make(Path(folder) / "made")
        place = Path(folder) / "input"
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries' own complaints
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        check_sound(target, made, place)
        connection.send(str(place))
        while (number := connection.recv()) is not None:
            place.mkdir()
            connection.send(attempt(target, made, number, seed, place))
            if connection.recv():  # whether to keep it
                shutil.copytree(place, Path("fuzz", name, str(number)), dirs_exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
        target.close(made)


def run(name, count, seed=0, first=0):
    """Do inputs `first` to `count` of a target in another process: counts by kind, and {why: [numbers]} of failures."""
    context = multiprocessing.get_context("spawn")
    counts, failures, worker = collections.Counter(), collections.defaultdict(list), None
    for number in range(first, count):
        if worker is None:
            ours, theirs = context.Pipe()
            worker = context.Process(target=_worker, args=(name, seed, theirs), daemon=True)
            worker.start()
            theirs.close()
            place = ours.recv()
        try:
            ours.send(number)
            outcome = ours.recv() if ours.poll(_GIVEN_UP_S) else Outcome("failed", f"time: more than {_GIVEN_UP_S} s")
            gone = "more than" in outcome.why
            if not gone:
                ours.send(outcome.kind == "failed")
        except (EOFError, OSError):
            worker.join()
            outcome, gone = Outcome("failed", f"crash: exit code {worker.exitcode}"), True
        if gone:
            if Path(place).exists():
                shutil.copytree(place, Path("fuzz", name, str(number)), dirs_exist_ok=True)
            worker.kill()
            worker.join()
            worker = None
        counts[outcome.kind] += 1
        if outcome.kind == "failed":
            failures[outcome.why].append(number)
    if worker is not None:
        ours.send(None)
        worker.join()
    return counts, dict(failures)


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
    from kills import KILLED
    from targets import TARGETS

    names = arguments[1:] or [*TARGETS, *KILLED]
    rows = []
    for name in names:
        start = time.perf_counter()
        if name in TARGETS:
            counts, failures = run(name, int(arguments[0]), seed)
        else:
            counts, failures = KILLED[name](int(arguments[0]), seed)
        rows.append((name, counts))
        print(table(rows[-1:]).splitlines()[1], f"{time.perf_counter() - start:.0f} s", flush=True)
        for why, numbers in failures.items():
            print(f"  {len(numbers)} x {why}; {json.dumps(numbers[:5])}", flush=True)
    print(table(rows))
    sys.exit(any(counts["failed"] for _, counts in rows))


if __name__ == "__main__":
    main()
