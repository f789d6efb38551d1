"""Networks for photos of one size with the hole in the middle: what they complete, and what is a clear error."""

import cv2
import numpy as np
import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.completion.completer import Completer
from glcic_tf.networks import frames, model_file
from glcic_tf.networks.context_encoder import context_encoder

pytestmark = pytest.mark.slow

SIDE = 128


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "encoder.keras"
    model_file.save(context_encoder(1 / 32), path, {"hole_min_px": 64, "hole_max_px": 64})
    return path


@pytest.fixture(scope="module")
def completer(file):
    return Completer.load(file)


def photo(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def hole_at(shape, top, left, bottom, right):
    hole = np.zeros(shape, bool)
    hole[top:bottom, left:right] = True
    return hole


@pytest.mark.parametrize("box", [(32, 32, 96, 96), (40, 50, 60, 90), (32, 95, 33, 96)])
def test_any_hole_in_the_middle_is_completed_with_all_of_the_middle_unknown(completer, box):
    image, hole = photo(SIDE, SIDE), hole_at((SIDE, SIDE), *box)
    done = completer(image, hole, postprocess="none")
    np.testing.assert_array_equal(done[~hole], image[~hole])
    masked = np.where(frames.CENTRE.middle[..., None], 0, image / np.float32(255)).astype(np.float32)
    network = completer.network(masked[None], frames.CENTRE.middle[None, ..., None].astype(np.float32))[0]
    assert np.abs(done[hole] - network[hole] * 255).max() <= 0.51


def test_several_holes_grey_photos_and_the_other_postprocesses(completer):
    hole = hole_at((SIDE, SIDE), 34, 34, 40, 40) | hole_at((SIDE, SIDE), 80, 80, 95, 95)
    image = photo(SIDE, SIDE)[..., 0]
    for postprocess in ("none", "poisson", "auto"):
        done = completer(image, hole, postprocess=postprocess)
        assert done.shape == image.shape
        np.testing.assert_array_equal(done[~hole], image[~hole])


def test_without_a_hole_a_photo_of_any_size_is_copied(completer):
    image = photo(30, 40)
    np.testing.assert_array_equal(completer(image, np.zeros((30, 40), bool)), image)


@pytest.mark.parametrize(
    ("shape", "box", "options", "found"),
    [
        ((256, 192), (100, 80, 140, 110), {}, "found 192 x 256 px; crop or resize the photo"),
        ((SIDE, SIDE), (31, 40, 60, 60), {}, "found a hole beyond these; move the crop"),
        ((SIDE, SIDE), (0, 0, 20, 20), {}, "found a hole beyond these; move the crop"),
        ((SIDE, SIDE), (40, 40, 60, 60), {"scale": 0.5}, "found scale 0.5; leave the scale at 1"),
    ],
)
def test_what_it_cannot_complete_is_one_line(completer, tmp_path, shape, box, options, found):
    image, hole = photo(*shape), hole_at(shape, *box)
    known = "128 x 128 px with the hole in the central 64 x 64 px, "
    with pytest.raises(UserError, match=known + found):
        completer(image, hole, **options)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    cv2.imwrite(str(tmp_path / "mask.png"), hole * np.uint8(255))
    with pytest.raises(UserError, match=r"photo\.png: this network only completes " + known + found) as error:
        completer.complete_file(tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "out.png", **options)
    assert "\n" not in str(error.value) and not (tmp_path / "out.png").exists()


def test_onnx_runtime_refuses_it_and_auto_takes_tensorflow(file):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match="layer channelwise: is a EinsumDense, which cannot be written as ONNX here"):
        Completer.load(file, engine="onnxruntime")
    assert Completer.load(file, engine="auto").frame == frames.CENTRE


@pytest.mark.parametrize("format", ["savedmodel", "onnx", "openvino", "litert"])
def test_it_is_not_exported(file, tmp_path, glcic, format):
    code, _, err = glcic("export", f"--model={file}", f"--format={format}", f"--output={tmp_path / 'out'}")
    assert code == 1 and "--model: is a network for 128 x 128 px only" in err and len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_it_is_evaluated_at_its_preset_and_fails_clearly_at_others(file, tmp_path, glcic):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), photo(270, 300))
    flags = ["evaluate", f"--images={tmp_path / 'photos'}", f"--models={file}", "--methods="]
    code, out, _ = glcic(*flags, "--preset=centre", f"--output={tmp_path / 'centre'}")
    assert code == 0 and "encoder" in out
    code, _, err = glcic(*flags, "--preset=places", f"--output={tmp_path / 'places'}")
    assert code == 1 and "this network only completes 128 x 128 px with the hole in the central 64 x 64 px" in err
