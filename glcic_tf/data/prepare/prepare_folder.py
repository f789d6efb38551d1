"""Prepare a folder of photos, or one part of it: many processes, one writer, and going on where a run was stopped.

Photos are written in the sorted order of their names, whichever process is done first, and a shard ends where the next
photo would make it too long. So the shards are the same, byte for byte, for any number of processes and interruptions.
"""

import collections
import contextlib
import hashlib
import itertools
import os
from pathlib import Path

from pebble import ProcessExpired
from tqdm import tqdm

from glcic_tf.common import cli, files, storage
from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.common.process_pool import process_pool
from glcic_tf.data import shard_index, sources
from glcic_tf.data.prepare import merge, parts
from glcic_tf.data.prepare.entry import Settings, prepare_all

_CHUNK = 16  # photos that a process does at once: calls are too costly for one
_AHEAD = 2  # chunks for each process that are made before the first of them is written
_MEMBERS = (shard_index.INDEX, shard_index.TABLE, shard_index.SKIPPED, parts.FOLDER)


def prepare(folder, output, photo_settings=None, shard_mb=256.0, part=(1, 1), processes=0):
    """Write the photos of a folder as shards, or go on with it; with the last part, write the index too.

    Args:
        folder: photos, at any depth; path or URL.
        output: folder of shards, outside of `folder`.
        photo_settings: photo.Settings; None: the defaults.
        shard_mb: longest that a shard may be, MB (10^6 bytes); it always holds at least one photo.
        part: (i, n): do part i of n, counted from 1.
        processes: 0: one for each core; 1: this one alone, so that a crash of a library ends the run.

    Returns:
        dict of index.json, or None if other parts are missing.

    Raises:
        UserError: the folders cannot be used, `output` holds something else, or no photo can be used.
    """
    number, of = part
    settings = prepare_part(folder, output, photo_settings, shard_mb, part, processes)
    left = merge.unfinished(output, settings)
    if left:
        shown = ", ".join(map(str, left[:20])) + (", ..." if len(left) > 20 else "")
        print(f"part {number} of {of} is done; not done yet: {shown}. Whichever is the last writes the index.")
        return None
    return merge.merge(output)


def prepare_part(folder, output, photo_settings=None, shard_mb=256.0, part=(1, 1), processes=0):
    """Write one part, without the index; all as for `prepare`. Returns the dict of settings that parts share."""
    photo_settings = photo_settings or Settings()
    number, of = part
    settings, names = begin(folder, output, photo_settings, shard_mb, of)
    first, end = merge.bounds(len(names), number, of)
    with parts.locked(output, number):
        work = _Work(folder, photo_settings, processes or os.cpu_count())
        _prepare_part(work, output, names, number, first, end, settings)
    return settings


def begin(folder, output, photo_settings, shard_mb, of):
    """Check the folders and write down what the shards are made with: dict of settings, list of the photos' names."""
    _check_folders(folder, output)
    names = sources.photo_names(folder)
    settings = {
        "version": shard_index.VERSION,
        **photo_settings._asdict(),
        "shard_bytes": int(shard_mb * 1e6),
        "parts": of,
        "found": len(names),
        "names_sha256": _hash(names),
    }
    _check_settings(output, settings)
    parts.write_settings(output, settings)
    return settings, names


def parts_begun(output):
    """How many parts a folder of shards was begun with; None for a new one."""
    settings = parts.read_settings(output)
    return settings and settings["parts"]


def _check_folders(folder, output):
    target = Path(output).resolve()
    if storage.is_inside(output, folder):
        raise UsageError(f"--output={output}: lies in --input={folder}; choose a folder outside of it.")
    if target.exists() and not target.is_dir():
        raise UserError(f"--output={output}: is a file; expected the name of a folder; choose another.")
    others = [
        name
        for name in (os.listdir(target) if target.exists() else ())
        if name not in _MEMBERS and not name.startswith(".") and not shard_index.SHARD_NAME.fullmatch(name)
    ]
    if others:
        raise UserError(f"--output={output}: holds {', '.join(sorted(others)[:3])}, and no shards; choose another.")


