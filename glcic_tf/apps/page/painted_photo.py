"""One photo at work: its pixels, the hole painted on it, what was completed, and the way back."""

import threading
from pathlib import Path

import cv2
import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.data import random_holes
from glcic_tf.data.random_holes import HoleSpec
from glcic_tf.imaging import holes, images
from glcic_tf.imaging.image_metadata import Metadata

PREVIEW_PX = 1280  # longest side of what the browser shows
# Pink, as photos seldom are. Mostly opaque, so that `images.read_mask` takes it for white, also where all is painted.
BRUSH_RGBA = (255, 92, 158, 179)
_MAX_UNDO = 20
_MAX_LAYERS = 4  # the page offers one
_RANDOM_HOLE_PX = 256  # side of the square that random holes are drawn in


class Photo:
    """A photo at work. The browser sees and paints on a preview; what is completed are the pixels of the file.

    A hole is painted at the preview's size and enlarged to the photo's; for a photo of at most PREVIEW_PX a side both
    are the same. A hole that comes from elsewhere (`set_hole`) stays exact wherever the user does not paint or erase.

    Args:
        path: photo, see `images.read_image`.
        max_pixels: refuse larger ones.

    Attributes:
        name: of the file.
        pixels: uint8 or uint16 [height, width, 1|3|4], as completed so far.
        suffix: of the format to write, ".jpg" for example: the file's own if that is written, or the nearest.
        preview_shape: (height, width) in px.
        lock: to be held while anything here is used.

    Raises:
        UserError: no such photo.
    """

    def __init__(self, path, max_pixels):
        self.pixels, self._metadata, self.suffix, *_ = images.open_image(path, max_pixels, isolated=True)
        self.name = Path(path).name
        factor = min(1, PREVIEW_PX / max(self.pixels.shape[:2]))
        self.preview_shape = tuple(max(1, round(side * factor)) for side in self.pixels.shape[:2])
        self.lock = threading.Lock()
        self._history = []
        self.set_hole(None)

    @property
    def nbytes(self):
        """Memory that it takes, about, with all that can be undone."""
        return self.pixels.nbytes + sum(a.nbytes for step in self._history for a in step)

    @property
    def completions(self):
        """How many completions can be undone."""
        return len(self._history)

    def set_hole(self, hole):
        """Take a hole, bool [height, width] of the photo or None, as what is painted now."""
        if hole is None:
            self._hole, self._painted = (np.zeros(s, bool) for s in (self.pixels.shape[:2], self.preview_shape))
        else:
            self._hole, self._painted = hole, holes.resize(hole, self.preview_shape)

    def hole(self, painted):
        """Return the hole, bool [height, width] of the photo.

        Args:
            painted: bool, what is painted on the preview now.
        """
        if painted.shape != self.preview_shape:
            painted = holes.resize(painted, self.preview_shape)
        changed = painted != self._painted
        if not changed.any():
            return self._hole
        shape = self._hole.shape
        return np.where(holes.resize(changed, shape), holes.resize(painted, shape), self._hole)

    def random_hole(self, rng):
        """Paint a hole as those of the training, in a square as large as fits, anywhere on the photo."""
        mask, _ = random_holes.draw_hole(rng, _RANDOM_HOLE_PX, HoleSpec("mixed"))
        shape = self.pixels.shape[:2]
        side = min(shape)
        top, left = (rng.integers(0, length - side, endpoint=True) for length in shape)
        hole = np.zeros(shape, bool)
        hole[top : top + side, left : left + side] = holes.resize(mask[..., 0].astype(bool), (side, side))
        self.set_hole(hole)

    def complete(self, completer, hole, mask_dilate, postprocess):
        """Complete a hole; it can be undone.

        Args:
            completer: Completer.
            hole: bool [height, width] of the photo.
            mask_dilate, postprocess: of `Completer.complete`.

        Returns:
            Completion.

        Raises:
            UserError: nothing to complete or nothing known, or too little memory.
        """
        if not hole.any():
            raise UserError("Nothing is painted yet: paint over what should go, or take a random hole or a mask.")
        grown = holes.prepare(hole, hole.shape, dilate_px=mask_dilate)
        if grown.all():
            raise UserError("The whole photo is painted over: leave something that it can be completed from.")
        try:
            done = completer.complete(self.pixels, grown, postprocess=postprocess)
        except MemoryError as error:
            raise UserError("There is too little memory for this hole: paint a smaller one.") from error
        # Packed: a photo of 24 megapixels would else be kept whole for every step back.
        self._history.append((np.packbits(hole), np.packbits(grown), self.pixels[grown]))
        while len(self._history) > _MAX_UNDO or self.nbytes > 2 * self.pixels.nbytes and len(self._history) > 1:
            del self._history[0]
        self.pixels = done.image
        self.set_hole(None)
        return done

    def undo(self):
        """Undo the last completion; its hole is painted again.

        Raises:
            UserError: there is none.
        """
        if not self._history:
            raise UserError("There is nothing to undo.")
        hole, grown, values = self._history.pop()
        shape = self.pixels.shape[:2]
        unpacked = [
            np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool) for bits in (hole, grown)
        ]
        self.pixels[unpacked[1]] = values
        self.set_hole(unpacked[0])

    def write(self, path):
        """Write it as it is now, with its metadata; the suffix names the format. Raises as `images.write_image`."""
        images.write_image(path, self.pixels, metadata=self._metadata)

    def write_preview(self, path):
        """Write what the browser shows: 8-bit grey or RGB of preview_shape, transparency on white."""
        small = cv2.resize(self.pixels, self.preview_shape[::-1], interpolation=cv2.INTER_AREA)
        small = small.reshape(*self.preview_shape, -1)
        if small.dtype == np.uint16:
            small = ((small.astype(np.uint32) + 128) // 257).astype(np.uint8)
        if small.shape[2] == 4:
            opaque = small[..., 3:] / np.float32(255)
            small = np.rint(small[..., :3] * opaque + 255 * (1 - opaque)).astype(np.uint8)
        images.write_image(path, small, 90, Metadata(icc=self._metadata.icc, chroma="4:2:0"))

    def write_painted(self, path):
        """Write what is painted as a layer of the preview: PNG in RGBA. Returns whether there is anything."""
        layer = np.where(self._painted[..., None], np.array(BRUSH_RGBA, np.uint8), np.uint8(0))
        images.write_image(path, layer)
        return bool(self._painted.any())


def read_painted(layers, shape):
    """Return what is painted on a preview.

    Args:
        layers: image files as the browser sends them, a few.
        shape: (height, width) of the preview in px.

    Returns:
        bool [height, width].

    Raises:
        UserError: a layer is no image, or too large, or there are too many.
    """
    if len(layers) > _MAX_LAYERS:
        raise UserError(f"There are {len(layers)} layers; expected at most {_MAX_LAYERS}.")
    painted = np.zeros(shape, bool)
    for path in layers:
        mask = images.read_mask(path, 4 * PREVIEW_PX**2, isolated=True)
        painted |= mask if mask.shape == tuple(shape) else holes.resize(mask, shape)
    return painted


def result_name(name, suffix):
    """Return the name to offer for a result: of "photo.jpeg" and ".jpg", "photo_completed.jpg"."""
    return f"{files.printable(Path(name).stem)[:100] or 'photo'}_completed{suffix}"
