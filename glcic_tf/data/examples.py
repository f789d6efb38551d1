"""Training examples, made on the host with NumPy and OpenCV alone: a photo's crop, a hole in it, and local patches.

Example number n of a run is a function of (seed, n) alone: which photo, which crop and which holes are drawn from
streams that depend on nothing else. So a run that goes on from a checkpoint needs no state of its input and sees what
it would have seen, and every runtime that trains is given the same examples. TensorFlow is not needed here.
"""

import functools
import logging
import os
import threading

import cv2
import numpy as np

from glcic_tf.common import random_streams
from glcic_tf.common.errors import UserError
from glcic_tf.data.photos import PhotoFile
from glcic_tf.data.random_holes import draw_hole, patch_origin
from glcic_tf.data.shards import PhotoSequence

_logger = logging.getLogger(__name__)
_order_lock = threading.Lock()
MAX_FAILURES = 0.01
MAX_ASPECT = 50  # longer edge / shorter edge; a strip of 1 x 60,000 px would grow to gigabytes when it is resized


class Photos:
    """Photos that are read when needed. One that cannot be used is named once, and the next one takes its place.

    Args:
        paths: the photos: a shards.PhotoSequence, or photos.Photo each; a path stands for the photo in that file.
        enlarge: resize small photos to more than their size where need be.
        reduced_decode: decode large JPEGs at a part of their size, see `images.read_photo`.
        max_failures: share of the photos that may fail to decode before training stops.

    Attributes:
        paths: list of photos.Photo, or a shards.PhotoSequence.
        failures: {photo: reason} for those that could not be decoded, or are strips that no one would call a photo.
        too_small: those that were left out since they would have had to be enlarged.
        error: why `crop` raised, as one line; None as long as it did not. tf.data buries the exception itself.
    """

    def __init__(self, paths, enlarge=True, max_failures=MAX_FAILURES, reduced_decode=False):
        if not isinstance(paths, PhotoSequence):
            paths = [PhotoFile(str(path)) if isinstance(path, str | os.PathLike) else path for path in paths]
        self.paths = paths
        self.enlarge = enlarge
        self.max_failures = max_failures
        self.reduced_decode = reduced_decode
        self.failures = {}
        self.too_small = set()
        self.error = None
        self._lock = threading.Lock()

    def read(self, index, shorter_edge_px=None):
        """Photo number `index` as uint8 [height, width, 3] RGB, or None if it is in `failures`.

        Args:
            index: into `paths`.
            shorter_edge_px: what it is to be shrunk to, if it may be decoded smaller.

        Raises:
            UserError: more than `max_failures` of the photos cannot be decoded.
        """
        path = self.paths[index]
        if path in self.failures:
            return None
        try:
            photo = path.read(shorter_edge_px)
            height, width = photo.shape[:2]
            if max(height, width) > MAX_ASPECT * min(height, width):
                raise UserError(
                    f"{path}: is a strip of {width} x {height} px; expected at most {MAX_ASPECT}:1; leave it out."
                )
            return photo
        except UserError as error:
            with self._lock:
                if path in self.failures:
                    return None
                self.failures[path] = str(error)
                failed = len(self.failures)
            _logger.warning("left out: %s", error)
            if failed > self.max_failures * len(self.paths):
                self.error = (
                    f"{failed} of {len(self.paths)} photos cannot be decoded, more than {self.max_failures:.0%}: "
                    f"{error} "
                    "Remove the broken files, or point --data_dir elsewhere."
                )
                raise UserError(self.error) from error
            return None

    def crop(self, index, short_edge, size, position, short_edge_max=None):
        """Cut a square out of a photo after resizing its shorter edge.

        Args:
            index: number of the photo; the next usable one takes its place if it cannot be used.
            short_edge: length of the resized photo's shorter edge, px; shorter if `enlarge` is off and the photo is.
            size: side of the crop, px.
            position: [2] float in [0, 1), where the crop lies in the room that there is, (y, x).
            short_edge_max: the most that `short_edge` may be; None: unknown. With `reduced_decode`, it alone says how
                much smaller a photo is decoded, so that a photo is the same for all crops of a stage.

        Returns:
            uint8 [size, size, 3] RGB.

        Raises:
            UserError: no photo can be used, or too many cannot be decoded.
        """
        for offset in range(len(self.paths)):
            candidate = (int(index) + offset) % len(self.paths)
            known = None if self.enlarge else self.paths[candidate].size
            if known and min(known) < size:  # needs no decoding
                self.too_small.add(self.paths[candidate])
                continue
            photo = self.read(candidate, short_edge_max if self.reduced_decode else None)
            if photo is None:
                continue
            height, width = photo.shape[:2]
            shorter = min(height, width)
            if not self.enlarge and shorter < size:
                self.too_small.add(self.paths[candidate])
                continue
            target = int(short_edge) if self.enlarge else min(int(short_edge), shorter)
            height, width = (max(target, round(side * target / shorter)) for side in (height, width))
            if target != shorter:
                # INTER_AREA is antialiased, and made for shrinking only.
                method = cv2.INTER_AREA if target < shorter else cv2.INTER_CUBIC
                photo = cv2.resize(photo, (width, height), interpolation=method)
            y, x = int(position[0] * (height - size + 1)), int(position[1] * (width - size + 1))
            return np.ascontiguousarray(photo[y : y + size, x : x + size])
        self.error = (
            f"none of the {len(self.paths)} photos can be used: {len(self.failures)} cannot be decoded, "
            f"{len(self.too_small)} are smaller than {size} px (config.data.enlarge=True would enlarge them)."
        )
        raise UserError(self.error)

    def log_left_out(self):
        """Say how many photos were left out so far, if any."""
        if self.failures or self.too_small:
            _logger.info(
                "left out so far: %d photos that cannot be decoded, %d that are smaller than the crops",
                len(self.failures),
                len(self.too_small),
            )


