"""Photos to calls of a program: a folder or tar of them, decoded once, batches made while the device works."""

import collections
import contextlib
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from glcic_tf.apps.portable import pjrt
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.data import examples, sources

_AHEAD = 2  # calls whose batches are made while the device works
_NAMES = ("image", "mask", "patch", "real_patch")


class _CachedPhotos(examples.Photos):
    """Photos that stay in memory once they are decoded, as far as there is room."""

    def __init__(self, photos, room):
        super().__init__(photos.paths, photos.enlarge, photos.max_failures, photos.reduced_decode)
        self._room, self._decoded = room, {}

    def read(self, index, shorter_edge_px=None):
        key = index, shorter_edge_px
        photo = self._decoded.get(key)
        if photo is None:
            photo = super().read(index, shorter_edge_px)
            if photo is not None and photo.nbytes <= self._room:
                self._room -= photo.nbytes
                self._decoded[key] = photo
        return photo


def find(manifest, folder, batch_size, cache_gb, complain):
    """Find the photos to train on, as `glcic train` would for the same config.

    Args:
        manifest: the bundle's manifest.
        folder: a folder of photos.
        batch_size: the largest one that there will be.
        cache_gb: decoded photos are kept in this much memory.
        complain: told if they are not those that the bundle was made with.

    Raises:
        UserError: the folder holds no photos, or fewer than one batch.
    """
    config = manifest["config"]
    held_out = config["data"]["validation_photos"] if manifest["validation"] == "held_out" else 0
    data = SimpleNamespace(
        validation_photos=held_out,
        enlarge=config["data"]["enlarge"],
        reduced_decode=config["data"].get("reduced_decode", False),  # older bundles know nothing of it
    )
    photos, _ = sources.find(SimpleNamespace(seed=config["seed"], data=data), folder, None, batch_size)
    if sources.fingerprint(photos.paths) != manifest["fingerprint"]:
        complain(
            f"warning: these {len(photos.paths)} photos are not the {manifest['photos']} that the bundle was made with"
        )
    return _CachedPhotos(photos, cache_gb * 2**30)


@contextlib.contextmanager
def folder(data_dir):
    """Yield a folder of photos; a tar is unpacked to a temporary place."""
    if not Path(data_dir).is_file():
        yield data_dir
        return
    with tempfile.TemporaryDirectory(prefix="photos-") as unpacked:
        try:
            with tarfile.open(data_dir) as archive:
                archive.extractall(unpacked, filter="data")  # nothing outside of the folder, no devices
                # tarfile takes a header that it cannot read for the end. The true end is a block of zeros.
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(tarfile.BLOCKSIZE).count(0) != tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("it breaks off, or is damaged in the middle")
                while archive.fileobj.read(2**20):  # up to the checksum of a compressed one
                    pass
        except Exception as error:  # every kind of compression has its own
            raise UserError(
                f"--data_dir={data_dir}: cannot be unpacked ({first_line(error)}); give a folder of photos, or a tar."
            ) from error
        yield unpacked


def calls(photos, stage, seed, mirror, start, end, per_call, pool):
    """Make the inputs of a program's calls ahead of time.

    Args:
        photos, stage, seed, mirror, pool: as for `examples.batch`.
        start, end: the run's first step and the one after the last.
        per_call: steps that a program takes at once.

    Yields:
        (n, arrays): how many steps are in this call, and jax.Arrays [per_call, batch, ...] in the order of a program's
        arguments.
    """

    def make(first):
        n = min(per_call, end - first)
        made = [examples.batch(photos, stage, seed, first + i, mirror, pool) for i in range(n)]
        made += made[:1] * (per_call - n)  # a program takes as many as ever, and looks at n
        return n, [pjrt.put(np.stack([b[name] for b in made])) for name in _NAMES]

    with ThreadPoolExecutor(1) as maker:
        waiting, steps = collections.deque(), iter(range(start, end, per_call))
        try:
            for first in steps:
                waiting.append(maker.submit(make, first))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
