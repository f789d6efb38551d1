"""Completion without learning: diffusion and patch-based methods that a network is compared with.

The paper compares with methods of both kinds. All of these come from libraries; their settings are from the libraries'
examples or the literature, and were not tuned:

* telea: fast marching. Telea, "An Image Inpainting Technique Based on the Fast Marching Method", 2004. OpenCV.
* navier_stokes: Bertalmio et al., "Navier-Stokes, Fluid Dynamics, and Image and Video Inpainting", 2001. OpenCV.
* biharmonic: the smoothest surface through the known pixels. Damelin and Hoang, "On Surface Completion and Image
  Inpainting by Biharmonic Functions", 2018. scikit-image.
* shift_map: the hole as a mosaic of shifted copies of the known pixels. He and Sun, "Statistics of Patch Offsets for
  Image Completion", 2012. OpenCV's xphoto.
* patch_match: coarse to fine, every patch of the hole votes for the colours of the most similar known patch. Wexler et
  al., "Space-Time Completion of Video", 2007; Barnes et al., "PatchMatch: A Randomized Correspondence Algorithm for
  Structural Image Editing", 2009. PyPatchMatch, which also tries larger patches for the coarse layout.
* mean_colour: the mean of the known pixels, which any method ought to beat.

Every method is a function (image, hole) -> completed. `image` is [height, width, 3] uint8, RGB, at least MIN_PX high
and wide, and is not changed; `hole` is [height, width] bool, True where the image is to be completed. Pixels in the
hole are blacked out before the method gets the image. `completed` is a new [height, width, 3] uint8 array, equal to
`image` outside the hole, bit for bit, and the same from call to call, whatever was completed before. An empty hole
gives a copy of the image. Errors: ValueError for wrong shapes or dtypes, an image that is too small or a hole that
leaves no pixel known; RuntimeError, which names the method, if the library fails on an image or is not installed.

The methods have no state of their own and can be pickled for other processes. They use the libraries' global random
generators, so run them in processes rather than threads.
"""

import functools

import cv2
import numpy as np

from glcic_tf.common import cli
from glcic_tf.common.errors import first_line

MIN_PX = 8
_RADIUS_PX = 3  # of the neighbourhood in OpenCV's diffusion, as in its examples
_PATCH_RADIUS_PX = 3  # patches of 7 x 7 px, those of Barnes et al. (2009)
_SEED = 0


def _method(fill):
    """Make a method (see the module) from a function that fills holes and may change other pixels too."""

    @functools.wraps(fill)
    def complete(image, hole):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < MIN_PX:
            raise ValueError(
                f"image: found {image.dtype} {list(image.shape)}; expected uint8 [height, width, 3], "
                f"each side at least {MIN_PX} px."
            )
        if hole.shape != image.shape[:2] or hole.dtype != bool:
            raise ValueError(
                f"hole: found {hole.dtype} {list(hole.shape)}; expected bool [height, width] of the image, "
                f"{list(image.shape[:2])}."
            )
        if hole.all():
            raise ValueError("hole: covers the whole image; expected at least one known pixel.")
        if not hole.any():
            return image.copy()
        known = np.where(hole[..., None], np.uint8(0), image)
        name = fill.__name__
        try:
            filled = fill(known, hole)
        except Exception as error:  # whatever a library raises: cv2.error, numpy.linalg.LinAlgError, ...
            raise RuntimeError(
                f"{name} failed on {image.shape[0]} x {image.shape[1]} px: {first_line(error)}"
            ) from error
        return np.where(hole[..., None], filled, image)

    return complete


@_method
def telea(image, hole):
    """Complete by fast marching (Telea 2004), radius 3 px."""
    return cv2.inpaint(image, hole.astype(np.uint8), _RADIUS_PX, cv2.INPAINT_TELEA)


@_method
def navier_stokes(image, hole):
    """Complete by diffusion along lines of equal intensity (Bertalmio et al. 2001), radius 3 px."""
    return cv2.inpaint(image, hole.astype(np.uint8), _RADIUS_PX, cv2.INPAINT_NS)


@_method
def biharmonic(image, hole):
    """Complete by a biharmonic function (Damelin and Hoang 2018); overshoot is cut off."""
    from skimage.restoration import inpaint_biharmonic  # here, so that the others need not wait for SciPy

    surface = inpaint_biharmonic(image, hole, channel_axis=-1)
    if not np.isfinite(surface[hole]).all():
        raise ArithmeticError("the system of equations has no finite solution")
    return np.rint(np.clip(surface, 0, 1) * 255).astype(np.uint8)


@_method
def shift_map(image, hole):
    """Complete by shifted copies of the known part (He and Sun 2012). Colours pass through 8-bit CIE Lab.

    Pixels that none of the shifts fills (a few, in some images) are filled by fast marching afterwards; it is an error
    if they are most of the hole, as in a small image with few known pixels.
    """
    cv2.setRNGSeed(_SEED)  # otherwise the result depends on earlier calls: the search tree is built at random
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    known = np.where(hole, np.uint8(0), np.uint8(255))  # the inverse of cv2.inpaint's mask
    completed = np.zeros_like(lab)  # OpenCV needs it to exist
    cv2.xphoto.inpaint(lab, known, completed, cv2.xphoto.INPAINT_SHIFTMAP)
    left = hole & ~completed.any(-1)  # OpenCV leaves zeros, which in Lab are not a colour that RGB has
    share = left.sum() / hole.sum()
    if share > 0.5:
        raise RuntimeError(f"no shifted copy of the known part reaches {share:.0%} of the hole")
    completed = np.where(hole[..., None], cv2.cvtColor(completed, cv2.COLOR_LAB2RGB), image)  # it changes known pixels
    return cv2.inpaint(completed, left.astype(np.uint8), _RADIUS_PX, cv2.INPAINT_TELEA) if left.any() else completed


@_method
def patch_match(image, hole):
    """Complete by PatchMatch (Barnes et al. 2009), coarse to fine, patches of 7 x 7 px."""
    try:
        import patchmatch  # here, as nothing else in the project needs this package
    except ImportError as error:
        raise RuntimeError(f"needs the package PyPatchMatch; run: {cli.install_line('evaluate')}") from error
    patchmatch.set_random_seed(_SEED)
    return patchmatch.inpaint(image, hole, patch_size=_PATCH_RADIUS_PX)


@_method
def mean_colour(image, hole):
    """Fill with the mean colour of the known pixels."""
    return np.broadcast_to(np.rint(image[~hole].mean(0)).astype(np.uint8), image.shape)


METHODS = {
    method.__name__: method for method in (telea, navier_stokes, biharmonic, shift_map, patch_match, mean_colour)
}
