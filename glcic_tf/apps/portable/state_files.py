"""The state of a run as NumPy arrays in files: one `.npz` for each network and each optimiser, in 32 or 16 bit.

A state is a folder that appears under its name when it is complete, with `state.json`: step, stage and phase, what the
run folder needs to take it back, and the checksum of every file. Arrays are called `<part>/<variable>`.
"""

import hashlib
import json
import shutil
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError, first_line

FORMAT = 1
POSITION = "state.json"
PARTS = ("all", "networks", "completion")
NETWORKS = ("completion", "average", "discriminator")
_MAX_BYTES = 2**33
# What NumPy and zipfile raise for a file that is cut short, spoilt, or made to.
_UNDECODABLE = (ValueError, KeyError, TypeError, EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError)
_UNDECODABLE += (zipfile.BadZipFile, zlib.error, tokenize.TokenError, struct.error)
_HALF = "@bfloat16"  # after an array's name: the upper halves of its float32s


def save(folder, arrays, position, parts="all", bits=32):
    """Write a state.

    Args:
        folder: to write, replaced if it is a state.
        arrays: dict of `<part>/<variable>` -> NumPy array; `step` is in `position`.
        position: dict of JSON's types; `step` must be in it.
        parts: "all"; "networks" leaves out the optimisers; "completion" is C alone, and its moving average.
        bits: 32 keeps everything to the bit. 16 rounds float32: to float16 in networks, and to bfloat16 in optimisers,
            whose running averages are too small for float16.

    Raises:
        UserError: the folder cannot be written, or a network does not fit float16.
    """
    chosen = {"networks": NETWORKS, "completion": NETWORKS[:2]}.get(parts)
    groups = {}
    for name, array in arrays.items():
        part, variable = name.split("/", 1)
        if chosen is None or part in chosen:
            groups.setdefault(part, {})[variable] = array
    members = {POSITION, *(f"{part}.npz" for part in groups)}
    folder = Path(folder)
    old = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    with files.replacing_folder(
        folder, True, "a saved state", POSITION, members | {n for n in old if _is_part(n)}
    ) as new:
        checksums = {}
        for part, variables in groups.items():
            path = new / f"{part}.npz"
            np.savez(path, **dict(_packed(folder, part, *item, bits) for item in variables.items()))
            checksums[path.name] = _checksum(path)
        content = {**position, "format": FORMAT, "bits": bits, "parts": parts, "files": checksums}
        (new / POSITION).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_position(folder):
    """Read `state.json` of a state; raises UserError."""
    path = Path(folder) / POSITION
    try:
        position = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{folder}: is not a saved state ({POSITION}: {error.strerror}); name the folder of one."
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "is not JSON") from error
    if not isinstance(position, dict) or position.get("format") != FORMAT:
        raise UserError(f"{path}: is of another format than this version's {FORMAT}; use the version that wrote it.")
    if not isinstance(position.get("files"), dict) or not isinstance(position.get("step"), int):
        raise _damaged(path, "misses files or step")
    return position


def load(folder):
    """Read a state, whatever its bits.

    Returns:
        (arrays, position): dict of `<part>/<variable>` -> NumPy array as it was given to `save` (rounded, in 16 bit),
        and what is in `state.json`.

    Raises:
        UserError: the state is missing, damaged or of another format.
    """
    position, arrays = read_position(folder), {}
    for name, expected in position["files"].items():
        path = Path(folder) / Path(name).name
        try:
            if _checksum(path) != expected:
                raise _damaged(path, f"has another checksum than {POSITION} says")
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                    raise _damaged(path, "is larger than any state")
            with np.load(path, allow_pickle=False) as stored:
                for key in stored.files:
                    array = stored[key]
                    if not isinstance(array, np.ndarray):
                        raise ValueError(f"{key} is not an array")
                    variable, array = _unpacked(key, array)
                    arrays[f"{path.stem}/{variable}"] = array
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); copy the whole state again.") from error
        except _UNDECODABLE as error:
            raise _damaged(path, f"cannot be decoded ({first_line(error)})") from error
    return arrays, position


class Saved:
    """The states that a run keeps in a folder, `step-<number>`, the newest two of them."""

    def __init__(self, folder, kept=2):
        self.folder, self.kept = Path(folder), kept

    def save(self, arrays, position, parts, bits):
        """Save a state under its step, and delete what is too old."""
        path = self.folder / f"step-{position['step']:08d}"
        if path.is_dir() and not (path / POSITION).exists() and all(_is_part(file.name) for file in path.iterdir()):
            shutil.rmtree(path, ignore_errors=True)  # half a state, as of a copy that was cut short
        save(path, arrays, position, parts, bits)
        paths = self._paths()
        # Higher numbers are those that could not be read, or the run would have gone on from them.
        kept = paths[: paths.index(path) + 1][-self.kept :]
        unfinished = self.folder.glob(".*.part")  # of a run that was killed while it saved
        for old in [*(path for path in paths if path not in kept), *unfinished]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self, complain):
        """Load the newest state that can be read: (arrays, position), None without any; `complain` of the others."""
        for path in reversed(self._paths()):
            try:
                return load(path)
            except UserError as error:
                complain(f"left out: {error}")
        return None

    def _paths(self):
        paths = self.folder.glob("step-*") if self.folder.is_dir() else []
        numbered = [path for path in paths if path.name.removeprefix("step-").isdecimal()]
        return sorted(numbered, key=lambda path: int(path.name.removeprefix("step-")))


def _is_part(name):
    return name == POSITION or name.endswith(".npz")


def _packed(folder, part, name, array, bits):
    array = np.asarray(array)
    if bits == 32 or array.dtype != np.float32:
        return name, array
    if part in NETWORKS:
        with np.errstate(over="ignore"):  # told below
            half = array.astype(np.float16)
        if np.isfinite(array).all() and not np.isfinite(half).all():
            raise UserError(f"{folder}: {part}/{name} has values beyond float16's; save in 32 bit.")
        return name, half
    # Round to the nearest: half of the last bit that stays is added.
    upper = (array.view(np.uint32).astype(np.uint64) + 0x8000) >> 16
    return name + _HALF, np.where(np.isnan(array), 0x7FC0, upper).astype(np.uint16)


def _unpacked(name, array):
    if name.endswith(_HALF):
        return name.removesuffix(_HALF), (array.astype(np.uint32) << 16).view(np.float32)
    return name, array.astype(np.float32) if array.dtype == np.float16 else array


def _checksum(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def _damaged(path, why):
    return UserError(f"{path}: {why}; the state is damaged: take an older one, or copy it again.")
