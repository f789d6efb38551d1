"""One photo at work: its pixels, the hole painted on it, what was completed, and the way back."""

import dataclasses
import threading
from pathlib import Path

import cv2
import numpy as np

from glcic_tf.apps.page import previews
from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.completion import postprocesses, uncropping
from glcic_tf.data import random_holes
from glcic_tf.data.random_holes import HoleSpec
from glcic_tf.imaging import holes, images, outlines
from glcic_tf.imaging.image_metadata import Metadata

_WHOLE = np.s_[:, :]
_MAX_UNDO = 20
_LEAST_AROUND_PX = 24  # of what a close-up shows around a hole
_RANDOM_HOLE_PX = 256  # side of the square that random holes are drawn in


@dataclasses.dataclass
class _Step:
    """The way back from what was done: to a hole, and to the pixels that a completion or an extension has changed.

    Attributes:
        hole: what was painted before, packed: a photo of 24 megapixels would else be kept whole for every step.
        known: `Photo.known` before.
        grown, values: packed, what was completed; and the pixels before.
        postprocess: that the completion went through.
        inner: slice that the photo before an extension is of that after it.
    """

    hole: np.ndarray
    known: tuple
    grown: np.ndarray | None = None
    values: np.ndarray | None = None
    postprocess: str | None = None
    inner: tuple | None = None

    @property
    def nbytes(self):
        return sum(a.nbytes for a in (self.hole, self.grown, self.values) if a is not None)


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
        known: slice of the pixels that what is painted may grow in: of an extended canvas, the photo alone.
        extensions: how often the canvas was extended, also where that can no longer be undone.
        close: whether its before and after are to be shown as a close-up.
        lock: to be held while anything here is used.

    Raises:
        UserError: no such photo.
    """

    def __init__(self, path, max_pixels):
        self.pixels, self._metadata, self.suffix, *_ = images.open_image(path, max_pixels, isolated=True)
        self.name = Path(path).name
        self.lock, self.close, self.extensions = threading.Lock(), False, 0
        self._history, self._results = [], {}
        self._resized()
        self.set_hole(None)

    @property
    def nbytes(self):
        """Memory that it takes, about, with all that can be undone."""
        return self.pixels.nbytes + sum(a.nbytes for a in (*self._history, *self._results.values()))

    @property
    def completions(self):
        """How many completions can be undone."""
        return sum(step.grown is not None for step in self._history)

    @property
    def steps(self):
        """How many steps can be undone: completions, extensions and outlines."""
        return len(self._history)

    @property
    def is_completed(self):
        """Whether the last step was a completion."""
        return bool(self._history) and self._history[-1].grown is not None

    @property
    def results(self):
        """Names of the post-processes that the last completion can be had by, see `find_results`."""
        return list(self._results)

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
        grown = hole.copy()
        grown[self.known] = holes.prepare(hole[self.known], hole[self.known].shape, dilate_px=mask_dilate)
        if grown.all():
            raise UserError("The whole photo is painted over: leave something that it can be completed from.")
        try:
            done = completer.complete(self.pixels, grown, postprocess=postprocess)
        except MemoryError as error:
            raise UserError("There is too little memory for this hole: paint a smaller one.") from error
        self._remember(hole, grown=np.packbits(grown), values=self.pixels[grown], postprocess=postprocess)
        self.pixels, self.known = done.image, _WHOLE
        self.set_hole(None)
        return done

    def find_results(self, completer):
        """Complete what was completed last by the other post-processes too, to `choose` from.

        "auto" is among them only if it is what was used: it is one of the others, or of both where holes are thin.

        Args:
            completer: Completer.

        Raises:
            UserError: nothing was completed just now, or too little memory.
        """
        grown, before = self._last()
        used = self._history[-1].postprocess
        others = [name for name in postprocesses.POSTPROCESSES if name not in (postprocesses.DEFAULT, used)]
        try:
            done = completer.complete_by_each(before, grown, others)
        except MemoryError as error:
            raise UserError("There is too little memory for this hole: paint a smaller one.") from error
        self._results = {used: self.pixels[grown]} | {name: found.image[grown] for name, found in done.items()}

    def choose(self, name):
        """Take one of `results` for the last completion.

        Raises:
            UserError: there is none of this name.
        """
        if name not in self._results:
            raise UserError("This result is no longer there: show all results again.")
        self.pixels[self._last()[0]] = self._results[name]
        self._history[-1].postprocess = name

    def extend(self, left, top, right, bottom, max_pixels):
        """Extend the canvas by so many px; what is added is painted. It can be undone.

        Raises:
            UserError: these are no margins, or the photo would be too large.
        """
        try:
            added = uncropping.margins((left, top, right, bottom))
        except ValueError as error:
            raise UserError("Give the px to add on each side: whole numbers from 0 up, not all 0.") from error
        height, width = added.around(self.pixels.shape)
        if height * width > max_pixels:
            most = f"at most {max_pixels / 1e6:.0f} megapixels are taken"
            raise UserError(f"The photo would have {width} x {height} px; {most}. Add less.")
        inner = added.box(self.pixels.shape)
        self._remember(self._hole, inner=inner)
        self.extensions += 1
        self.pixels, hole = uncropping.extend(self.pixels, added), uncropping.extend_hole(self._hole, added)
        self.known = inner
        self._resized(inner)
        self.set_hole(hole)

    def snap(self, painted):
        """Paint the outline of the object that a rough stroke lies on. It can be undone.

        Args:
            painted: bool, what is painted on the preview now.

        Raises:
            UserError: nothing is painted, or no outline was found.
        """
        if not painted.any():
            raise UserError("Nothing is painted yet: paint roughly over an object, or click on it.")
        hole = self.hole(painted)
        rough = holes.resize(hole, self.preview_shape)
        found = outlines.snapped(previews.picture(self.pixels, self.preview_shape), rough)
        if found is None:
            raise UserError("No outline was found: paint over more of the object, or less of what is around it.")
        self._remember(hole)
        self.set_hole(holes.resize(found, hole.shape))

    def undo(self):
        """Undo the last step; what was painted before is painted again.

        Raises:
            UserError: there is none.
        """
        if not self._history:
            raise UserError("There is nothing to undo.")
        step = self._history.pop()
        self._results = {}
        if step.grown is not None:
            self.pixels[self._unpacked(step.grown)] = step.values
        self.known = step.known
        if step.inner is not None:
            self.extensions -= 1
            self.pixels = self.pixels[step.inner].copy()
            self._resized()
            self.known = step.known
        self.set_hole(self._unpacked(step.hole))

    def write(self, path):
        """Write it as it is now, with its metadata; the suffix names the format. Raises as `images.write_image`."""
        images.write_image(path, self.pixels, metadata=self._metadata)

    def write_preview(self, path):
        """Write what the browser shows: 8-bit grey or RGB of preview_shape, transparency on white."""
        self._write_picture(path, self.pixels)

    def write_close_ups(self, before, after):
        """Write what was completed last and its surroundings, before and after, as `write_preview` does."""
        grown, pixels = self._last()
        around = self._around(grown)
        self._write_picture(before, pixels[around])
        self._write_picture(after, self.pixels[around])

    def write_result(self, path, name):
        """Write the same of one of `results`."""
        grown, pixels = self._last()
        pixels[grown] = self._results[name]
        self._write_picture(path, pixels[self._around(grown)])

    def write_extended(self, path, before):
        """Write a picture of the photo as it was, an image file, on the canvas as the last step has extended it."""
        height, width = self.preview_shape
        rows, columns = self._history[-1].inner
        factor = height / self.pixels.shape[0], width / self.pixels.shape[1]
        top, bottom = (min(round(side * factor[0]), height) for side in (rows.start, rows.stop))
        left, right = (min(round(side * factor[1]), width) for side in (columns.start, columns.stop))
        picture = images.read_image(before)
        size = max(right - left, 1), max(bottom - top, 1)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1)
        margins = uncropping.Margins(left, top, width - left - size[0], height - top - size[1])
        images.write_image(path, uncropping.extend(picture, margins), 90, self._picture_metadata())

    def _write_picture(self, path, pixels):
        shape = previews.within(pixels.shape)
        images.write_image(path, previews.picture(pixels, shape), 90, self._picture_metadata())

    def _picture_metadata(self):
        return Metadata(icc=self._metadata.icc, chroma="4:2:0")

    def _remember(self, hole, **step):
        self._results = {}
        self._history.append(_Step(np.packbits(hole), self.known, **step))
        while len(self._history) > _MAX_UNDO or self.nbytes > 2 * self.pixels.nbytes and len(self._history) > 1:
            del self._history[0]

    def _resized(self, known=_WHOLE):
        self.preview_shape, self.known = previews.within(self.pixels.shape), known

    def _unpacked(self, bits):
        shape = self.pixels.shape[:2]
        return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)

    def _last(self):
        """What was completed in the last step, bool [height, width], and a copy of the pixels before."""
        if not self.is_completed:
            raise UserError("Complete something first.")
        grown, pixels = self._unpacked(self._history[-1].grown), self.pixels.copy()
        pixels[grown] = self._history[-1].values
        return grown, pixels

    def _around(self, hole):
        top, left, bottom, right = box = holes.tight_box(hole)
        return holes.around(box, max(_LEAST_AROUND_PX, max(bottom - top, right - left) // 2), hole.shape)

    def write_painted(self, path):
        """Write what is painted as a layer of the preview: PNG in RGBA. Returns whether there is anything."""
        layer = np.where(self._painted[..., None], np.array(previews.BRUSH_RGBA, np.uint8), np.uint8(0))
        images.write_image(path, layer)
        return bool(self._painted.any())


def result_name(name, suffix):
    """Return the name to offer for a result: of "photo.jpeg" and ".jpg", "photo_completed.jpg"."""
    return f"{files.printable(Path(name).stem)[:100] or 'photo'}_completed{suffix}"
