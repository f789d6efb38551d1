"""Commands that are killed (SIGKILL): nothing is half-written, and the same command ends well.

Every second kill comes at a random moment; the others come while a file or folder is being written, which one is drawn.
"""

import collections
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import typing
import zipfile
from pathlib import Path

import numpy as np

_SHARE = 0.06  # of the inputs that are asked for, so many kills, since each takes seconds
_GIVEN_UP_S = 300
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["keras", "tensorflow", "cv2", "PIL.Image"])
os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")


class Killed(typing.NamedTuple):
    """A command that is killed.

    Attributes:
        command: function of (photos, output) -> arguments of glcic.
        share: of the kills that are asked for.
        results: pattern of the files that have to be the same in the end.
        whole: pattern of the files that are whole wherever they are.
    """

    command: typing.Callable
    share: float
    results: str
    whole: str


def _photos(folder):
    """A few photos, a mask, and a network that is quick."""
    from PIL import Image
    from targets import TARGETS

    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    for i in range(4):
        small = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
        small.resize((320, 240), Image.Resampling.BICUBIC).save(folder / "photos" / f"{i}.png")
    mask = np.zeros((240, 320), np.uint8)
    mask[100:116, 150:166] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    (_, content), *_ = TARGETS["models"].make(folder / "made")
    (folder / "model.keras").write_bytes(content)
    return folder / "photos"


def _trained(photos, output):
    stages = [f"--config.stages.{name}.steps=4" for name in ("completion", "discriminator", "joint")]
    every = ["--config.checkpoint_every_steps=2", "--config.log_every_steps=2", "--config.sample_every_steps=4"]
    return ["train", "--config=tiny", f"--data_dir={photos}", f"--workdir={output}", *stages, *every]


COMMANDS = {
    "complete": Killed(
        lambda photos, output: [
            *("complete", f"--image={photos}", f"--mask={photos.with_name('mask.png')}"),
            *(
                f"--output={output}",
                f"--model={photos.with_name('model.keras')}",
                "--postprocess=none",
                "--skip_existing",
            ),
        ],
        0.35,
        "*.png",
        "*.png",
    ),
    "prepare": Killed(
        lambda photos, output: [
            "prepare",
            f"--input={photos}",
            f"--output={output}",
            "--shard_mb=0.1",
            "--processes=1",
        ],
        0.2,
        "*.tfrecord",
        "*.json",
    ),
    "export": Killed(
        lambda photos, output: ["export", f"--model={photos.with_name('model.keras')}", f"--output={output}"],
        0.15,
        "*.pb",
        "*.pb",
    ),
    "evaluate": Killed(
        lambda photos, output: [
            *("evaluate", f"--images={photos}", f"--output={output}", "--methods=telea", "--models=", "--overwrite"),
            *("--size=64", "--hole_min=16", "--hole_max=24", "--workers=1"),
        ],
        0.15,
        "metrics.csv",
        "*.json",
    ),
    "train": Killed(_trained, 0.15, "*.keras", "*.keras"),
}


def _main(arguments, errors, writes, kill_at=None):
    """Do a command in this process, as `glcic` does; what it complains of goes to a file.

    Each file or folder that it begins to write adds a byte to the file `writes`; number `kill_at` of them ends it.
    """
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    count = os.open(writes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    met = set()

    def look(event, given):
        if event not in ("open", "os.mkdir") or not isinstance(given[0], str | os.PathLike):
            return
        path = os.fspath(given[0])
        if ".part" not in os.path.basename(path) or path in met or event == "open" and not given[2] & os.O_CREAT:
            return
        met.add(path)
        os.write(count, b".")
        if len(met) - 1 == kill_at:
            threading.Thread(target=_kill_when_there, args=(path,), daemon=True).start()

    sys.addaudithook(look)
    sys.argv = ["glcic", *arguments]
    from glcic_tf.__main__ import main

    main()


def _kill_when_there(path):
    """End this process as soon as there is something at a path."""
    while not (os.path.getsize(path) if os.path.isfile(path) else os.path.isdir(path) and os.listdir(path)):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def _run(arguments, folder, kill_after=None, kill_at=None):
    """Do a command; kill it after so many seconds, or when it writes: (exit code, seconds, stderr).

    It is forked from a process that has imported TensorFlow, which would take most of the time otherwise.
    """
    start, errors = time.perf_counter(), folder / "errors"
    process = _CONTEXT.Process(target=_main, args=(arguments, errors, folder / "writes", kill_at))
    process.start()
    process.join(kill_after or _GIVEN_UP_S)
    seconds = time.perf_counter() - start
    process.kill()
    process.join()
    if kill_after is None and seconds >= _GIVEN_UP_S:
        return None, seconds, f"it did not end within {_GIVEN_UP_S} s"
    return process.exitcode, seconds, errors.read_text() if errors.exists() else ""


def _parts(folder):
    return (name for _, folders, names in os.walk(folder) for name in (*folders, *names) if ".part" in name)


def _contents(folder, pattern):
    """The files that are finished: {name: what they hold}."""
    return {
        str(path.relative_to(folder)): _content(path)
        for path in sorted(folder.rglob(pattern))
        if path.is_file() and not path.name.startswith(".") and ".part" not in str(path)
    }


def _content(path):
    """A file's bytes; a model file's without the date that Keras writes into it."""
    if path.suffix != ".keras":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist() if name != "metadata.json")


