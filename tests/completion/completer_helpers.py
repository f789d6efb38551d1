"""Photos, holes and the reference that passes the whole image."""

import numpy as np

AWKWARD_SIZES = [(1, 2), (1, 7), (7, 1), (3, 5), (4, 4), (257, 255), (40, 900)]


def photo(height, width, channels=3, dtype=np.float32):
    rng = np.random.default_rng(height * 1000 + width)
    image = rng.random((height, width, channels), np.float32)
    return image.astype(dtype) if dtype == np.float32 else (image * np.iinfo(dtype).max).astype(dtype)


def rectangles(height, width, *boxes):
    hole = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def whole_image(model, image, hole):
    """The reference for windows: float32 image [height, width, 3] and its hole through the same model at once."""
    height, width = hole.shape
    rows = np.minimum(np.arange(-(-height // 4) * 4), height - 1)  # the last row and column again
    columns = np.minimum(np.arange(-(-width // 4) * 4), width - 1)
    inputs = {"image": image[None][:, rows][:, :, columns], "mask": hole[None, ..., None][:, rows][:, :, columns]}
    inputs["mask"] = inputs["mask"].astype(np.float32)
    inputs["image"] = np.where(inputs["mask"] == 1, 0, inputs["image"]).astype(np.float32)
    return np.asarray(model(inputs, training=False))[0, :height, :width]


SIZE = (482, 761)
PLACES = {
    "middle": [(210, 330, 260, 410)],
    "corners": [(0, 0, 40, 30), (0, 750, 9, 761), (470, 0, 482, 30), (430, 730, 482, 761)],
    "borders": [(200, 0, 250, 33), (0, 300, 21, 340), (460, 310, 482, 410), (190, 759, 290, 761)],
    "near": [(200, 300, 240, 340), (200, 420, 245, 430), (290, 300, 291, 301)],
    "overlapping_windows": [(20, 30, 50, 70), (250, 330, 255, 340), (430, 650, 450, 690)],
    "specks": [(10, 10, 11, 11), (60, 90, 61, 91), (160, 120, 162, 121), (450, 700, 451, 701), (400, 640, 401, 642)],
    "across": [(240, 0, 250, 761)],
}
