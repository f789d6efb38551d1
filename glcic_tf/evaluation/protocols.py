"""Protocols: which square is cut from a photo and where its hole lies, the same for every method.

A drawn hole depends only on the photo's file name, so figures from different methods, runs and years can be compared.
Nothing here needs TensorFlow: jobs are small, can be pickled, and become pixels in the process that measures them.
"""

import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np

from glcic_tf.common import files, storage
from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.common.remote_path import RemotePath
from glcic_tf.data.random_holes import HoleSpec, draw_hole
from glcic_tf.evaluation.metrics import SSIM_WINDOW_PX
from glcic_tf.imaging import holes, images, photo_folders

KINDS = ("rectangle", "free_form", "thin", "files", "centre")
_REPORT = ("metrics.json", "index.html")
_SIDED = ("rectangle", "centre")  # kinds whose sides are drawn from [hole_min_px, hole_max_px]
# A free-form hole is a blob of 5-50 % of the crop, or 1-8 strokes of a brush as wide as these shares of its side.
_BLOB_AREA = (0.05, 0.5)
_STROKES = (1, 8)
_BRUSH = (12 / 256, 40 / 256)
_SAME_PROPORTIONS = 0.01  # a mask that was drawn on a resized copy of the photo only differs by rounding


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is cut from a photo, and its hole.

    Attributes:
        kind: `rectangle`, at random; `centre`, a rectangle in the middle; `free_form`, a blob or strokes; `thin`,
            wires or writing, 3-8 px thick; `files`, masks from a folder.
        size: side of the square crop, px.
        hole_min_px, hole_max_px: bounds of the sides of `rectangle` and `centre`, both included; otherwise not used.
        masks: folder of masks for `files`, white = hole, path or URL; otherwise None.

    Raises:
        UserError: the values do not fit together; the message names the flags of `glcic evaluate`.
    """

    kind: str = "rectangle"
    size: int = 256
    hole_min_px: int = 96
    hole_max_px: int = 128
    masks: Path | RemotePath | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise UsageError(f"--holes={self.kind}: expected one of {', '.join(KINDS)}.")
        if self.size < SSIM_WINDOW_PX:
            raise UsageError(f"--size={self.size}: expected at least {SSIM_WINDOW_PX} px, the window of SSIM.")
        if self.kind in _SIDED and not 1 <= self.hole_min_px <= self.hole_max_px < self.size:
            raise UsageError(
                f"--hole_min={self.hole_min_px}, --hole_max={self.hole_max_px} with --size={self.size}: expected "
                "1 <= hole_min <= hole_max < size, in px; give all three."
            )
        if self.kind == "files" and self.masks is None:
            raise UsageError("--holes=files: found no --masks; name a folder of masks, white = hole.")
        if self.kind != "files" and self.masks is not None:
            raise UsageError(f"--masks={self.masks}: is not used with --holes={self.kind}; add --holes=files.")

    def describe(self):
        """Return a few words about what is measured, for titles."""
        sides = f"{self.hole_min_px}-{self.hole_max_px}" if self.hole_min_px < self.hole_max_px else self.hole_min_px
        hole = {
            "rectangle": f"one rectangular hole of {sides} px",
            "centre": f"the central {sides} px missing",
            "free_form": "one free-form hole",
            "thin": "wires or writing",
            "files": "holes from mask files",
        }[self.kind]
        return f"{self.size} x {self.size} px, {hole}"


PRESETS = {
    "places": Protocol("rectangle", 256, 96, 128),  # the paper's training holes
    "mmagic": Protocol("rectangle", 256, 108, 128),  # as for the only published figures of this network
    "faces": Protocol("rectangle", 160, 60, 80),
    "centre": Protocol("centre", 128, 64, 64),  # Context Encoder's
}


def protocol_from(preset="places", kind=None, size=None, hole_min=None, hole_max=None, masks=None):
    """Make the protocol that the flags of `glcic evaluate` describe; None takes the preset's value.

    Args:
        preset: a name in PRESETS.
        kind: --holes.
        size: --size, px.
        hole_min, hole_max: --hole_min, --hole_max, px.
        masks: --masks, folder.

    Raises:
        UserError: a name is unknown, or the flags do not go together.
    """
    if preset not in PRESETS:
        raise UsageError(f"--preset={preset}: expected one of {', '.join(PRESETS)}.")
    protocol = PRESETS[preset]
    kind = protocol.kind if kind is None else kind
    if kind in KINDS and kind not in _SIDED:
        for flag, value in (("hole_min", hole_min), ("hole_max", hole_max)):
            if value is not None:
                raise UsageError(f"--{flag}={value}: is not used with --holes={kind}; leave it out.")
    changes = {
        "size": size,
        "hole_min_px": hole_min,
        "hole_max_px": hole_max,
        "masks": storage.as_path(masks) if masks else None,
    }
    return dataclasses.replace(protocol, kind=kind, **{k: v for k, v in changes.items() if v is not None})


@dataclasses.dataclass(frozen=True)
class Job:
    """One photo to measure on; can be pickled.

    Attributes:
        name: path relative to the folder of photos, with "/"; unlike the stem, it is different for every photo.
        path: file of the photo; a pathlib.Path or a RemotePath.
        protocol: `Protocol`.
        mask: file of the mask, for `files`.
        own_mask: whether the mask has the photo's name, so that it may be drawn on this very photo.
    """

    name: str
    path: Path | RemotePath
    protocol: Protocol
    mask: Path | RemotePath | None = None
    own_mask: bool = False


def find_photos(folder, others=()):
    """List the photos in a folder, without those in folders of masks or reports that lie inside it.

    A folder with `metrics.json` and `index.html` is a report of `glcic evaluate`, whose figures are not photos.

    Args:
        folder: --images, path or URL.
        others: paths, existing or not, such as --masks and --output; None is skipped.

    Returns:
        Sorted list of pathlib.Path or, for a URL, RemotePath; not empty.

    Raises:
        UserError: there is no such folder, or no photo in it.
    """
    others = [path for path in others if path is not None and storage.is_inside(path, folder)]
    others = [path for path in others if not storage.is_inside(folder, path)]
    photos = _list_images("--images", folder, "photos")
    photos = [path for path in photos if not any(storage.is_inside(path, other) for other in others)]
    reports = {
        parent for parent in {p.parent for p in photos} if all(storage.exists(parent / name) for name in _REPORT)
    }
    photos = [path for path in photos if path.parent not in reports]
    if not photos:
        raise UserError(f"--images={folder}: holds no photos besides masks and reports; name a folder of photos.")
    return photos


def make_jobs(photos, protocol, folder):
    """Pair photos with the protocol and, for `files`, with masks: the photo's own, otherwise the masks in order.

    A mask is a photo's own if it has the photo's name, whatever the suffix: the path relative to the folder, or the
    stem if only one mask has it. The i-th photo without one takes the i-th of all masks, starting over after the last.

    Args:
        photos: list of paths from `find_photos`.
        protocol: `Protocol`.
        folder: the folder of photos, which names are relative to.

    Returns:
        (jobs, notes): list of `Job`, one per photo and in their order; and a list of sentences to tell the user.

    Raises:
        UserError: the folder of masks is missing or empty.
    """
    photos, folder = [storage.as_path(path) for path in photos], storage.as_path(folder)
    names = [path.relative_to(folder) for path in photos]
    if protocol.kind != "files":
        return [Job(files.printable(n.as_posix()), path, protocol) for n, path in zip(names, photos, strict=True)], []

    masks = _list_images("--masks", protocol.masks, "masks")
    own, by_stem = {}, {}
    for path in masks:
        own.setdefault(path.relative_to(protocol.masks).with_suffix(""), []).append(path)
        by_stem.setdefault(path.stem, []).append(path)
    jobs, borrowed = [], 0
    for name, path in zip(names, photos, strict=True):
        found = own.get(name.with_suffix("")) or by_stem.get(name.stem, [])
        is_own = len(found) == 1
        mask = found[0] if is_own else masks[borrowed % len(masks)]
        borrowed += not is_own
        jobs.append(Job(files.printable(name.as_posix()), path, protocol, mask, is_own))
    notes = []
    if 0 < borrowed < len(photos):
        notes.append(
            f"{borrowed} of {len(photos)} photos have no mask with their name, or several, and took masks in order."
        )
    if borrowed > len(masks):
        notes.append(
            f"{len(masks)} masks for {borrowed} photos: masks were used up to {-(-borrowed // len(masks))} times."
        )
    return jobs, notes


def sample(job):
    """Read a job's photo, cut its square and make its hole.

    Returns:
        (original, hole): [size, size, 3] uint8 RGB (grey is repeated) and [size, size] bool, True where pixels are to
        be completed, at least one and never all. None if the photo is smaller than the crop.

    Raises:
        UserError: the photo or the mask cannot be read, or the mask leaves nothing to complete or nothing known.
    """
    with storage.local(job.path) as path:
        photo = images.read_photo(path)
    original = crop(photo, job.protocol.size)
    if original is None:
        return None
    if job.protocol.kind == "files":
        return original, _hole_from_file(job, photo.shape[:2])
    return original, hole(job.protocol, job.path.stem)


def crop(photo, size):
    """Cut the central square of the photo's shorter side, reduced to `size` px by area averaging.

    Args:
        photo: [height, width, ...] uint8.
        size: side of the crop, px.

    Returns:
        [size, size, ...] uint8, or None if a side of the photo is under `size`: nothing is enlarged.
    """
    if min(photo.shape[:2]) < size:
        return None
    height, width = _reduced(photo.shape[:2], size)
    return _central(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA), size)


def hole(protocol, stem):
    """Draw the hole of a photo, for every kind but `files`.

    Args:
        protocol: `Protocol`.
        stem: the photo's file name without folder and suffix, the only thing that the hole depends on.

    Returns:
        [size, size] bool, True in the hole.
    """
    size = protocol.size
    # surrogateescape, as names of files need not be valid UTF-8.
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()
    rng = np.random.default_rng(int(digest[:16], 16))
    if protocol.kind == "free_form":
        spec = HoleSpec(
            kind="free_form",
            count_min=_STROKES[0],
            count_max=_STROKES[1],
            area_min=_BLOB_AREA[0],
            area_max=_BLOB_AREA[1],
            brush_min_px=_BRUSH[0] * size,
            brush_max_px=_BRUSH[1] * size,
        )
        return draw_hole(rng, size, spec)[0][..., 0] == 1
    if protocol.kind == "thin":
        return draw_hole(rng, size, HoleSpec(kind="thin"))[0][..., 0] == 1
    if protocol.kind not in _SIDED:
        raise ValueError(f"Holes of the kind {protocol.kind!r} are not drawn.")
    height, width = rng.integers(protocol.hole_min_px, protocol.hole_max_px + 1, 2)
    if protocol.kind == "centre":
        y, x = (size - height) // 2, (size - width) // 2
    else:
        y = rng.integers(0, size - height + 1)
        x = rng.integers(0, size - width + 1)
    drawn = np.zeros((size, size), bool)
    drawn[y : y + height, x : x + width] = True
    return drawn


def _hole_from_file(job, photo_shape):
    """Fit a mask to the crop: it is cropped like the photo if it was drawn on it, otherwise resized as a whole."""
    size = job.protocol.size
    with storage.local(job.mask) as path:
        mask = images.read_mask(path)
    (height, width), (mask_height, mask_width) = photo_shape, mask.shape
    if job.own_mask and abs(mask_height * width / (mask_width * height) - 1) <= _SAME_PROPORTIONS:
        mask = _central(holes.prepare(mask, _reduced(photo_shape, size)), size)
    else:
        mask = holes.prepare(mask, (size, size))
    if mask.all() or not mask.any():
        found, lacks = ("white", "is known") if mask.all() else ("black", "is to be completed")
        raise UserError(
            f"{job.mask}: is all {found} in the {size} px crop of {job.path}, so nothing {lacks}; expected white where "
            "the hole is and black elsewhere; correct the mask, or remove it."
        )
    return mask


def _reduced(shape, size):
    """Height and width of a photo whose shorter side is reduced to `size` px."""
    factor = size / min(shape)
    return round(shape[0] * factor), round(shape[1] * factor)


def _central(image, size):
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def _list_images(flag, folder, what):
    """`photo_folders.find_photos`, with the flag in the message."""
    if not storage.is_folder(folder):
        found = "a file" if storage.exists(folder) else "nothing"
        raise UserError(f"{flag}={folder}: expected a folder of {what}, found {found}; name a folder that exists.")
    try:
        return photo_folders.find_photos(folder)
    except UserError as error:
        raise UserError(f"{flag}={error}") from error