def example(photos, stage, seed, number, mirror=False):
    """Make one example.

    The crop takes four numbers of its stream, whether it may be mirrored or not: resized edge, y, x, mirroring. The
    hole and the hole that only places `real_patch` have streams of their own. So no setting moves the draws of another.

    Args:
        photos: a Photos.
        stage: a stages.Stage.
        seed: the run's seed.
        number: the example's number, counted over the whole run.
        mirror: mirror half of the crops left to right.

    Returns:
        dict:
            `image`, uint8 [image_size, image_size, 3] RGB;
            `mask`, uint8 [image_size, image_size, 1], 1 in the hole;
            `patch`, int32 [2], upper left corner (y, x) of the local patch on the hole;
            `real_patch`, int32 [2], that of the patch of the real image, on another hole.

    Raises:
        UserError: no photo can be used, or too many cannot be decoded.
    """
    number, size = int(number), stage.image_size
    edge, y, x, flip = random_streams.stream(seed, random_streams.CROP, number).random(4)
    short_edge = random_streams.to_integers(edge, stage.short_edge_min_px, stage.short_edge_max_px)
    index = photo_index(len(photos.paths), seed, number)
    image = photos.crop(index, short_edge, size, (y, x), stage.short_edge_max_px)
    if mirror and flip < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    mask, centre = draw_hole(random_streams.stream(seed, random_streams.HOLE, number), size, stage.hole)
    _, real_centre = draw_hole(random_streams.stream(seed, random_streams.REAL_HOLE, number), size, stage.hole)
    return {
        "image": image,
        "mask": mask,
        "patch": patch_origin(centre, size, stage.patch_size),
        "real_patch": patch_origin(real_centre, size, stage.patch_size),
    }


def batch(photos, stage, seed, step, mirror=False, pool=None):
    """Make the batch of the run's step `step`, which lies in `stage`.

    Args:
        photos, stage, seed, mirror: as for `example`.
        step: counted over the whole run.
        pool: a concurrent.futures.ThreadPoolExecutor that makes the examples, with no other work that waits for this
            one; None: one after the other.

    Returns:
        The dict of `example`, each array [batch_size, ...].

    Raises:
        UserError: as `example`.
    """
    first = first_example(stage, step)
    numbers = range(first, first + stage.batch_size)
    made = list((pool.map if pool else map)(lambda number: example(photos, stage, seed, number, mirror), numbers))
    return {name: np.stack([one[name] for one in made]) for name in made[0]}


def first_example(stage, step):
    """Number of the first example of the run's step `step`, which lies in `stage`."""
    return stage.first_example + (step - stage.start) * stage.batch_size


def photo_index(count, seed, number):
    """Which of `count` photos example `number` shows: in each epoch each comes once, in an order of the epoch's own."""
    epoch, place = divmod(int(number), count)
    with _order_lock:  # one thread draws the order of a new epoch, the others wait for it
        order = _photo_order(count, seed, epoch)
    return int(order[place])


@functools.lru_cache(maxsize=2)  # where one epoch ends and the next begins, both are needed
def _photo_order(count, seed, epoch):
    return random_streams.permutation(random_streams.stream(seed, random_streams.PHOTO_ORDER, epoch), count)
