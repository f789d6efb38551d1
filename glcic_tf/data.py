"""Photos in folders -> training batches, addressed by step.

Example i of step s is a function of (seed, s, i) alone: the order of the photos, the crop and the holes are all drawn
statelessly from the example's number. So a run that goes on from a checkpoint needs no state of its input, and sees
what it would have seen.
"""

import hashlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from glcic_tf import geometry, images
from glcic_tf.errors import UserError

_logger = logging.getLogger(__name__)
MAX_FAILURES = 0.01
MAX_ASPECT = 50  # longer edge / shorter edge; a strip of 1 x 60,000 px would grow to gigabytes when it is resized


class Photos:
    """Photos that are read when needed. One that cannot be used is named once, and the next one takes its place.

    Args:
        paths: the photos.
        enlarge: resize small photos to more than their size where need be.
        max_failures: share of the photos that may fail to decode before training stops.

    Attributes:
        paths: list of pathlib.Path.
        failures: {path: reason} of the photos that could not be decoded, or are strips no one would call a photo.
        too_small: paths that were left out since they would have had to be enlarged.
        error: why `crop` raised, as one line; None as long as it did not. tf.data buries the exception itself.
    """

    def __init__(self, paths, enlarge=True, max_failures=MAX_FAILURES):
        self.paths = list(paths)
        self.enlarge = enlarge
        self.max_failures = max_failures
        self.failures = {}
        self.too_small = set()
        self.error = None
        self._lock = threading.Lock()

    def read(self, index):
        """Photo number `index` as uint8 [height, width, 3] RGB, or None if it is in `failures`.

        Raises:
            UserError: more than `max_failures` of the photos cannot be decoded.
        """
        path = self.paths[index]
        if path in self.failures:
            return None
        try:
            photo = images.read_photo(path)
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

    def crop(self, index, short_edge, size, position):
        """Cut a square out of a photo after resizing its shorter edge.

        Args:
            index: number of the photo; the next usable one takes its place if it cannot be used.
            short_edge: length of the resized photo's shorter edge, px; shorter if `enlarge` is off and the photo is.
            size: side of the crop, px.
            position: [2] float in [0, 1), where the crop lies in the room that there is, (y, x).

        Returns:
            uint8 [size, size, 3] RGB.

        Raises:
            UserError: no photo can be used, or too many cannot be decoded.
        """
        for offset in range(len(self.paths)):
            candidate = (int(index) + offset) % len(self.paths)
            photo = self.read(candidate)
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


