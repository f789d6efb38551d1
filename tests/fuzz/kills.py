"""Commands that are killed at random moments (SIGKILL): nothing is half-written, and the same command ends well."""

import collections
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import typing
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
            *("evaluate", f"--images={photos}", f"--output={output}", "--methods=telea", "--models=", "--overwrite")
        ],
        0.15,
        "metrics.csv",
        "*.json",
    ),
    "train": Killed(_trained, 0.15, "*.keras", "*.keras"),
}


def _main(arguments, errors):
    """Do a command in this process, as `glcic` does; what it complains of goes to a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = ["glcic", *arguments]
    from glcic_tf.__main__ import main

    main()


def _run(arguments, errors, kill_after=None, kill_at_part=None):
    """Do a command; kill it after so many seconds, or as soon as a file is being written: (code, seconds, stderr).

    It is forked from a process that has imported TensorFlow, which would take most of the time otherwise.
    """
    start = time.perf_counter()
    process = _CONTEXT.Process(target=_main, args=(arguments, errors))
    process.start()
    if kill_at_part is not None:
        while process.exitcode is None and not any(_parts(kill_at_part)):
            time.sleep(0.0005)
    else:
        process.join(kill_after or _GIVEN_UP_S)
    if process.exitcode is None:
        process.kill()
    process.join()
    return process.exitcode, time.perf_counter() - start, errors.read_text() if errors.exists() else ""


def _parts(folder):
    return (name for _, _, names in os.walk(folder) for name in names if ".part" in name)


def _contents(folder, pattern):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob(pattern))
        if path.is_file() and not path.name.startswith(".") and ".part" not in str(path)
    }


def _kill(name, count, seed):
    """Kill a command `count` times, each time in a new place, and start it again: counts, and failures by why."""
    killed, counts, failures = COMMANDS[name], collections.Counter(), collections.defaultdict(list)
    rng = random.Random(f"{name}/{seed}")
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        folder = Path(folder)
        photos, errors = _photos(folder), folder / "errors"
        _run(["--version"], errors)  # starts the process that is forked, whose seconds do not count
        code, seconds, error = _run(killed.command(photos, folder / "whole"), errors)
        assert code == 0, error[-500:]
        expected = _contents(folder / "whole", killed.results)
        assert expected
        for number in range(count):
            output = folder / "killed"
            output.mkdir()
            at_part = name in ("complete", "prepare") and number % 2 == 0
            moment = None if at_part else rng.uniform(0.2, 0.9) * seconds
            code, *_ = _run(killed.command(photos, output), errors, moment, output if at_part else None)
            parts = any(_parts(output))
            whole = _contents(folder / "whole", killed.whole)
            torn = [
                file
                for file, content in _contents(output, killed.whole).items()
                if name in ("complete", "export") and content != whole.get(file) or not content
            ]
            again, _, error = _run(killed.command(photos, output), errors)
            found = _contents(output, killed.results)
            why = None
            if torn:
                why = f"half-written: {torn}"
            elif again != 0 or "Traceback" in error:
                why = f"it does not go on: exit code {again}, {error.strip()[-300:]}"
            elif found.keys() != expected.keys() or found != expected and name not in ("export", "evaluate"):
                why = "it ends otherwise than without a kill"
            counts["failed" if why else "done"] += 1
            counts["while writing"] += parts and code == -signal.SIGKILL
            counts["ended before"] += code != -signal.SIGKILL
            if why:
                failures[why].append(number)
            shutil.rmtree(output)
    print(
        f"  {name}: {counts['while writing']} while a file was written, {counts['ended before']} too late", flush=True
    )
    return counts, dict(failures)


KILLED = {
    f"kill {name}": lambda count, seed, name=name: _kill(
        name, max(1, round(count * COMMANDS[name].share * _SHARE)), seed
    )
    for name in COMMANDS
}
