"""completer: known pixels stay, holes get what the whole image would give them, for every size, depth and mask."""

import keras
import numpy as np
import pytest
import skimage

from glcic_tf import completer, images, model_file
from glcic_tf.completer import Completer, hole_boxes, window_around
from glcic_tf.errors import UserError
from glcic_tf.networks import MARGIN_PX, STRIDE, completion_network

AWKWARD_SIZES = [(1, 2), (1, 7), (7, 1), (3, 5), (4, 4), (257, 255), (40, 900)]


@pytest.fixture(scope="module")
def narrow():
    """Narrow C with random weights and statistics, strong enough that pixels far away count in the hole."""
    model, rng = completion_network(1 / 16, mean_pixel=(0.4, 0.5, 0.6)), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (np.shape(w) for w in layer.get_weights())
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, gamma),
                    rng.normal(0, 0.2, beta),
                    rng.normal(0, 0.2, mean),
                    np.full(variance, 0.3),
                ]
            )
    return Completer(model)


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
    """The independent reference: float32 image [height, width, 3] and its hole through the model at once."""
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


@pytest.mark.parametrize("boxes", PLACES.values(), ids=PLACES)
def test_hole_local_result_equals_the_whole_image_result(narrow, boxes):
    image, hole = photo(*SIZE), rectangles(*SIZE, *boxes)
    expected = whole_image(narrow.model, image, hole)
    result = narrow.complete(image, hole)
    assert expected[hole].std() > 0.01  # the network does look at the image
    np.testing.assert_allclose(result[hole], expected[hole], atol=1e-5)
    np.testing.assert_array_equal(result[~hole], image[~hole])


