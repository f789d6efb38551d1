"""Which photos and holes a network can complete: any, or photos of one size with the hole in the middle.

A network for any size has no frame (None). Nothing here needs Keras.
"""

import dataclasses

import numpy as np

from glcic_tf.common.errors import UserError


class OutOfFrame(UserError):
    """A photo or a hole that a network cannot complete; the message leaves the naming of the photo to the caller."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """A square with a square hole in its middle.

    Attributes:
        image_px: side of the photo.
        hole_px: side of the middle, which is all that the network completes, and which it is never shown.
    """

    image_px: int
    hole_px: int

    @property
    def middle(self):
        """Where the middle is: bool [image_px, image_px]."""
        inside = np.zeros((self.image_px, self.image_px), bool)
        margin = (self.image_px - self.hole_px) // 2
        inside[margin : margin + self.hole_px, margin : margin + self.hole_px] = True
        return inside

    def check(self, unknown, factors):
        """Raise OutOfFrame unless a photo's hole can be completed.

        Args:
            unknown: bool [height, width], True where pixels are unknown.
            factors: the factors by which the surroundings of the holes are reduced.
        """
        side, found = self.image_px, None
        if unknown.shape != (side, side):
            found = f"{unknown.shape[1]} x {unknown.shape[0]} px; crop or resize the photo"
        elif (unknown & ~self.middle).any():
            found = "a hole beyond these; move the crop"
        elif any(factor != 1 for factor in factors):
            found = f"scale {min(factors):.2g}; leave the scale at 1"
        if found:
            raise OutOfFrame(
                f"this network only completes {side} x {side} px with the hole in the central {self.hole_px} x "
                f"{self.hole_px} px, found {found}, or use another model."
            )


CENTRE = Frame(image_px=128, hole_px=64)  # Context Encoder's


def inputs(frame):
    """Inputs of a network with this frame: {name: (None, height, width, channels)}; None for any height and width."""
    side = frame.image_px if frame else None
    return {"image": (None, side, side, 3), "mask": (None, side, side, 1)}


def is_known(shapes):
    """Whether there are completion networks with these inputs, given as `inputs` gives them."""
    return shapes in (inputs(None), inputs(CENTRE))


def of_image(shape):
    """Return the frame of a network by the shape of its input `image`: a Frame, or None."""
    return CENTRE if shape[1] == CENTRE.image_px else None


def of_model(model):
    """Return the frame of a completion network, a Keras model: a Frame, or None."""
    return of_image(model.input["image"].shape)


def refuse_export(model):
    """Raise UserError if a completion network has a frame, since what is exported takes photos of any size."""
    frame = of_model(model)
    if frame:
        raise UserError(
            f"--model: is a network for {frame.image_px} x {frame.image_px} px only, but an export takes photos of any "
            "size; use it with `glcic complete` and `glcic evaluate`, or give another model."
        )
