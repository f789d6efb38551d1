"""completer: known pixels stay, holes get what the whole image would give them, for every size, depth and mask."""

import pickle

import numpy as np
import pytest
import skimage
from completer_helpers import AWKWARD_SIZES, PLACES, SIZE, photo, rectangles, whole_image
from PIL import Image

from glcic_tf.common.errors import UserError
from glcic_tf.completion import windows
from glcic_tf.completion.completer import Completer
from glcic_tf.convert import model_names
from glcic_tf.imaging import images
from glcic_tf.networks import MARGIN_PX, model_file

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("boxes", PLACES.values(), ids=PLACES)
def test_hole_local_result_equals_the_whole_image_result(narrow, folded, boxes):
    image, hole = photo(*SIZE), rectangles(*SIZE, *boxes)
    expected = whole_image(folded, image, hole)
    result = narrow(image, hole, postprocess="none")
    assert expected[hole].std() > 0.01  # the network does look at the image
    np.testing.assert_allclose(result[hole], expected[hole], atol=1e-5)
    np.testing.assert_array_equal(result[~hole], image[~hole])


def test_margin_is_needed(narrow, folded, monkeypatch):
    """The comparison above is able to fail: with a quarter of the margin the values differ."""
    image, hole = photo(*SIZE), rectangles(*SIZE, *PLACES["middle"])
    expected = whole_image(folded, image, hole)
    monkeypatch.setattr(windows, "MARGIN_PX", MARGIN_PX // 4)
    assert np.abs(narrow(image, hole, postprocess="none") - expected)[hole].max() > 1e-4


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
    result = narrow(image, hole, postprocess="none")
    assert result.shape == image.shape and result.dtype == image.dtype
    np.testing.assert_array_equal(result[~hole], image[~hole])
    np.testing.assert_array_equal(image, before)
    assert (result[hole] != image[hole]).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_images_are_rounded(narrow, folded, dtype):
    image, hole = photo(60, 80, dtype=dtype), rectangles(60, 80, (10, 20, 40, 50))
    top = np.iinfo(dtype).max
    expected = whole_image(folded, image.astype(np.float32) / top, hole)[hole] * top
    assert np.abs(narrow(image, hole, postprocess="none")[hole] - expected).max() <= 0.5 + 1e-5 * top


def test_grey_is_the_mean_of_three_equal_channels(narrow, folded):
    image, hole = photo(60, 80, 1), rectangles(60, 80, (10, 20, 40, 50))
    expected = whole_image(folded, image.repeat(3, axis=2), hole).mean(axis=2)
    np.testing.assert_allclose(narrow(image, hole, postprocess="none")[hole][:, 0], expected[hole], atol=1e-5)


@pytest.mark.parametrize(("dtype", "opaque"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_alpha_is_opaque_in_the_hole_and_stays_elsewhere(narrow, dtype, opaque):
    image, hole = photo(60, 80, 4, dtype), rectangles(60, 80, (10, 20, 40, 50))
    image[..., 3] = image[..., 3].clip(opaque / 255, None)  # what lies under full transparency is not known
    result = narrow(image, hole, postprocess="none")
    assert (result[hole][:, 3] == opaque).all()
    np.testing.assert_array_equal(result[~hole], image[~hole])
    np.testing.assert_array_equal(result[..., :3], narrow(image[..., :3], hole, postprocess="none"))


@pytest.mark.parametrize("size", AWKWARD_SIZES)
def test_what_stands_in_the_hole_does_not_matter(narrow, size):
    image, hole = photo(*size), np.zeros(size, bool)
    hole[-2:, -3:] = True  # at the border, where the image is padded
    hole[0, 0] = False
    expected = narrow(image, hole, postprocess="none")
    for value in (np.nan, np.inf, -1e30, 0.7):
        np.testing.assert_array_equal(
            narrow(np.where(hole[..., None], value, image), hole, postprocess="none"), expected
        )


def test_every_kind_of_mask(narrow):
    image, hole = photo(21, 34), rectangles(21, 34, (5, 6, 12, 20))
    expected = narrow(image, hole, postprocess="none")
    for mask in (
        hole[..., None],
        np.where(hole, 128, 127).astype(np.uint8),
        np.where(hole, 255, 0).astype(np.uint8)[..., None],
        np.where(hole, 0.5, 0.499).astype(np.float32),
        np.where(hole, 1.0, 0.0),
    ):
        np.testing.assert_array_equal(narrow(image, mask, postprocess="none"), expected)


def test_bfloat16_differs_by_some_grey_levels():
    image, hole = (photo(120, 140) * 255).astype(np.uint8), rectangles(120, 140, (30, 40, 50, 50))
    results = [
        Completer.load(dtype=dtype)(image, hole, scale=1, postprocess="none") for dtype in ("float32", "bfloat16")
    ]
    difference = np.abs(results[0].astype(int) - results[1])
    assert 0 < difference[hole].max() <= 3 and difference[~hole].max() == 0
    with pytest.raises(ValueError, match="dtype: expected one of float32, bfloat16, found 'float16'"):
        Completer.load(dtype="float16")


def test_without_a_hole_comes_a_copy(narrow):
    for size in [(1, 1), *AWKWARD_SIZES]:
        image = photo(*size, dtype=np.uint8)
        result = narrow(image, np.zeros(size, bool), postprocess="none")
        np.testing.assert_array_equal(result, image)
        assert not np.shares_memory(result, image)


def test_one_graph_serves_all_sizes(narrow):
    for size in ((20, 24), (33, 65), (120, 9)):
        narrow(photo(*size), rectangles(*size, (1, 1, 5, 5)), postprocess="none")
    assert narrow.network.function.experimental_get_tracing_count() == 1


def test_inference_mode_and_no_change_to_the_model(narrow, network):
    before = [w.copy() for w in network.get_weights()]
    narrow(photo(40, 40), rectangles(40, 40, (8, 8, 20, 20)), postprocess="none")
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("image", "mask", "match"),
    [
        (np.zeros((5, 6, 2), np.uint8), np.zeros((5, 6), bool), r"image: expected .* found \[5, 6, 2\]"),
        (np.zeros(5, np.uint8), np.zeros((5, 6), bool), r"found \[5\]"),
        (np.zeros((1, 5, 6, 3), np.uint8), np.zeros((5, 6), bool), r"found \[1, 5, 6, 3\]"),
        (np.zeros((0, 6, 3), np.uint8), np.zeros((0, 6), bool), r"found \[0, 6, 3\]"),
        (np.zeros((5, 6, 3), np.int32), np.zeros((5, 6), bool), "expected uint8, uint16 or float .* found int32"),
        (
            np.zeros((5, 6, 3), np.uint8),
            np.zeros((6, 5), bool),
            "mask: has 5 x 6 px, but the image has 6 x 5 px; .* set resize_mask",
        ),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6, 3), bool), r"mask: expected .* found \[5, 6, 3\]"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6), np.int64), "mask: expected bool, uint8 or float"),
        (np.zeros((5, 6, 3), np.uint8), np.eye(5, 6, dtype=np.uint8), "no value above 1; expected 255"),
        (np.zeros((5, 6, 3), np.uint8), np.ones((5, 6), bool), "mask: leaves nothing known in the image"),
        (np.zeros((1, 1), np.uint8), np.ones((1, 1), bool), "mask: leaves nothing known in the image"),
        (np.full((5, 6, 3), 200.0), np.eye(5, 6), r"known pixels from 200.0 to 200.0; expected float in \[0, 1\]"),
        (np.full((5, 6, 3), np.nan), np.eye(5, 6), "known pixels from nan to nan"),
    ],
)
def test_bad_arrays_are_refused(narrow, image, mask, match):
    with pytest.raises(ValueError, match=match) as error:
        narrow(image, mask, postprocess="none")
    assert "\n" not in str(error.value)