def test_margin_is_needed(narrow, monkeypatch):
    """The comparison above is able to fail: with a quarter of the margin the values differ."""
    image, hole = photo(*SIZE), rectangles(*SIZE, *PLACES["middle"])
    expected = whole_image(narrow.model, image, hole)
    monkeypatch.setattr(completer, "MARGIN_PX", MARGIN_PX // 4)
    assert np.abs(narrow.complete(image, hole) - expected)[hole].max() > 1e-4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("size", AWKWARD_SIZES)
def test_size_depth_channels_and_known_pixels_stay(narrow, size, channels, dtype):
    image = photo(*size, channels or 1, dtype)
    image = image[..., 0] if channels is None else image
    before = image.copy()
    rng = np.random.default_rng(0)
    hole = rng.random(size) < 0.3
    hole.flat[0], hole.flat[-1] = True, False
    result = narrow.complete(image, hole)
    assert result.shape == image.shape and result.dtype == image.dtype
    np.testing.assert_array_equal(result[~hole], image[~hole])
    np.testing.assert_array_equal(image, before)
    assert (result[hole] != image[hole]).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_images_are_rounded(narrow, dtype):
    image, hole = photo(60, 80, dtype=dtype), rectangles(60, 80, (10, 20, 40, 50))
    top = np.iinfo(dtype).max
    expected = whole_image(narrow.model, image.astype(np.float32) / top, hole)[hole] * top
    assert np.abs(narrow.complete(image, hole)[hole] - expected).max() <= 0.5 + 1e-5 * top


def test_grey_is_the_mean_of_three_equal_channels(narrow):
    image, hole = photo(60, 80, 1), rectangles(60, 80, (10, 20, 40, 50))
    expected = whole_image(narrow.model, image.repeat(3, axis=2), hole).mean(axis=2)
    np.testing.assert_allclose(narrow.complete(image, hole)[hole][:, 0], expected[hole], atol=1e-5)


@pytest.mark.parametrize(("dtype", "opaque"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_alpha_is_opaque_in_the_hole_and_stays_elsewhere(narrow, dtype, opaque):
    image, hole = photo(60, 80, 4, dtype), rectangles(60, 80, (10, 20, 40, 50))
    result = narrow.complete(image, hole)
    assert (result[hole][:, 3] == opaque).all()
    np.testing.assert_array_equal(result[~hole], image[~hole])
    np.testing.assert_array_equal(result[..., :3], narrow.complete(image[..., :3], hole))


@pytest.mark.parametrize("size", AWKWARD_SIZES)
def test_what_stands_in_the_hole_does_not_matter(narrow, size):
    image, hole = photo(*size), np.zeros(size, bool)
    hole[-2:, -3:] = True  # at the border, where the image is padded
    hole[0, 0] = False
    expected = narrow.complete(image, hole)
    for value in (np.nan, np.inf, -1e30, 0.7):
        np.testing.assert_array_equal(narrow.complete(np.where(hole[..., None], value, image), hole), expected)


def test_every_kind_of_mask(narrow):
    image, hole = photo(21, 34), rectangles(21, 34, (5, 6, 12, 20))
    expected = narrow.complete(image, hole)
    for mask in (
        hole[..., None],
        np.where(hole, 128, 127).astype(np.uint8),
        np.where(hole, 255, 0).astype(np.uint8)[..., None],
        np.where(hole, 0.5, 0.499).astype(np.float32),
        np.where(hole, 1.0, 0.0),
    ):
        np.testing.assert_array_equal(narrow(image, mask), expected)


def test_without_a_hole_comes_a_copy(narrow):
    for size in [(1, 1), *AWKWARD_SIZES]:
        image = photo(*size, dtype=np.uint8)
        result = narrow.complete(image, np.zeros(size, bool))
        np.testing.assert_array_equal(result, image)
        assert not np.shares_memory(result, image)


def test_one_graph_serves_all_sizes(narrow):
    for size in ((20, 24), (33, 65), (120, 9)):
        narrow.complete(photo(*size), rectangles(*size, (1, 1, 5, 5)))
    assert narrow._network.experimental_get_tracing_count() == 1


def test_inference_mode_and_no_change_to_the_model(narrow):
    before = [w.copy() for w in narrow.model.get_weights()]
    narrow.complete(photo(40, 40), rectangles(40, 40, (8, 8, 20, 20)))
    for old, new in zip(before, narrow.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("image", "mask", "match"),
    [
        (np.zeros((5, 6, 2), np.uint8), np.zeros((5, 6), bool), r"image: expected .* found \[5, 6, 2\]"),
        (np.zeros(5, np.uint8), np.zeros((5, 6), bool), r"found \[5\]"),
        (np.zeros((1, 5, 6, 3), np.uint8), np.zeros((5, 6), bool), r"found \[1, 5, 6, 3\]"),
        (np.zeros((0, 6, 3), np.uint8), np.zeros((0, 6), bool), r"found \[0, 6, 3\]"),
        (np.zeros((5, 6, 3), np.int32), np.zeros((5, 6), bool), "expected uint8, uint16 or float .* found int32"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((6, 5), bool), "mask: has 5 x 6 px, but the image 6 x 5 px"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6, 3), bool), r"mask: expected .* found \[5, 6, 3\]"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6), np.int64), "mask: expected bool, uint8 or float"),
        (np.zeros((5, 6, 3), np.uint8), np.eye(5, 6, dtype=np.uint8), "no value above 1; expected 255"),
        (np.zeros((5, 6, 3), np.uint8), np.ones((5, 6), bool), "mask: covers the whole image"),
        (np.zeros((1, 1), np.uint8), np.ones((1, 1), bool), "mask: covers the whole image"),
        (np.full((5, 6, 3), 200.0), np.eye(5, 6), r"known pixels from 200.0 to 200.0; expected float in \[0, 1\]"),
        (np.full((5, 6, 3), np.nan), np.eye(5, 6), "known pixels from nan to nan"),
    ],
)
def test_bad_arrays_are_refused(narrow, image, mask, match):
    with pytest.raises(ValueError, match=match) as error:
        narrow.complete(image, mask)
    assert "\n" not in str(error.value)