def _check_settings(output, settings):
    before = parts.read_settings(output)
    if before is None and Path(output, shard_index.INDEX).exists():
        raise UserError(f"--output={output}: holds finished shards; choose another, or delete it to make them again.")
    if before is None or before == settings:
        return
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed == ["names_sha256"] or "found" in changed:
        was, now = before.get("found"), settings["found"]
        raise UserError(
            f"--output={output}: was begun with other photos ({was} then, {now} now); choose another --output, or "
            "delete it to begin anew."
        )
    shown = ", ".join(f"{name} was {before.get(name)}, is {settings[name]}" for name in changed)
    raise UserError(f"--output={output}: was begun with other settings ({shown}); give the same, or another --output.")


def _hash(names):
    digest = hashlib.sha256()
    for name in names:
        digest.update(os.fsencode(name) + b"\0")
    return digest.hexdigest()


def _prepare_part(work, output, names, part, begin, end, settings):
    identity = parts.settings_id(settings)
    finished = parts.finished(output, part, identity, begin, end)
    if parts.is_complete(finished, begin, end):
        return
    seen = {  # digest -> name of the first photo that has it
        digest.tobytes(): os.fsdecode(one.table.name(i)) for one in finished for i, digest in enumerate(one.digests)
    }
    position, number = (finished[-1].header["end"] if finished else begin), len(finished) + 1
    shard = parts.ShardFile(output, part, number, identity, position)
    bar = tqdm(total=end - begin, initial=position - begin, unit="photo", disable=None, leave=False)
    try:
        with bar, contextlib.closing(work.results(names[position:end])) as results:
            for name, made in results:
                if isinstance(made, str):
                    shard.skip(name=files.printable(name), reason=made)
                    cli.say(f"skipped {files.printable(name)}: {made}")
                elif made.digest in seen:
                    shard.skip(name=files.printable(name), duplicate_of=files.printable(seen[made.digest]))
                else:
                    if shard.photos and shard.bytes + len(made.record) > settings["shard_bytes"]:
                        shard.finish(position)
                        number += 1
                        shard = parts.ShardFile(output, part, number, identity, position)
                    shard.add(os.fsencode(name), made)
                    seen[made.digest] = name
                position += 1
                bar.update()
        shard.finish(end)
    except BaseException:
        shard.discard()
        raise


class _Work:
    """Makes what shards hold of photos, in this process or in others."""

    def __init__(self, folder, settings, processes):
        self._folder, self._settings, self._processes = folder, settings, processes

    def results(self, names):
        """Yield (name, photo.Prepared or the reason why not) for all names in their order."""
        if self._processes == 1:
            for name in names:
                yield name, self._prepare([name])[0]
            return
        chunks = (names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK))
        with process_pool(self._processes) as pool:
            waiting = collections.deque()
            for chunk in itertools.chain(chunks, [None] * _AHEAD * self._processes):
                waiting.append((chunk, pool.schedule(prepare_all, self._arguments(chunk)) if chunk else None))
                if len(waiting) > _AHEAD * self._processes:
                    chunk, future = waiting.popleft()
                    if chunk:
                        yield from zip(chunk, self._result(pool, chunk, future), strict=True)

    def _arguments(self, names):
        return self._folder, names, self._settings

    def _prepare(self, names):
        try:
            return prepare_all(*self._arguments(names))
        except MemoryError as error:
            raise _no_memory() from error

    def _result(self, pool, names, future):
        try:
            return future.result()
        except MemoryError as error:
            raise _no_memory() from error
        except ProcessExpired as error:  # a library crashed, or the system ended it to get memory back
            if len(names) == 1:
                return [f"ended the process that decoded it (exit code {error.exitcode})"]
            alone = [([name], pool.schedule(prepare_all, self._arguments([name]))) for name in names]
            return [self._result(pool, *one)[0] for one in alone]


def _no_memory():
    return UserError("not enough memory for these photos; lower --processes or --max_megapixels, then go on.")