class Kills:
    """A command that is killed, each time in a new place, and started again.

    Attributes:
        counts: "done" and "failed", "while writing" of them; "too late": ended before, so that it was tried again.
        failures: {why: [numbers]}.
    """

    def __init__(self, name, seed):
        self._name, self._killed, self._rng = name, COMMANDS[name], random.Random(f"{name}/{seed}")
        self._folder = Path(tempfile.mkdtemp(prefix="kills-"))
        self.counts, self.failures = collections.Counter(), collections.defaultdict(list)

    def run(self, inputs):
        """Kill it as often as its share of so many inputs says."""
        photos, whole = _photos(self._folder), self._folder / "whole"
        _run(["--version"], self._folder)  # starts the process that is forked, whose seconds do not count
        for _ in range(2):  # the second time is that of the runs to come
            shutil.rmtree(whole, ignore_errors=True)
            code, self._seconds, error = _run(self._killed.command(photos, whole), self._folder)
            assert code == 0, error[-500:]
        writes = (self._folder / "writes").stat().st_size
        assert _contents(whole, self._killed.results)
        assert writes
        count = max(1, round(inputs * self._killed.share * _SHARE))
        number = 0
        while number < count and self.counts["too late"] < 3 * count:
            if self._kill(photos, self._rng.randrange(writes) if number % 2 == 0 else None, number):
                number += 1

    def _kill(self, photos, at, number):
        """Kill it once; whether it was there to be killed."""
        whole, place = self._folder / "whole", self._folder / "killed"
        (output := place / "output").mkdir(parents=True)
        try:
            moment = None if at is not None else self._rng.uniform(0.2, 0.9) * self._seconds
            code, seconds, error = _run(self._killed.command(photos, output), self._folder, moment, at)
            if code == 0:  # the machine was busier before
                self._seconds = min(self._seconds, seconds)
                self.counts["too late"] += 1
                return False
            parts = any(_parts(place))
            torn = self._torn(output, whole)
            again, _, error_again = _run(self._killed.command(photos, output), self._folder)
            expected, found = (_contents(folder, self._killed.results) for folder in (whole, output))
            why = None
            if code != -signal.SIGKILL:
                why = f"exit code {code}, {error.strip()[-300:]}"
            elif torn:
                why = f"half-written: {torn}"
            elif again != 0 or "Traceback" in error_again:
                why = f"it does not go on: exit code {again}, {error_again.strip()[-300:]}"
            elif found.keys() != expected.keys() or found != expected and self._name not in ("export", "evaluate"):
                why = "it ends otherwise than without a kill"
        finally:
            shutil.rmtree(place)
        self.counts["failed" if why else "done"] += 1
        self.counts["while writing"] += parts
        if why:
            self.failures[why].append(number)
            print(f"  kill {self._name} {number}: {why}", flush=True)
        return True

    def _torn(self, output, whole):
        """The files that should be whole and are not."""
        expected = _contents(whole, self._killed.whole)
        same = self._name in ("complete", "export")
        return [
            name
            for name, content in _contents(output, self._killed.whole).items()
            if same and content != expected.get(name) or not content
        ]

    def close(self):
        """Remove what was made, and tell how many kills came while a file was written."""
        shutil.rmtree(self._folder, ignore_errors=True)
        writing, late = self.counts["while writing"], self.counts["too late"]
        print(f"  kill {self._name}: {writing} while a file was written; {late} more came too late", flush=True)