def test_every_hole_pixel_is_in_a_box_with_all_its_surroundings():
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (5, 300), (64, 64), (700, 1001), (1500, 1200)):
        for count in (1, 2, 5, 40):
            hole = np.zeros((height, width), bool)
            for y, x in zip(rng.integers(0, height, count), rng.integers(0, width, count), strict=True):
                hole[y : y + rng.integers(1, 90), x : x + rng.integers(1, 90)] = True
            covered = np.zeros_like(hole)
            for box in hole_boxes(hole):
                top, left, bottom, right = box
                covered[top:bottom, left:right] = True
                window = window_around(box, hole.shape)
                assert (window % STRIDE == 0).all() and (window >= 0).all()
                assert window[0] == 0 or window[0] <= top - MARGIN_PX
                assert window[1] == 0 or window[1] <= left - MARGIN_PX
                assert window[2] >= min(height, bottom + MARGIN_PX) and window[2] < height + STRIDE
                assert window[3] >= min(width, right + MARGIN_PX) and window[3] < width + STRIDE
            assert covered[hole].all()


def test_boxes_fit_the_holes():
    assert hole_boxes(np.zeros((100, 100), bool)) == []
    far = [(40, 60, 80, 100), (1700, 1780, 1740, 1830)]
    assert sorted(hole_boxes(rectangles(2000, 2000, *far))) == far
    near = rectangles(2000, 2000, (300, 300, 340, 340), (300, 420, 345, 430))
    assert hole_boxes(near) == [(300, 300, 345, 430)]
    # Two windows of 352 x 352 px each or one of 352 x 704: the one costs no more. A little further apart, it does.
    assert len(hole_boxes(rectangles(2000, 2000, (800, 800, 840, 840), (800, 1152, 840, 1192)))) == 1
    assert len(hole_boxes(rectangles(2000, 2000, (800, 800, 840, 840), (800, 1156, 840, 1196)))) == 2


def test_work_follows_the_holes_and_not_the_image(narrow, monkeypatch):
    passed = []
    monkeypatch.setattr(
        narrow,
        "_network",
        lambda image, mask: passed.append(image.shape) or narrow.model({"image": image, "mask": mask}),
    )
    hole = rectangles(1500, 2000, (100, 100, 110, 110), (1200, 1700, 1210, 1710))
    narrow.complete(photo(1500, 2000, dtype=np.uint8), hole)
    assert len(passed) == 2
    assert all(
        shape[1] <= 10 + 2 * MARGIN_PX + 2 * STRIDE and shape[2] <= 10 + 2 * MARGIN_PX + 2 * STRIDE for shape in passed
    )


def test_load(narrow, tmp_path, monkeypatch):
    path = tmp_path / "narrow.keras"
    model_file.save(narrow.model, path)
    image, hole = skimage.data.rocket(), rectangles(427, 640, (100, 200, 200, 300))
    expected = narrow.complete(image, hole)
    np.testing.assert_array_equal(Completer.load(path).complete(image, hole), expected)
    monkeypatch.setattr(completer, "DEFAULT_MODEL", path)
    np.testing.assert_array_equal(Completer.load()(image, hole), expected)
    path.unlink()
    with pytest.raises(UserError, match="narrow.keras: the weights of the package are missing"):
        Completer.load()


def test_files_keep_the_known_pixels(narrow, tmp_path):
    """Through files and back, in the formats that lose nothing."""
    hole = rectangles(40, 50, (10, 10, 30, 30))
    for suffix, dtype, channels in (
        (".png", np.uint16, 4),
        (".png", np.uint8, 1),
        (".bmp", np.uint8, 3),
        (".webp", np.uint8, 3),
    ):
        path = tmp_path / f"photo{suffix}"
        images.write_image(path, photo(40, 50, channels, dtype))
        image = images.read_image(path)
        images.write_image(path, narrow.complete(image, hole))
        result = images.read_image(path)
        assert result.shape == (40, 50, channels) and result.dtype == dtype
        np.testing.assert_array_equal(result[~hole], photo(40, 50, channels, dtype)[~hole])
