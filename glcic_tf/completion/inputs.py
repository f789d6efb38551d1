"""From what a caller gives, arrays or files, to pixels and their hole: the one place that checks both."""

from __future__ import annotations

import os
import typing

import numpy as np

from glcic_tf.common.errors import UserError
from glcic_tf.completion import uncropping
from glcic_tf.imaging import holes, images, pil_images
from glcic_tf.imaging.image_metadata import Metadata
from glcic_tf.imaging.pixels import as_pixels

if typing.TYPE_CHECKING:  # Pillow is the caller's
    import PIL.Image

ImageLike: typing.TypeAlias = "np.ndarray | PIL.Image.Image | str | os.PathLike"


class Inputs(typing.NamedTuple):
    """An image and its hole.

    Attributes:
        pixels: [height, width, 1|3|4] uint8, uint16 or float, the caller's to change.
        hole: bool [height, width]; never all of it.
        metadata: what the image's file carries beside the pixels; None for an array.
        notes: sentences that the photo's owner should know, see `options.Completion`.
    """

    pixels: np.ndarray
    hole: np.ndarray
    metadata: Metadata | None
    notes: tuple[str, ...]


def read(image, mask, options, max_pixels=images.MAX_PIXELS, isolated=False):
    """Read and check an image and its mask.

    Args:
        image, mask: as `Completer.complete` takes them.
        options: Options.
        max_pixels: refuse larger files.
        isolated: see `images.open_image`.

    Returns:
        Inputs.

    Raises:
        ValueError: shape, dtype or range of an array is not as it should be, or the mask leaves nothing known.
        UserError: the same of a file, or it cannot be read.
    """
    notes, metadata, sensor_shape = (), None, None
    if is_path(image):
        pixels, metadata, _, pictures, sensor_shape = images.open_image(image, max_pixels, isolated)
        notes = (f"holds {pictures} pictures; the first is completed.",) if pictures > 1 else ()
    else:
        pixels = pil_images.pixels_of(image) if pil_images.is_pil(image) else as_pixels(image).copy()
    image_name, mask_name = str(image) if is_path(image) else "the image", str(mask) if is_path(mask) else "mask"
    error = UserError if is_path(image) or is_path(mask) and mask != holes.ALPHA else ValueError
    if is_path(mask) and mask == holes.ALPHA:
        if pixels.shape[2] != 4 and not options.uncrop:
            raise error(f"{image_name}: has no transparency to take the hole from; name a mask.")
        mask_name, hole = f"the alpha of {image_name}", _transparent(pixels, options)
    elif is_path(mask):
        hole = images.read_mask(mask, max_pixels, isolated)
    elif pil_images.is_pil(mask):
        hole, problem = images.hole_of(pil_images.pixels_of(mask))
        if problem:
            raise error(f"mask: {problem}")
    else:
        hole = holes.from_mask(mask)

    if options.uncrop and hole.shape == options.uncrop.around(pixels.shape):  # that of the result; margins are hole
        hole = hole[options.uncrop.box(pixels.shape)]
    if hole.shape != pixels.shape[:2] and not options.resize_mask:
        sizes = [f"{width} x {height} px" for height, width in (hole.shape, pixels.shape[:2])]
        advice = "give a mask of that size, or set resize_mask"
        if hole.shape == sensor_shape:
            advice = "that is the photo's size before its EXIF turns it: draw the mask on it as viewers show it"
        raise error(f"{mask_name}: has {sizes[0]}, but {image_name} has {sizes[1]}; {advice}.")
    hole = holes.prepare(hole, pixels.shape[:2], options.invert_mask, options.mask_dilate)
    if hole.all():
        raise error(f"{mask_name}: leaves nothing known in {image_name}; {_EXPECTED}.")
    if options.uncrop:
        height, width = options.uncrop.around(pixels.shape)
        if height * width > max_pixels:
            raise error(
                f"{image_name}: would have {width} x {height} px with uncrop; at most {max_pixels / 1e6:.0f} "
                "megapixels are completed; add less, or make it smaller."
            )
        pixels, hole = uncropping.extend(pixels, options.uncrop), uncropping.extend_hole(hole, options.uncrop)
    return Inputs(pixels, hole, metadata, notes)


def _transparent(pixels, options):
    """The hole in the photo's own alpha; without one, nothing of the photo itself is to be completed."""
    if pixels.shape[2] == 4:
        return holes.from_alpha(pixels)
    return np.full(pixels.shape[:2], options.invert_mask)


_EXPECTED = "expected white in the hole and black elsewhere (or the other way round, with invert_mask)"


def check_not_empty(hole, image, mask):
    """Raise UserError if a file's mask has no hole: whoever gave it meant something else."""
    if not hole.any():
        name = f"the alpha of {image}" if mask == holes.ALPHA else mask
        raise UserError(f"{name}: leaves nothing to complete in {image}; {_EXPECTED}.")


def is_path(value):
    """Whether an argument is the name of a file (or the word for a photo's own alpha) instead of an array."""
    return isinstance(value, (str, os.PathLike))
