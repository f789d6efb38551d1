"""images.read_photo at a part of a JPEG's size, against the whole photo averaged by Pillow."""

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images


def photo(height, width):
    """A real photo, smoothly enlarged or cut to a size: Pillow's RGB picture."""
    return Image.fromarray(skimage.data.astronaut()).resize((width, height), Image.Resampling.BICUBIC)


def averaged(path, factor):
    """The whole photo in means over factor x factor px, without what is left over: float [height, width, 3]."""
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float64)
    height, width = (side // factor for side in pixels.shape[:2])
    cut = pixels[: height * factor, : width * factor]
    return cut.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("height", "width", "wanted", "factor"),
    [
        (400, 600, 134, 1),  # 1.5 x 134 is more than half of 400
        (400, 600, 133, 2),
        (403, 605, 133, 2),
        (600, 402, 67, 2),
        (603, 410, 67, 4),
        (804, 1205, 134, 4),
        (805, 1203, 66, 8),
        (805, 1203, 5, 8),
    ],
)
def test_reduced_as_far_as_there_is_room(tmp_path, height, width, wanted, factor):
    path = tmp_path / "photo.jpg"
    photo(height, width).save(path, quality=95)
    found = images.read_photo(path, shorter_edge_px=wanted)
    assert found.shape == (height // factor, width // factor, 3)
    assert found.flags.c_contiguous
    difference = np.abs(found - averaged(path, factor))
    assert difference.mean() < (0.5 if factor == 1 else 1.5)


def test_shrunk_on_from_there_it_is_like_the_whole_photo_shrunk(tmp_path):
    """At the least room that there may be: 1.5 times what is wanted."""
    photo(1026, 1026).save(tmp_path / "photo.jpg", quality=92)
    reduced = images.read_photo(tmp_path / "photo.jpg", shorter_edge_px=342)
    assert reduced.shape == (513, 513, 3)
    shrunk = cv2.resize(reduced, (342, 342), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk - averaged(tmp_path / "photo.jpg", 3)).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(403, 606).save(tmp_path / "turned.jpg", exif=exif)
    whole = images.read_photo(tmp_path / "turned.jpg")
    found = images.read_photo(tmp_path / "turned.jpg", shorter_edge_px=100)
    assert found.shape == tuple(side // 2 for side in whole.shape[:2]) + (3,)
    # Corner by corner: a wrong turn would show another part of the photo.
    for rows, columns in (
        (slice(0, 60), slice(0, 60)),
        (slice(-60, None), slice(0, 60)),
        (slice(0, 60), slice(-60, None)),
    ):
        corner = found[rows, columns].mean(axis=(0, 1))
        twice = (
            (slice(0, 120) if rows.start == 0 else slice(-120, None)),
            (slice(0, 120) if columns.start == 0 else slice(-120, None)),
        )
        assert np.abs(corner - whole[twice].mean(axis=(0, 1))).max() < 3


def test_grey(tmp_path):
    photo(400, 400).convert("L").save(tmp_path / "photo.jpg", quality=95)
    whole = images.read_photo(tmp_path / "photo.jpg")
    found = images.read_photo(tmp_path / "photo.jpg", shorter_edge_px=60)
    means = whole.reshape(100, 4, 100, 4, 3).mean(axis=(1, 3))
    assert found.shape == (100, 100, 3)
    assert np.abs(found - means).mean() < 2


def test_other_formats_are_read_whole(tmp_path):
    for name, mode in (("photo.png", "RGB"), ("photo.bmp", "RGB"), ("photo.webp", "RGB"), ("cmyk.jpg", "CMYK")):
        photo(400, 400).convert(mode).save(tmp_path / name)
        assert images.read_photo(tmp_path / name, shorter_edge_px=10).shape == (400, 400, 3)


def test_broken_file_is_refused(tmp_path):
    photo(400, 400).save(tmp_path / "photo.jpg")
    data = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="broken or incomplete"):
        images.read_photo(tmp_path / "photo.jpg", shorter_edge_px=10)
