"""methods: names that tell models apart, and SavedModels of other networks refused."""

import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.common.errors import UserError
from glcic_tf.evaluation import baselines, methods
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network

IMAGE = tf.TensorSpec([None, None, None, 3], tf.uint8)
MASK = tf.TensorSpec([None, None, None, 1], tf.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "narrow.keras"
    model_file.save(completion_network(1 / 16), path)
    return path


def save(folder, function, names=("image", "mask")):
    """A SavedModel with the signature of a function."""
    specs = dict(zip(names, (IMAGE, MASK), strict=True))
    signature = tf.function(function, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(tf.Module(), str(folder), signature)
    return folder


def test_names_are_those_of_files_and_none_twice(model, tmp_path):
    paths = [tmp_path / name for name in ("a/m.keras", "b/m.keras", "telea.keras", "original.keras", "glcic.keras")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(model.read_bytes())
    again = tmp_path / "a" / ".." / "a" / "m.keras"
    found = methods.load([None, *paths, again, None], ("none", "poisson"), taken=("original", "masked"))
    names = ["glcic", "m", *map(str, paths[1:])]
    assert list(found) == [name + suffix for name in names for suffix in ("", "+poisson")]
    assert not set(found) & {*baselines.METHODS, "original"}
    assert methods.load([]) == {}


def test_versions_are_named_with_the_model_they_belong_to(tmp_path):
    folders = [save(tmp_path / "exp" / version, lambda image, mask: {"completed": image}) for version in ("1", "20")]
    assert list(methods.load(folders)) == ["exp/1", "exp/20"]


@pytest.mark.parametrize(
    ("function", "names", "found"),
    [
        (lambda photo, mask: {"completed": photo}, ("photo", "mask"), "['mask', 'photo'] -> ['completed']"),
        (lambda image, mask: {"out": image}, ("image", "mask"), "['image', 'mask'] -> ['out']"),
    ],
)
def test_saved_models_of_something_else_are_refused(tmp_path, function, names, found):
    save(tmp_path / "other", function, names)
    with pytest.raises(UserError, match="is not a SavedModel of a completion network") as error:
        methods.load([tmp_path / "other"])
    assert found in str(error.value) and "`glcic export` makes one" in str(error.value)


def test_what_is_no_model(tmp_path):
    with pytest.raises(UserError, match=r"--models=.*: is not a SavedModel"):
        methods.load([tmp_path])
    with pytest.raises(UserError, match=r"--models=nowhere: there is no such file"):
        methods.load(["nowhere"])


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda image: image[:, ::2], r"^wrong failed: expected uint8 \[16, 16, 3\], it gave uint8 \[8, 16, 3\]"),
        (lambda image: tf.cast(image, tf.float32), r"^wrong failed: .* it gave float32"),
        (lambda image: image + tf.reshape(image, [3, 5])[0, 0], r"^wrong failed on 16 x 16 px: "),
    ],
)
def test_what_a_network_does_wrong_is_a_failure_on_that_image(tmp_path, result, message):
    save(tmp_path / "wrong", lambda image, mask: {"completed": result(image)})
    complete = methods.load([tmp_path / "wrong"])["wrong"]
    with pytest.raises(RuntimeError, match=message):
        complete(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), bool))
