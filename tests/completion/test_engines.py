"""engines: ONNX Runtime gives what TensorFlow gives, without TensorFlow, from a cache that may break."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from completer_helpers import photo, rectangles

from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.completion import engines, onnxruntime_engine
from glcic_tf.completion.completer import Completer
from glcic_tf.imaging import images
from glcic_tf.networks import folding, model_file, plain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the cached graphs, empty."""
    monkeypatch.setattr(onnxruntime_engine, "cache_folder", lambda: tmp_path / "cache" / "onnx")
    return tmp_path / "cache" / "onnx"


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "narrow.keras"
    model_file.save(network, path, {"hole_min_px": 10, "hole_max_px": 400})
    return path


@pytest.mark.parametrize("size", [(1, 2), (7, 1), (3, 5), (57, 55), (257, 390)])
def test_a_level_apart_at_most(file, size):
    tensorflow, onnxruntime = (Completer.load(file, engine=engine) for engine in ("tensorflow", "onnxruntime"))
    image, hole = photo(*size, dtype=np.uint8), np.random.default_rng(0).random(size) < 0.1
    hole[size[0] // 3 : size[0] // 2, size[1] // 3 : size[1] // 2] = True
    hole.flat[0], hole.flat[-1] = True, False
    ours, theirs = (completer.complete(image, hole, postprocess="none") for completer in (onnxruntime, tensorflow))
    assert np.abs(ours.image.astype(int) - theirs.image).max() <= 1
    np.testing.assert_array_equal(ours.image[~hole], image[~hole])
    assert ours.holes == theirs.holes and (ours.image[hole] != image[hole]).any()


def test_engines_can_be_pickled(file, monkeypatch):
    """And without a home nothing is kept, and no folder called ~ is made."""
    monkeypatch.setattr(onnxruntime_engine, "cache_folder", lambda: None)
    ours = Completer.load(file, engine="onnxruntime")
    theirs = pickle.loads(pickle.dumps(ours))
    image, hole = photo(40, 50, dtype=np.uint8), rectangles(40, 50, (10, 10, 30, 30))
    np.testing.assert_array_equal(theirs(image, hole), ours(image, hole))


def test_the_weights_of_the_package():
    image, hole = photo(200, 230, dtype=np.uint8), rectangles(200, 230, (50, 60, 120, 130))
    results = [Completer.load(engine=e)(image, hole, postprocess="none") for e in ("tensorflow", "onnxruntime")]
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1


def test_a_file_is_read_as_keras_reads_it(file):
    expected, found = folding.as_plain(model_file.load(file)), plain.read(file)
    assert list(found.layers) == list(expected.layers)
    for name, layer in expected.layers.items():
        for ours, theirs in zip(found.layers[name].weights, layer.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_graph_is_kept_and_a_broken_one_made_again(file, cache, monkeypatch):
    engines.load(file, engine="onnxruntime")
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    for broken in (b"", whole[:-1], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        kept.write_bytes(broken)
        engines.load(file, engine="onnxruntime")
        assert [path.name for path in cache.iterdir()] == [kept.name] and kept.read_bytes() == whole
    monkeypatch.setattr(onnxruntime_engine, "build", None)  # not needed any more
    engines.load(file, engine="onnxruntime")


def test_another_model_has_another_graph(file, cache, tmp_path):
    engines.load(file, engine="onnxruntime")
    model = model_file.load(file)
    model.get_layer("conv17").set_weights([w + 1 for w in model.get_layer("conv17").get_weights()])
    model_file.save(model, tmp_path / "other.keras")
    engines.load(tmp_path / "other.keras", engine="onnxruntime")
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_does_not_matter(file, cache):
    cache.parent.write_text("a file")
    engines.load(file, engine="onnxruntime")


def test_auto(file, monkeypatch):
    assert "onnxruntime" in type(engines.load(file, engine="auto")).__module__
    assert "tensorflow" in type(engines.load(file, "bfloat16", "auto")).__module__
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert "tensorflow" in type(engines.load(file, engine="auto")).__module__


def test_what_cannot_be_is_one_line(file, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--dtype=bfloat16: --engine=onnxruntime has float32 only"):
        engines.load(file, "bfloat16", "onnxruntime")
    for engine in engines.ENGINES:
        for content, match in (
            (None, "no.keras: is not a model file: there is no such file"),
            (b"x", "it is not a zip file"),
        ):
            path = tmp_path / "no.keras"
            path.write_bytes(content) if content else path.unlink(missing_ok=True)
            with pytest.raises(UserError, match=match):
                engines.load(path, engine=engine)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(
        UserError, match=r"the package onnxruntime is not installed; run: pip install 'glcic-tf\[onnx\]'"
    ):
        engines.load(file, engine="onnxruntime")


@pytest.mark.parametrize("engine", ["tensorflow", "onnxruntime"])
def test_files_that_do_not_fit_together(engine, tmp_path):
    image, mask = keras.Input((None, None, 3), name="image"), keras.Input((None, None, 1), name="mask")
    four = keras.layers.Concatenate()([image, mask])
    model = keras.Model({"image": image, "mask": mask}, keras.layers.Conv2D(2, 3, padding="same")(four))
    model_file.save(model, tmp_path / "two.keras")
    with pytest.raises(UserError, match="two.keras: is not a model file: its layers do not fit together"):
        engines.load(tmp_path / "two.keras", engine=engine)


ALONE = """
import sys
from glcic_tf.__main__ import main
try:
    main()
except SystemExit as ended:
    loaded = {name.split(".")[0] for name in sys.modules}
    print(ended.code or 0, sorted(loaded & {"keras", "tensorflow", "onnx", "h5py"}))
"""


def test_neither_tensorflow_nor_keras_is_imported(tmp_path):
    """The first time, when the graph is made, and the second, when it is in the cache."""
    image, hole = photo(40, 60, dtype=np.uint8), rectangles(40, 60, (10, 20, 30, 40))
    images.write_image(tmp_path / "photo.png", image)
    images.write_image(tmp_path / "mask.png", np.where(hole, 255, 0).astype(np.uint8))
    flags = [
        "complete",
        "--image=photo.png",
        "--mask=mask.png",
        "--output=out.png",
        "--engine=onnxruntime",
        "--overwrite",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for expected in ("0 ['h5py', 'onnx']\n", "0 []\n"):
        done = subprocess.run(
            [sys.executable, "-c", ALONE, *flags], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout.splitlines(True)[-1]) == (0, expected), done.stderr
    result = images.read_image(tmp_path / "out.png")
    np.testing.assert_array_equal(result[~hole], image[~hole])
    assert (result[hole] != image[hole]).any()
