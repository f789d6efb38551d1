"""Complete images of any size with a completion network, at a cost that follows the holes.

This is the one way to complete an image: `glcic complete`, the page, the evaluation and the demo come through here.
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.completion import blending, engines, inputs, rims, saved_masks, texture, windows
from glcic_tf.completion.options import Completion, FilledHole, Options
from glcic_tf.convert import model_names
from glcic_tf.imaging import holes, images, pil_images
from glcic_tf.imaging.pixels import from_rgb, to_rgb
from glcic_tf.networks import MARGIN_PX, STRIDE, frames, model_zip

if TYPE_CHECKING:  # of the signatures alone
    import keras

# A hole is completed in reduced surroundings if it is thicker than the largest of the training by more than this
# factor: there that is better on most photos, by some tenths of a dB and more (python -m benchmarks.scale).
SCALE_TOLERANCE = 1.2
# "auto" fills no thinner holes with texture: their surroundings show through anyway.
MIN_TEXTURE_PX = 12
_RIM_NOTE = "the mask leaves a rim of what it covers, which stays visible; mask_dilate=2 or so would remove that too."


class Completer:
    """A completion network ready for use on images and image files, by several threads at once if need be.

    It can be pickled, so that other processes and machines can have it.

    Args:
        model: Keras model as `completion.completion_network` or `model_file.load` gives it; used in inference mode,
            with its present weights. Or an engines.Engine.
        trained_hole_px: smallest and largest side of the holes it was trained on, px; None if that is not known, and
            then `scale="auto"` reduces nothing.
        dtype: what a Keras model computes in: "float32", or "bfloat16": half the time on CPUs that have it, results
            within some grey levels.
        postprocess: what `postprocess="auto"` does with thick holes: "texture", or "poisson" as the paper has it.
    """

    def __init__(
        self,
        model: keras.Model | engines.Engine,
        trained_hole_px: tuple[int, int] | None = None,
        dtype: str = "float32",
        postprocess: str = "texture",
    ) -> None:
        engines.check_dtype(dtype)
        self.network = _in_tensorflow(model, dtype) if hasattr(model, "get_config") else model
        self.frame = getattr(self.network, "frame", None)  # None: it completes photos of any size
        self.trained_hole_px = trained_hole_px
        self.postprocess = postprocess
        self._passing = threading.Lock()  # two passes at once would share the cores and need twice the memory

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_passing"}

    def __setstate__(self, state):
        vars(self).update(state, _passing=threading.Lock())

    @classmethod
    def load(
        cls, model: str | os.PathLike | None = None, dtype: str = "float32", engine: str = engines.DEFAULT
    ) -> Completer:
        """Load a network.

        Args:
            model: `.keras` model file, or the name of a network, which is downloaded if it is not here: see
                `model_names.networks`; None: the one that ships with the package.
            dtype: as for the class.
            engine: what the network runs in, see `engines.load`.

        Raises:
            UserError: the file is missing or is not a model file for completion, it cannot be downloaded, or the
                engine is not installed.
        """
        path = model_names.path_of(model)
        metadata = model_zip.read_metadata(path)
        network = engines.load(path, dtype, engine)
        return cls(network, _trained_hole_px(metadata), postprocess=_usual_postprocess(metadata))

    def __call__(self, image: inputs.ImageLike, mask: inputs.ImageLike, **options: Any) -> np.ndarray:
        """Fill the holes of one image: the image of what `complete` returns."""
        return self.complete(image, mask, **options).image

    def complete(self, image: inputs.ImageLike, mask: inputs.ImageLike, **options: Any) -> Completion:
        """Fill the holes of one image, and say what was done.

        Args:
            image: [height, width] or [height, width, 1|3|4] (grey, RGB or RGBA), height and width from 1 px up; uint8,
                uint16, or float in [0, 1]. What stands in the hole is not looked at, not even NaN. Or a file, see
                `images.read_image`.
            mask: [height, width] or [height, width, 1]; the hole is where it is True (bool), >= 128 (uint8) or >= 0.5
                (float). Or a file, see `images.read_mask`. Or "alpha": the hole is where the RGBA image is less than
                half opaque. Both may be images of Pillow, which are taken as files are: palette, CMYK and EXIF's turn
                too; the result is an array [height, width, channels] then.
            **options: the fields of `options.Options`: scale ("auto", or a number in (0, 1]), postprocess ("auto",
                "texture", "poisson" or "none"), invert_mask and resize_mask (bool), mask_dilate (px), uncrop (px to add
                at left, top, right and bottom; with it, "alpha" will do for images without transparency too).

        Returns:
            Completion, whose image is a new array of the image's shape (with what uncrop adds) and dtype. Known pixels
            are bit-equal to the image's. In the hole of a grey image stands the mean of the network's three channels;
            the alpha of a hole is opaque, since what was completed there is meant to be seen. Without a hole, a copy of
            the image.

        Raises:
            ValueError: shape, dtype or range of an array is not as above, an option is none of those above, or the
                mask leaves no pixel known.
            UserError: the same of a file, or it cannot be read; or the network is for photos of another size or for
                holes in another place alone, see `frames`.
            MemoryError: the surroundings of a hole are too much for the memory.
        """
        options = Options(**options)
        given = inputs.read(image, mask, options)
        done = self._complete(given, options)
        flat = not pil_images.is_pil(image) and np.ndim(image) == 2
        return dataclasses.replace(done, image=done.image[..., 0]) if flat else done

    def complete_by_each(
        self, image: np.ndarray, mask: np.ndarray, postprocesses: list[str], **options: Any
    ) -> dict[str, Completion]:
        """Fill the holes of one image once, and post-process that in several ways: {post-process: Completion}.

        Args:
            image: [height, width, 1|3|4]; see `complete`.
            mask, **options: as for `complete`.
            postprocesses: names, see `options.Options`.

        Raises:
            ValueError, MemoryError: as for `complete`.
        """
        each = {name: Options(postprocess=name, **options) for name in postprocesses}
        first = next(iter(each.values()))
        return self._by_each(inputs.read(image, mask, first), first, list(each))

    def complete_file(
        self,
        image: str | os.PathLike,
        mask: str | os.PathLike,
        output: str | os.PathLike,
        *,
        overwrite: bool = False,
        save_mask: str | os.PathLike | None = None,
        max_pixels: int = images.MAX_PIXELS,
        jpeg_quality: int = images.JPEG_QUALITY,
        isolated: bool = False,
        **options: Any,
    ) -> Completion:
        """Fill the holes of one image file, keeping what the formats can hold: depth, alpha, colours, metadata.

        Args:
            image: file, see `images.read_image`; turned as EXIF says, and so is the output.
            mask: file, see `images.read_mask`, or "alpha": the hole is where the image is less than half opaque.
            output: file to write; its suffix names the format, see `images.write_image`. Its folder is created.
            overwrite: replace an output, and a saved mask of another content, that exist.
            save_mask: PNG file to write the hole to that was completed, white, at the size of the output: as a mask, it
                gives the same result again. None: it is not written.
            max_pixels: refuse larger images and masks.
            jpeg_quality: 1 to 100, for JPEG alone.
            isolated: see `images.open_image`.
            **options: as for `complete`.

        Returns:
            Completion; its image is what was written, as far as the format can hold it.

        Raises:
            UserError: a file cannot be read, used or written, or the mask leaves nothing to complete or nothing known.
            ValueError: an option is none of those of `complete`.
        """
        output, options = Path(output), Options(**options)
        images.check_writable_suffix(output)
        if output.exists() and not overwrite:
            raise UserError(f"{output}: exists already; set overwrite to replace it.")
        given = inputs.read(image, mask, options, max_pixels, isolated)
        inputs.check_not_empty(given.hole, image, mask)
        save_mask = save_mask and Path(save_mask)
        saved_masks.check_free(save_mask, given.hole, overwrite)
        try:
            done = self._complete(given, options)
        except MemoryError as error:
            raise UserError(f"{image}: {error} Make the photo smaller.") from error
        except frames.OutOfFrame as error:
            raise UserError(f"{image}: {error}") from error
        files.make_folder(output.parent)
        with saved_masks.saved(save_mask, given.hole):
            images.write_image(output, done.image, jpeg_quality, given.metadata)
        return done

    def _complete(self, given, options):
        """Complete Inputs, whose pixels may be changed, as asked for."""
        return self._by_each(given, options, [options.postprocess])[options.postprocess]

    def _by_each(self, given, options, names):
        """Complete Inputs, whose pixels may be changed, and post-process by each name: {name: Completion}.

        Once for all; but where a tight mask leaves a rim of what it covers, "auto" completes that too, and takes from
        the result what was asked for.
        """
        image, hole = given.pixels, given.hole
        suits = "auto" in names and self.postprocess != "poisson" and not self.frame
        rim = rims.left_of_objects(image, hole, holes.unseen(image, hole)) if suits else np.zeros_like(hole)
        wider = hole | rim
        if not rim.any() or wider.all():
            return self._in_hole(given, options, names)
        others = [name for name in names if name != "auto"]
        found = self._in_hole(given._replace(pixels=image.copy()), options, others) if others else {}
        around = given._replace(pixels=image.copy(), hole=wider)
        done = self._in_hole(around, options, ["auto"], MIN_TEXTURE_PX + 2 * rims.RIM_PX)["auto"]
        image[hole] = done.image[hole]
        found["auto"] = dataclasses.replace(done, image=image, notes=(*done.notes, _RIM_NOTE))
        return {name: found[name] for name in names}

    def _in_hole(self, given, options, names, least_texture_px=MIN_TEXTURE_PX):
        """Complete Inputs, whose pixels may be changed, once, and post-process by each name: {name: Completion}."""
        image, hole = given.pixels, given.hole
        groups = holes.groups(hole)
        sides = [holes.thickness(hole, box) for box, _ in groups]
        factors = [self._factor(side) if options.scale == "auto" else options.scale for side in sides]
        unknown, at_full_size = holes.unseen(image, hole), hole
        hidden = unknown  # from the network
        if self.frame and hole.any():
            self.frame.check(unknown, factors)
            hidden = self.frame.middle
        try:
            for (box, own), factor in zip(groups, factors, strict=True):
                if factor < 1:
                    self._fill_reduced(image, hidden, box, own, factor)
                    at_full_size = hole.copy() if at_full_size is hole else at_full_size
                    at_full_size[box[0] : box[2], box[1] : box[3]] &= ~own
            self._fill(image, hidden, at_full_size)
        except MemoryError as error:
            raise MemoryError("the surroundings of its holes are too much for the memory.") from error
        filled = tuple(FilledHole(side, factor) for side, factor in zip(sides, factors, strict=True))
        done = Completion(image, filled, (), given.notes)
        done = self._with_note_of_size(done)
        return {name: self._post_process(done, hole, unknown, name, least_texture_px) for name in names}

    def _post_process(self, done, hole, unknown, postprocess, least_texture_px):
        """Return a completion post-processed as asked for."""
        blended = textured = np.zeros_like(hole)
        if postprocess == "texture":
            textured = hole
        elif postprocess == "poisson" or postprocess == "auto" and self.postprocess == "poisson":
            blended = hole
        elif postprocess == "auto":
            textured = holes.thick(hole, least_texture_px)
            blended = hole & ~textured
        image, names, notes = done.image, [], list(done.notes)
        if textured.any():
            image, note = texture.synthesise(image, image, textured, unknown)
            names.append("texture")
            notes += [f"{note}."] if note else []
        if blended.any():
            image = blending.poisson(image, image, blended, unknown & ~textured)
            names.append("poisson")
        return dataclasses.replace(done, image=image, postprocesses=tuple(names), notes=tuple(notes))

    def _fill(self, image, hole, wanted):
        """Fill `wanted`, part of `hole`, as a pass of the whole image would; the image is changed in place.

        No window sees what was filled before: to the network, all of `hole` is unknown.
        """
        channels, dtype = image.shape[2], image.dtype
        for batch in windows.batches(windows.plan(wanted)):
            crops, masks = zip(*(_padded_crop(image, hole, window) for _, window in batch), strict=True)
            crops, masks = np.stack(crops), np.stack(masks)
            with self._passing:
                completed = self.network(crops, masks)
            for ((top, left, bottom, right), window), rgb in zip(batch, completed, strict=True):
                box = np.s_[top:bottom, left:right]
                rgb = rgb[top - window[0] : bottom - window[0], left - window[1] : right - window[1]]
                image[box][wanted[box]] = from_rgb(rgb[wanted[box]], channels, dtype)

    def _fill_reduced(self, image, hole, box, own, factor):
        """Fill one group of holes, see `holes.groups`, from a reduced copy of its surroundings, in place."""
        inside = holes.around(box, math.ceil((MARGIN_PX + STRIDE) / factor), hole.shape)
        crop_hole, wanted = hole[inside], np.zeros(hole[inside].shape, bool)
        top, left = box[0] - inside[0].start, box[1] - inside[1].start
        wanted[top : top + own.shape[0], left : left + own.shape[1]] = own
        height, width = wanted.shape
        small_shape = max(1, round(height * factor)), max(1, round(width * factor))
        small, small_hole = holes.reduce(to_rgb(image[inside], crop_hole), crop_hole, small_shape)
        self._fill(small, small_hole, small_hole & holes.resize(wanted, small_shape))
        rgb = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        image[inside][wanted] = from_rgb(rgb[wanted], image.shape[2], image.dtype)

    def _factor(self, side):
        """Return the factor by which the surroundings of a hole are reduced; side: its thickness in px."""
        largest = self.trained_hole_px and self.trained_hole_px[1]
        return largest / side if largest and side > largest * SCALE_TOLERANCE else 1

    def _with_note_of_size(self, done):
        """Add a note to a completion if a hole is thicker than those of the training."""
        if not self.trained_hole_px or done.thickness_px <= self.trained_hole_px[1]:
            return done
        smallest, largest = self.trained_hole_px
        at = "at full resolution" if done.scale == 1 else f"at {done.scale:.2f} of the resolution"
        note = (
            f"a hole is {done.thickness_px} px thick, but the network was trained on holes of {smallest} to {largest} "
            f"px: completed {at}."
        )
        return dataclasses.replace(done, notes=(*done.notes, note))


def _in_tensorflow(model, dtype):
    from glcic_tf.completion.tensorflow_engine import TensorFlowEngine
    from glcic_tf.networks import folding

    return TensorFlowEngine(folding.as_plain(model), dtype)


def _trained_hole_px(metadata):
    """Read the range of hole sides in px from a model file's notes, which anybody may have written; None if unclear."""
    sides = metadata.get("hole_min_px"), metadata.get("hole_max_px")
    return sides if all(isinstance(side, int) and side > 0 for side in sides) else None


def _usual_postprocess(metadata):
    """What suits a model by its file's notes: networks of others, which are sharper, are blended as in the paper."""
    return "poisson" if "source" in metadata else "texture"


def _padded_crop(image, hole, window):
    """Cut a window out: float32 [height, width, 3] RGB, 0 in the hole, and the mask, float32 [height, width, 1].

    Beyond the image stands its edge again. The hole is padded like the image: else what stands in a hole at the border
    would be passed on as known.
    """
    top, left, bottom, right = window
    inside = np.s_[top:bottom, left:right]  # shorter than the window where that reaches beyond the image
    crop, crop_hole = image[inside], hole[inside]
    padding = ((0, bottom - top - crop.shape[0]), (0, right - left - crop.shape[1]), (0, 0))
    mask = crop_hole[..., None].astype(np.float32)
    return np.pad(to_rgb(crop, crop_hole), padding, mode="edge"), np.pad(mask, padding, mode="edge")
