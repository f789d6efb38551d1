"""demo: pictures from the installed sample photos, without a network."""

import socket

import numpy as np
import pytest
import skimage

from glcic_tf.apps import demo
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images, pictures
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network


@pytest.fixture
def model(tmp_path):
    model_file.save(completion_network(1 / 16), tmp_path / "narrow.keras")
    return tmp_path / "narrow.keras"


def test_pictures(model, tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise AssertionError("the demo used the network")

    monkeypatch.setattr(socket, "socket", refuse)
    paths = demo.demo(tmp_path / "new" / "demo", model)
    assert [path.name for path in paths] == [f"{name}.png" for name in demo.SAMPLES]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == [str(path) for path in paths]
    for path, (file, draw) in zip(paths, demo.SAMPLES.values(), strict=True):
        photo = demo.sample_photo(file)
        height, width = photo.shape[:2]
        hole = draw((height, width))
        picture = images.read_image(path)
        assert picture.shape == (height + pictures._LABEL_HEIGHT_PX, 3 * width + 2 * pictures._GAP_PX, 3)
        label, rest = picture[: pictures._LABEL_HEIGHT_PX], picture[pictures._LABEL_HEIGHT_PX :]
        masked, completed, original = (rest[:, i * (width + pictures._GAP_PX) :][:, :width] for i in range(3))
        np.testing.assert_array_equal(original, photo)
        assert (masked[hole] == 255).all() and (completed[hole] != 255).any()
        for panel in (masked, completed):
            np.testing.assert_array_equal(panel[~hole], photo[~hole])
        for i in range(3):  # something is written over each panel
            assert label[:, i * (width + pictures._GAP_PX) :][:, :width].min() < 64


def test_samples_are_those_of_scikit_image():
    for file, _ in demo.SAMPLES.values():
        original = getattr(skimage.data, file.split(".")[0])()
        photo = demo.sample_photo(file)
        assert min(photo.shape[:2]) == demo.SHORTER_SIDE_PX
        assert abs(photo.shape[1] / photo.shape[0] - original.shape[1] / original.shape[0]) < 0.01
        assert np.abs(photo.mean((0, 1)) - original.mean((0, 1))).max() < 1


def test_holes_are_of_the_size_that_the_network_is_trained_for():
    for name, (file, draw) in demo.SAMPLES.items():
        hole = draw(demo.sample_photo(file).shape[:2])
        assert 0.05 < hole.mean() < 0.3, name
    two = demo.SAMPLES["rocket"][1]((256, 384))
    assert two.any(axis=0).sum() == 192 and two.sum() == 2 * 112 * 96


def test_mistakes_are_one_line(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output=.*file: cannot be created"):
        demo.demo(tmp_path / "file", model)
    with pytest.raises(UserError, match="file: is not a model file"):
        demo.demo(tmp_path / "demo", tmp_path / "file")
    with pytest.raises(UserError, match="none.png: cannot be read"):
        demo.sample_photo("none.png")
