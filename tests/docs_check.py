"""Run the code blocks of the documents as they are printed: `make docs-check`, or this file with pages as arguments.

The blocks of one page run in order, in one new folder. A block without a language is shell commands (in bash; one that
fails ends the block); one in python is a script of its own. Nothing that is printed is changed. What is around it is:

- `glcic` is the command of this working tree;
- the folder holds small files under the names that the documents use, as `stand_ins` lists them;
- the configs that ship train four steps at 16 px, whatever their names promise; `default` and `tiny` are themselves.

A block that cannot run here has a comment before it, with the reason: <!-- not run: it needs a TPU -->
docs/api.md is left out, since its blocks are signatures, which `make api` takes from the code.
"""

import concurrent.futures
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import typing
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/*.md", "benchmarks/*.md")
SIGNATURES = ROOT / "docs" / "api.md"
TIMEOUT_S = 1200  # of a block, on a busy machine
NOT_RUN = re.compile(r"<!-- not run: (.*\S) -->")
FENCE = re.compile(r"\s*```(.*)")
SHORT_CONFIG = """
from glcic_tf.configs import default, tiny

def get_config():
    config = tiny.get_config()
    config.update(default.size(16))
    config.stages = default.stages(
        config,
        completion=default.stage("completion", steps=2),
        discriminator=default.stage("discriminator", steps=1),
        joint=default.stage("joint", steps=1),
    )
    return config
"""


class Block(typing.NamedTuple):
    """A fenced block of a page.

    Attributes:
        page: path from the root of the repository.
        line: of its first line of code, counted from 1.
        language: what stands behind the fence.
        code: what is printed.
        reason: why it is not run; empty: it is.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str


def blocks(page, text):
    """Find the fenced blocks of a page.

    Raises:
        ValueError: a block has no end or a language that cannot be run, or a marker has no block.
    """
    found, start, language, reason = [], None, "", ""
    lines = text.splitlines()
    for number, line in enumerate([*lines, ""], 1):
        fence = FENCE.match(line)
        if start is not None:
            if fence:
                code = "\n".join(lines[start : number - 1])
                found.append(Block(page, start + 1, language, code, reason))
                start, reason = None, ""
        elif fence:
            start, language = number, fence[1].strip()
            if not reason and language not in ("", "python"):
                raise ValueError(f"{page}:{number}: {language} is not run; expected nothing, python, or a marker.")
        elif reason and line.strip():
            raise ValueError(f"{page}:{number}: expected a block after the marker.")
        elif "not run:" in line and "<!--" in line:
            if not (marker := NOT_RUN.fullmatch(line.strip())):
                raise ValueError(f"{page}:{number}: expected <!-- not run: the reason --> on a line of its own.")
            reason = marker[1]
    if start is not None:
        raise ValueError(f"{page}:{start}: the block has no end.")
    return found


def stand_ins(folder):
    """Fill a folder with small files under the names that the documents use."""
    import numpy as np

    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "convert")]
    import published_files

    from glcic_tf.apps import demo
    from glcic_tf.imaging import images
    from glcic_tf.networks import model_file
    from glcic_tf.networks.completion import completion_network

    for name in ("photos", "masks", "run"):
        (folder / name).mkdir()
    corners = {  # of crops of 256 px in scikit-image's photos, (top, left)
        "coffee.png": [(100, 300), (140, 0), (0, 150)],
        "chelsea.png": [(0, 100), (40, 190)],
        "rocket.jpg": [(150, 200), (0, 0), (170, 380)],
        "astronaut.png": [(0, 100), (250, 250)],
    }
    for name, places in corners.items():
        for i, (top, left) in enumerate(places):
            photo = images.read_photo(demo.sample_path(name))[top : top + 256, left : left + 256]
            hole = demo.rectangles((256, 256), (60 + 20 * i, 90, 50, 60))
            images.write_image(folder / f"photos/{Path(name).stem}{i}.jpg", photo)
            images.write_image(folder / f"masks/{Path(name).stem}{i}.png", np.uint8(hole) * 255)
    images.write_image(folder / "cut_out.png", np.dstack([photo, np.uint8(~hole) * 255]))
    shutil.copy(folder / "photos/coffee0.jpg", folder / "photo.jpg")
    shutil.copy(folder / "masks/coffee0.png", folder / "mask.png")
    with tarfile.open(folder / "photos.tar", "w") as archive:
        archive.add(folder / "photos", "photos")
    shutil.copytree(ROOT / "docs/removal", folder / "docs/removal")

    model_file.save(completion_network(1 / 16, (0.4, 0.5, 0.6)), folder / "run/joint.keras")
    published_files.write(folder, 1 / 16, "completionnet_places2.t7", "gl_256x256_8x12_places.pth")


def package(folder):
    """Make a folder for PYTHONPATH, with this working tree's package and short configs; one for PATH, with `glcic`."""
    (folder / "glcic_tf").symlink_to(ROOT / "glcic_tf")
    (folder / "configs").mkdir()
    for path in (ROOT / "configs").glob("*.py"):
        if path.stem in ("default", "tiny"):
            shutil.copy(path, folder / "configs")
        else:
            (folder / "configs" / path.name).write_text(SHORT_CONFIG)
    (folder / "bin").mkdir()
    command = folder / "bin" / "glcic"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m glcic_tf "$@"\n')
    command.chmod(0o755)


def run(block, folder, package_folder):
    """Run a block; return what went wrong, or an empty text."""
    script = Path(folder, f".{Path(block.page).stem}-{block.line}")
    text = "\n" * (block.line - 1) + block.code + "\n"  # so that errors name lines of the page
    if block.language == "python":
        command = [sys.executable, "-P", script]
    else:
        command = ["bash", "-eE", "-o", "pipefail", script]
        text = "trap 'echo \"line $LINENO: $BASH_COMMAND\" >&2' ERR" + text
    script.write_text(text, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name not in ("KERAS_BACKEND", "TF_CONFIG")}
    path = os.pathsep.join([str(package_folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = kept | {"PATH": path, "PYTHONPATH": str(package_folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        return f"took more than {TIMEOUT_S} s\n{(error.stdout or b'').decode(errors='replace')}"
    output = done.stdout.decode(errors="replace").replace(str(script), block.page)
    return f"exit code {done.returncode}\n{output}" if done.returncode else ""


def check_page(found, prepared, package_folder):
    """Run the blocks of one page in a copy of the stand-ins; return [(block, seconds, what went wrong), ...]."""
    results = []
    with tempfile.TemporaryDirectory(prefix="docs-check-") as folder:
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        for block in found:
            start = time.perf_counter()
            problem = "" if block.reason else run(block, Path(folder), package_folder)
            results.append((block, time.perf_counter() - start, problem))
    return results


def report(block, seconds, problem):
    """Print what became of a block: in one line, or with the end of its output."""
    state = "FAILED" if problem else "not run" if block.reason else "ok"
    note = block.reason or f"{seconds:.0f} s"
    print(f"{state:<7}  {block.page}:{block.line}  {note}", flush=True)
    if problem:
        code = block.code.splitlines()
        print(*[f"    > {line}" for line in code], *[f"    {line}" for line in problem.splitlines()[-30:]], sep="\n")


def main(pages):
    """Check pages, by default all, two at a time; return the exit code."""
    everything = {path for glob in PAGES for path in ROOT.glob(glob)} - {SIGNATURES}
    paths = [Path(page).resolve() for page in pages] or sorted(everything)
    try:
        found = [blocks(os.path.relpath(path, ROOT), path.read_text(encoding="utf-8")) for path in paths]
    except (OSError, ValueError) as error:
        print(error)
        return 1
    start, counts = time.perf_counter(), {"ok": 0, "not run": 0, "FAILED": 0}
    with tempfile.TemporaryDirectory(prefix="docs-check-") as folder:
        prepared, package_folder = Path(folder, "stand-ins"), Path(folder, "package")
        prepared.mkdir(), package_folder.mkdir()
        stand_ins(prepared)
        package(package_folder)
        found.sort(key=len, reverse=True)  # long pages first
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(check_page, page, prepared, package_folder) for page in found]
            for job in concurrent.futures.as_completed(jobs):
                for result in job.result():
                    report(*result)
                    block, _, problem = result
                    counts["FAILED" if problem else "not run" if block.reason else "ok"] += 1
    seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = ", ".join(f"{n} {state}" for state, n in counts.items())
    print(f"{sum(counts.values())} blocks: {found}; {seconds:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU time")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
