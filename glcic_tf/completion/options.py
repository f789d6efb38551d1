"""What can be asked of a completion, and what comes out of it, as values. Nothing here needs TensorFlow."""

import dataclasses

import numpy as np

from glcic_tf.completion import postprocesses, uncropping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How to complete an image.

    Attributes:
        scale: 1 completes at full resolution; a smaller number reduces the surroundings by this factor, completes
            them, and pastes the hole, enlarged again. "auto" does so for holes much thicker than those of the
            training, by the factor that brings them down to these.
        postprocess: a name in `postprocesses.POSTPROCESSES`. "poisson" blends the hole into its surroundings, see
            `blending.poisson`; "texture" fills it with copies of the photo's own pixels that the completion guides, see
            `texture.synthesise`; "auto" does what suits the model, blends thin holes, and where a tight mask leaves a
            rim of an object, completes that too and takes what was asked for, see `rims`; "none" does nothing.
        invert_mask: what is white in the mask is known, instead of the hole.
        resize_mask: bring a mask of another size to the image's, instead of refusing it.
        mask_dilate: grow the hole by so many px on all sides.
        uncrop: px to add to the image at (left, top, right, bottom); what is added is completed too. None:
            nothing.

    Raises:
        ValueError: an option is none of these.
    """

    scale: float | str = "auto"
    postprocess: str = postprocesses.DEFAULT
    invert_mask: bool = False
    resize_mask: bool = False
    mask_dilate: int = 0
    uncrop: tuple[int, int, int, int] | None = None

    def __post_init__(self):
        if self.scale != "auto" and (isinstance(self.scale, str) or not 0 < self.scale <= 1):
            raise ValueError(f"scale: expected 'auto' or a number in (0, 1], found {self.scale!r}.")
        if self.postprocess not in postprocesses.POSTPROCESSES:
            known = ", ".join(postprocesses.POSTPROCESSES)
            raise ValueError(f"postprocess: expected one of {known}, found {self.postprocess!r}.")
        if self.uncrop is not None:
            object.__setattr__(self, "uncrop", uncropping.margins(self.uncrop))


@dataclasses.dataclass(frozen=True)
class FilledHole:
    """A group of holes that were completed together.

    Attributes:
        thickness_px: side of the largest square that fits into it, px.
        scale: factor by which its surroundings were reduced; 1: they were not.
    """

    thickness_px: int
    scale: float


@dataclasses.dataclass(frozen=True, eq=False)
class Completion:
    """A completed image, and what was done to it.

    Attributes:
        image: array of the given image's shape and dtype.
        holes: tuple of FilledHole; empty where there was nothing to complete.
        postprocesses: names of what was done to the completed holes, in this order: some of "texture" and "poisson".
        notes: tuple of sentences that the photo's owner should know, such as that a hole is larger than any of the
            training; each begins in lower case, to stand behind a file's name and a colon.
    """

    image: np.ndarray
    holes: tuple[FilledHole, ...] = ()
    postprocesses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def thickness_px(self) -> int:
        """Thickness of the thickest hole, px; 0 without any."""
        return max((hole.thickness_px for hole in self.holes), default=0)

    @property
    def scale(self) -> float:
        """The smallest factor by which the surroundings of a hole were reduced."""
        return min((hole.scale for hole in self.holes), default=1.0)

    def told(self) -> dict:
        """What reports say of it, as JSON values: width_px, height_px, holes, hole_px, scale, postprocess, notes."""
        return {
            "width_px": self.image.shape[1],
            "height_px": self.image.shape[0],
            "holes": len(self.holes),
            "hole_px": self.thickness_px,
            "scale": round(self.scale, 4),
            "postprocess": list(self.postprocesses),
            "notes": list(self.notes),
        }
