"""Complete images of any size with a completion network, at a cost that follows the holes.

This is the one way to complete an image: infer.py, the page, the evaluation and the demo come through here.
"""

import math
import os
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.completion import blending, texture, windows
from glcic_tf.completion.postprocesses import POSTPROCESSES
from glcic_tf.imaging import holes, images
from glcic_tf.imaging.pixels import as_pixels, from_rgb, to_rgb
from glcic_tf.networks import DEFAULT_MODEL, folding, model_file
from glcic_tf.networks.completion import MARGIN_PX, STRIDE

DTYPES = ("float32", "bfloat16")
# A hole is completed in reduced surroundings if it is thicker than the largest of the training by more than this
# factor: there that is better on most photos, by some tenths of a dB and more (python -m benchmarks.scale).
SCALE_TOLERANCE = 1.2
# "auto" fills no thinner holes with texture: their surroundings show through anyway.
MIN_TEXTURE_PX = 12


class PhotoWarning(UserWarning):
    """Something about a photo that its owner should know."""


class HoleSizeWarning(PhotoWarning):
    """A hole is larger than those that the network was trained for."""


class TextureWarning(PhotoWarning):
    """Texture was asked for, but too little is known to copy it from."""


class Completer:
    """A completion network ready for use on NumPy images and image files, by several threads at once if need be.

    Args:
        model: Keras model as `completion.completion_network` or `model_file.load` gives it; used in inference mode.
        trained_hole_px: smallest and largest side of the holes it was trained on, px; None if that is not known, and
            then `scale="auto"` reduces nothing.
        dtype: "float32", or "bfloat16": half the time on CPUs that have it, results within some grey levels.
        postprocess: what `postprocess="auto"` does with thick holes: "texture", or "poisson" as the paper has it.
    """

    def __init__(self, model, trained_hole_px=None, dtype="float32", postprocess="texture"):
        if dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}.")
        self.model = folding.fold_batch_norm(model)
        if dtype == "bfloat16":
            self.model = folding.compute_in_bfloat16(self.model)
        self.trained_hole_px = trained_hole_px
        self.postprocess = postprocess

        # One graph for every size: without the signature each new size of window would be traced anew.
        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, None, None, 3], tf.float32),
                tf.TensorSpec([None, None, None, 1], tf.float32),
            ],
        )
        def network(image, mask):
            return self.model({"image": image, "mask": mask}, training=False)

        self._network = network
        self._passing = threading.Lock()  # two passes at once would share the cores and need twice the memory

    @classmethod
    def load(cls, path=None, dtype="float32"):
        """Load a `.keras` model file, by default the one that ships with the package; `dtype` as for the class.

        Raises:
            UserError: the file is missing or no model file for completion.
        """
        if path is None and not DEFAULT_MODEL.is_file():
            raise UserError(
                f"{DEFAULT_MODEL}: the weights of the package are missing; install it anew or name a model."
            )
        path = path or DEFAULT_MODEL
        metadata = model_file.read_metadata(path)
        return cls(model_file.load(path), _trained_hole_px(metadata), dtype, _usual_postprocess(metadata))

    def complete(
        self,
        image,
        mask,
        *,
        scale="auto",
        postprocess="none",
        invert_mask=False,
        resize_mask=False,
        mask_dilate=0,
    ):
        """Fill the holes of one image.

        Args:
            image: [height, width] or [height, width, 1|3|4] (grey, RGB or RGBA), height and width from 1 px up; uint8,
                uint16, or float in [0, 1]. What stands in the hole is not looked at, not even NaN. Or a file, see
                `images.read_image`.
            mask: [height, width] or [height, width, 1]; the hole is where it is True (bool), >= 128 (uint8) or >= 0.5
                (float). Or a file, see `images.read_mask`. Or "alpha": the hole is where the RGBA image is less than
                half opaque.
            scale: 1 completes at full resolution; a smaller number reduces the surroundings by this factor, completes
                them, and pastes the hole, enlarged again. "auto" does so for holes much thicker than those of the
                training, by the factor that brings them down to these.
            postprocess: "poisson" blends the hole into its surroundings, see `blending.poisson`; "texture" fills it
                with copies of the photo's own pixels that the completion guides, see `texture.synthesise`; "auto"
                takes for holes of at least MIN_TEXTURE_PX what suits the model, and blends thinner ones; or "none".
            invert_mask: what is white is known, instead of the hole.
            resize_mask: bring a mask of another size to the image's, instead of refusing it.
            mask_dilate: grow the hole by so many px on all sides.

        Returns:
            New array of the image's shape and dtype. Known pixels are bit-equal to the image's. In the hole of a grey
            image stands the mean of the network's three channels; the alpha of a hole is opaque, since what was
            completed there is meant to be seen. Without a hole, a copy of the image.

        Raises:
            ValueError: shape, dtype or range of an array is not as above, an option is none of those above, or the
                mask leaves no pixel known.
            UserError: a file cannot be read.
            MemoryError: the surroundings of a hole are too much for the memory.

        Warns:
            HoleSizeWarning: a hole is thicker than those of the training; says what was done about it.
            TextureWarning: with "texture", too little is known to copy from; says what was done instead.
        """
        pixels = as_pixels(images.read_image(image) if _is_path(image) else image)
        if _is_path(mask):
            hole = holes.from_alpha(pixels) if mask == holes.ALPHA else images.read_mask(mask)
        else:
            hole = holes.from_mask(mask)
        if hole.shape != pixels.shape[:2] and not resize_mask:
            (height, width), (mask_height, mask_width) = pixels.shape[:2], hole.shape
            raise ValueError(f"mask: has {mask_width} x {mask_height} px, but the image {width} x {height} px.")
        hole = holes.prepare(hole, pixels.shape[:2], invert_mask, mask_dilate)
        if hole.all():
            raise ValueError("mask: covers the whole image; there is nothing known to complete it from.")
        result = self._complete(pixels.copy(), hole, scale, postprocess)
        return result[..., 0] if np.ndim(image) == 2 else result

    __call__ = complete

    def complete_file(
        self,
        image,
        mask,
        output,
        *,
        scale="auto",
        postprocess="none",
        invert_mask=False,
        resize_mask=False,
        mask_dilate=0,
        overwrite=False,
        max_pixels=images.MAX_PIXELS,
        jpeg_quality=images.JPEG_QUALITY,
        isolated=False,
    ):
        """Fill the holes of one image file, keeping what the formats can hold: depth, alpha, colours, metadata.

        Args:
            image: file, see `images.read_image`; turned as EXIF says, and so is the output.
            mask: file, see `images.read_mask`, or "alpha": the hole is where the image is less than half opaque.
            output: file to write; its suffix names the format, see `images.write_image`. Its folder is created.
            scale, postprocess, invert_mask, resize_mask, mask_dilate: as for `complete`.
            overwrite: replace an output that exists.
            max_pixels: refuse larger images and masks.
            jpeg_quality: 1 to 100, for JPEG alone.
            isolated: see `images.open_image`.

        Raises:
            UserError: a file cannot be read, used or written, or the mask leaves nothing to complete or nothing known.
            ValueError: an option is none of those of `complete`.

        Warns:
            HoleSizeWarning, TextureWarning: as `complete`.
        """
        output = Path(output)
        images.check_writable_suffix(output)
        if output.exists() and not overwrite:
            raise UserError(f"{output}: exists already; add --overwrite to replace it.")
        pixels, metadata, _, pictures, sensor_shape = images.open_image(image, max_pixels, isolated)
        if mask == holes.ALPHA:
            if pixels.shape[2] != 4:
                raise UserError(f"{image}: has no transparency to take the hole from; name a --mask.")
            mask, hole = f"the alpha of {image}", holes.from_alpha(pixels)
        else:
            hole = images.read_mask(mask, max_pixels, isolated)
        if hole.shape != pixels.shape[:2] and not resize_mask:
            sizes = [f"{width} x {height} px" for height, width in (hole.shape, pixels.shape[:2])]
            advice = "give a mask of the photo's size, or add --resize_mask"
            if hole.shape == sensor_shape:
                advice = "that is the photo's size before its EXIF turns it: draw the mask on it as viewers show it"
            raise UserError(f"{mask}: has {sizes[0]}, but {image} has {sizes[1]}; {advice}.")
        if pictures > 1:
            warnings.warn(f"{image}: holds {pictures} pictures; the first is completed.", PhotoWarning, stacklevel=2)
        hole = holes.prepare(hole, pixels.shape[:2], invert_mask, mask_dilate)
        if hole.all() or not hole.any():
            left = "known" if hole.all() else "to complete"
            raise UserError(
                f"{mask}: leaves nothing {left} in {image}; expected white in the hole and black elsewhere (or the "
                "other way round, with --invert_mask)."
            )
        try:
            completed = self._complete(pixels, hole, scale, postprocess, f"{image}: ")
        except MemoryError as error:
            raise UserError(f"{image}: {error} Make the photo smaller.") from error
        files.make_folder(output.parent)
        images.write_image(output, completed, jpeg_quality, metadata)

    def _complete(self, image, hole, scale, postprocess, name=""):
        """Complete [height, width, channels] in place at the scale asked for, and post-process; see `complete`.

        Warnings begin with `name`.
        """
        if scale != "auto" and (isinstance(scale, str) or not 0 < scale <= 1):
            raise ValueError(f"scale: expected 'auto' or a number in (0, 1], found {scale!r}.")
        if postprocess not in POSTPROCESSES:
            raise ValueError(f"postprocess: expected one of {', '.join(POSTPROCESSES)}, found {postprocess!r}.")
        groups = holes.groups(hole)
        sides = [holes.thickness(hole, box) for box, _ in groups]
        factors = [self._factor(side) if scale == "auto" else scale for side in sides]
        self._warn_of_large_holes(max(sides, default=0), min(factors, default=1), name)
        unknown, at_full_size = holes.unseen(image, hole), hole
        try:
            for (box, own), factor in zip(groups, factors, strict=True):
                if factor < 1:
                    self._fill_reduced(image, unknown, box, own, factor)
                    at_full_size = hole.copy() if at_full_size is hole else at_full_size
                    at_full_size[box[0] : box[2], box[1] : box[3]] &= ~own
            self._fill(image, unknown, at_full_size)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError("the surroundings of its holes are too much for the memory.") from error
        return self._post_process(image, hole, unknown, postprocess, name)

    def _post_process(self, image, hole, unknown, postprocess, name):
        """Post-process a completed image, in place or not; see `complete`. Warnings begin with `name`."""
        if postprocess == "texture":
            image, note = texture.synthesise(image, image, hole, unknown)
            if note:
                warnings.warn(f"{name}{note}.", TextureWarning, stacklevel=4)
        elif postprocess == "poisson" or self.postprocess == "poisson" and postprocess == "auto":
            image = blending.poisson(image, image, hole, unknown)
        elif postprocess == "auto":
            thick = holes.thick(hole, MIN_TEXTURE_PX)
            image, _ = texture.synthesise(image, image, thick, unknown)
            image = blending.poisson(image, image, hole & ~thick, unknown & ~thick)
        return image

    def _fill(self, image, hole, wanted):
        """Fill `wanted`, part of `hole`, as a pass of the whole image would; the image is changed in place.

        No window sees what was filled before: to the network, all of `hole` is unknown.
        """
        channels, dtype = image.shape[2], image.dtype
        for batch in windows.batches(windows.plan(wanted)):
            crops, masks = zip(*(_padded_crop(image, hole, window) for _, window in batch), strict=True)
            crops, masks = np.stack(crops), np.stack(masks)
            with self._passing:
                completed = self._network(crops, masks).numpy()
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

    def _warn_of_large_holes(self, side, factor, name):
        if self.trained_hole_px and side > self.trained_hole_px[1]:
            smallest, largest = self.trained_hole_px
            done = "at full resolution" if factor == 1 else f"at {factor:.2f} of the resolution"
            warnings.warn(
                f"{name}a hole is {side} px thick, but the network was trained on holes of {smallest} to {largest} px: "
                f"completed {done}.",
                HoleSizeWarning,
                stacklevel=4,
            )


def _is_path(value):
    return isinstance(value, (str, os.PathLike))


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