def batches(photos, stage, seed, start, mirror=False, workers=0):
    """Make the dataset of a stage's batches, from the run's step `start` on to the stage's end.

    Args:
        photos: a Photos.
        stage: a schedule.Stage.
        seed: the run's seed.
        start: the run's step of the first batch.
        mirror: mirror half of the crops left to right.
        workers: photos read at once; 0: TensorFlow's choice.

    Returns:
        tf.data.Dataset of dicts:
            `image` [batch, image_size, image_size, 3] uint8 RGB;
            `mask` [batch, image_size, image_size, 1] float32, 1 in the hole;
            `patch` [batch, 2] int32, upper left corner (y, x) of the local patch on the hole;
            `real_patch` [batch, 2] int32, that of the patch of the real image, on another hole.
    """
    size, count = stage.image_size, len(photos.paths)

    @tf.autograph.experimental.do_not_convert  # it has nothing to convert
    def example(number):
        # Mixed, as index_shuffle takes the low bits of its seed: plain counters give related orders, which come again.
        order_seed = geometry.mix(geometry.fold_in(tf.constant([seed, 0]), number // count))
        index = tf.random.experimental.index_shuffle(number % count, order_seed, count - 1)
        example_seed = geometry.fold_in(tf.constant([seed, 1]), number)
        short_edge = geometry.integers(
            geometry.fold_in(example_seed, 0), [], stage.short_edge_min_px, stage.short_edge_max_px
        )
        position = geometry.uniform(geometry.fold_in(example_seed, 1), [2])
        image = tf.numpy_function(
            lambda i, edge, where: photos.crop(i, edge, size, where),
            [index, short_edge, position],
            tf.uint8,
            stateful=False,
        )
        image = tf.ensure_shape(image, [size, size, 3])
        if mirror:
            flip = geometry.uniform(geometry.fold_in(example_seed, 2)) < 0.5
            image = tf.where(flip, image[:, ::-1], image)
        mask, centre = geometry.draw_hole(geometry.fold_in(example_seed, 3), size, stage.hole)
        _, real_centre = geometry.draw_hole(geometry.fold_in(example_seed, 4), size, stage.hole)
        return {
            "image": image,
            "mask": mask,
            "patch": geometry.patch_origin(centre, size, stage.patch_size),
            "real_patch": geometry.patch_origin(real_centre, size, stage.patch_size),
        }

    first = stage.first_example + (start - stage.start) * stage.batch_size
    last = stage.first_example + stage.steps * stage.batch_size
    dataset = tf.data.Dataset.range(first, last)
    dataset = dataset.map(example, num_parallel_calls=workers or tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(stage.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def find(config, data_dir, val_dir, batch_size):
    """Find the photos to train on and those to watch training on.

    Args:
        config: ConfigDict with the fields of configs/default.py.
        data_dir, val_dir: folders; without the second (None), some photos of the first are held out.
        batch_size: the largest one that there will be.

    Returns:
        (Photos, Photos or None), the second with at most `config.data.validation_photos`, None without any.

    Raises:
        UserError: a folder is missing or holds no photos, or there are fewer than one batch.
    """
    paths = images.find_photos(data_dir)
    if val_dir:
        val_paths = spread(images.find_photos(val_dir), config.data.validation_photos)
    else:
        paths, val_paths = split(paths, config.data.validation_photos, config.seed)
    if len(paths) < batch_size:
        raise UserError(
            f"--data_dir={data_dir}: {len(paths)} photos to train on, fewer than one batch of {batch_size}; "
            "add photos or lower config.batch_size."
        )
    _logger.info("%d photos to train on, %d to watch it on", len(paths), len(val_paths))
    return Photos(paths, config.data.enlarge), Photos(val_paths, max_failures=1.0) if val_paths else None


def split(paths, count, seed):
    """Hold out `count` of the photos, at most a tenth: (training paths, held out paths), each in its old order."""
    count = min(count, len(paths) // 10)
    held_out = set(np.random.default_rng(seed).permutation(len(paths))[:count].tolist())
    return (
        [path for i, path in enumerate(paths) if i not in held_out],
        [path for i, path in enumerate(paths) if i in held_out],
    )


def spread(paths, count):
    """Take `count` of the paths, evenly spread over the list; all of them if there are not more."""
    indices = np.linspace(0, len(paths) - 1, min(len(paths), count))
    return [paths[i] for i in indices.astype(int)]


def fingerprint(paths):
    """Hash of which photos there are, to see whether a run goes on with those it began with."""
    return hashlib.sha256("\n".join(path.name for path in paths).encode()).hexdigest()[:16]


def mean_pixel(photos, most, seed, progress=True):
    """Mean colour of the photos, each with the same weight whatever its size, as in training.

    Args:
        photos: a Photos.
        most: measure at most so many, drawn at random.
        seed: of that draw.
        progress: show a progress bar on a terminal.

    Returns:
        (r, g, b) in [0, 1].

    Raises:
        UserError: too many photos cannot be decoded, or all of them.
    """
    indices = np.random.default_rng(seed).permutation(len(photos.paths))[:most].tolist()

    def mean(index):
        photo = photos.read(index)
        return None if photo is None else cv2.mean(photo)[:3]

    with ThreadPoolExecutor() as pool:
        bar = tqdm(
            pool.map(mean, indices),
            total=len(indices),
            desc="mean pixel",
            unit="photo",
            disable=None if progress else True,
        )
        means = [m for m in bar if m is not None]
    if not means:
        raise UserError(f"none of {len(indices)} photos can be decoded; point --data_dir elsewhere.")
    return tuple(float(channel) for channel in np.mean(means, axis=0) / 255)
