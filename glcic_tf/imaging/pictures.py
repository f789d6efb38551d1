"""Pictures that show what was completed."""

import cv2
import numpy as np

_LABEL_HEIGHT_PX = 26
_GAP_PX = 6
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.55


def comparison(original, completed, hole):
    """Join masked (the hole in white), completed and original picture under their labels, black on white.

    Args:
        original, completed: uint8 [height, width, 3] RGB.
        hole: [height, width], non-zero in the hole.

    Returns:
        uint8 [26 + height, 3 * width + 12, 3] RGB.
    """
    return labelled({"masked": masked(original, hole), "completed": completed, "original": original})


def masked(image, hole):
    """Return an image, uint8 [height, width, 3], with its hole, [height, width], in white."""
    return np.where(hole[..., None], np.uint8(255), image)


def labelled(pictures):
    """Join pictures of one size side by side under their labels, black on white.

    Args:
        pictures: {label: uint8 [height, width, 3] RGB}.

    Returns:
        uint8 [26 + height, n * width + 6 * (n - 1), 3] RGB.
    """
    width = next(iter(pictures.values())).shape[1]
    widest = max(cv2.getTextSize(label, _FONT, _FONT_SCALE, 1)[0][0] for label in pictures)
    scale = min(_FONT_SCALE, _FONT_SCALE * (width - 4) / widest)  # small pictures get small labels
    columns = []
    for label, picture in pictures.items():
        column = cv2.copyMakeBorder(
            picture, _LABEL_HEIGHT_PX, 0, 0, _GAP_PX, cv2.BORDER_CONSTANT, value=(255, 255, 255)
        )
        cv2.putText(column, label, (4, _LABEL_HEIGHT_PX - 8), _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(column)
    return np.concatenate(columns, axis=1)[:, :-_GAP_PX]