def test_far_holes_are_passed_in_one_batch(narrow, network, monkeypatch):
    passed = []
    monkeypatch.setattr(
        narrow,
        "network",
        lambda image, mask: passed.append(image.shape) or np.asarray(network({"image": image, "mask": mask})),
    )
    hole = rectangles(1500, 2000, (200, 180, 210, 190), (300, 900, 312, 911), (1200, 1700, 1210, 1712))
    narrow(photo(1500, 2000, dtype=np.uint8), hole, postprocess="none")
    assert passed == [(3, 352, 352, 3)]  # 10 px and twice the margin of 156 px, up to a multiple of 32


def test_load(network, narrow, tmp_path, monkeypatch):
    path = tmp_path / "narrow.keras"
    model_file.save(network, path)
    image, hole = skimage.data.rocket(), rectangles(427, 640, (100, 200, 200, 300))
    expected = narrow(image, hole, postprocess="none")
    np.testing.assert_array_equal(Completer.load(path)(image, hole, postprocess="none"), expected)
    monkeypatch.setattr(model_names, "DEFAULT_MODEL", path)
    np.testing.assert_array_equal(Completer.load()(image, hole, postprocess="none"), expected)
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
        images.write_image(path, narrow(image, hole, postprocess="none"))
        result = images.read_image(path)
        assert result.shape == (40, 50, channels) and result.dtype == dtype
        np.testing.assert_array_equal(result[~hole], photo(40, 50, channels, dtype)[~hole])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pickled(network, dtype):
    ours = Completer(network, trained_hole_px=(5, 9), dtype=dtype, postprocess="poisson")
    theirs = pickle.loads(pickle.dumps(ours))
    assert (theirs.trained_hole_px, theirs.postprocess) == ((5, 9), "poisson")
    image, hole = photo(40, 50, dtype=np.uint8), rectangles(40, 50, (10, 10, 30, 30))
    np.testing.assert_array_equal(theirs(image, hole), ours(image, hole))


def test_images_of_pillow(narrow, tmp_path):
    """As their files; a palette and a mask of one bit."""
    image = Image.fromarray(photo(40, 50, dtype=np.uint8)).quantize(9)
    hole = rectangles(40, 50, (10, 10, 30, 30))
    image.save(tmp_path / "photo.png")
    Image.fromarray(hole).save(tmp_path / "mask.png")
    expected = narrow(tmp_path / "photo.png", tmp_path / "mask.png")
    assert expected.shape == (40, 50, 3)
    np.testing.assert_array_equal(narrow(image, Image.fromarray(hole)), expected)
    assert narrow(image.convert("L"), hole).shape == (40, 50, 1)
    with pytest.raises(ValueError, match="mask: holds nothing brighter than 24 % grey"):
        narrow(image, Image.new("L", (50, 40), 60))


def test_mask_options(narrow):
    image, hole = photo(40, 60), rectangles(40, 60, (10, 20, 20, 30))
    expected = narrow(image, hole, postprocess="none")
    np.testing.assert_array_equal(narrow(image, ~hole, invert_mask=True, postprocess="none"), expected)
    np.testing.assert_array_equal(narrow(image, hole[::2, ::2], resize_mask=True, postprocess="none"), expected)
    grown = narrow(image, rectangles(40, 60, (12, 22, 18, 28)), mask_dilate=3, postprocess="none")
    changed = (grown != image).any(axis=-1)
    assert changed[12:18, 19].all() and changed[9, 22:28].all() and not changed[9, 19] and not changed[:, 18].any()
    rgba = np.concatenate([image, np.where(hole, 0.49, 1)[..., None].astype(np.float32)], axis=-1)
    np.testing.assert_array_equal(narrow(rgba, "alpha", postprocess="none")[..., :3], expected)


def test_files_in_place_of_arrays(narrow, tmp_path):
    image, hole = photo(40, 60, dtype=np.uint8), rectangles(40, 60, (10, 20, 20, 30))
    images.write_image(tmp_path / "photo.png", image)
    images.write_image(tmp_path / "mask.png", np.where(hole, 255, 0).astype(np.uint8))
    expected = narrow(image, hole, postprocess="none")
    np.testing.assert_array_equal(
        narrow(tmp_path / "photo.png", str(tmp_path / "mask.png"), postprocess="none"), expected
    )
    narrow.complete_file(
        tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "sub" / "out.png", postprocess="none"
    )
    np.testing.assert_array_equal(images.read_image(tmp_path / "sub" / "out.png"), expected)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scale": 0}, r"scale: expected 'auto' or a number in \(0, 1\], found 0"),
        ({"scale": 1.5}, "found 1.5"),
        ({"scale": "big"}, "found 'big'"),
        ({"postprocess": "blur"}, "postprocess: expected one of auto, texture, poisson, none, found 'blur'"),
        ({"mask_dilate": -1}, "mask_dilate: expected 0 px or more, found -1"),
    ],
)
def test_bad_options_are_refused(narrow, options, match):
    with pytest.raises(ValueError, match=match):
        narrow(photo(8, 8), rectangles(8, 8, (2, 2, 4, 4)), **options)


def test_the_trained_range_comes_with_the_file(network, tmp_path):
    for notes, expected in (
        ({"hole_min_px": 96, "hole_max_px": 128}, (96, 128)),
        ({}, None),
        ({"hole_min_px": "96", "hole_max_px": 128}, None),
        ({"hole_min_px": 96, "hole_max_px": -1}, None),
    ):
        model_file.save(network, tmp_path / "m.keras", notes)
        assert Completer.load(tmp_path / "m.keras").trained_hole_px == expected


def test_the_package_has_it():
    from glcic_tf import Completer as exported

    assert exported is Completer
