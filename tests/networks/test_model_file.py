"""model_file: what is saved comes back, and files that somebody else made cannot do harm."""

import json
import os
import warnings
import zipfile

import keras
import numpy as np
import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.networks import DEFAULT_MODEL, model_file, model_zip
from glcic_tf.networks.completion import completion_network
from glcic_tf.networks.discriminator import context_discriminator

MEAN = (0.25, 0.5, 0.75)


def random_network(**settings):
    """Narrow C with every weight random (variances positive), so that a misplaced weight shows."""
    model, rng = completion_network(1 / 16, mean_pixel=MEAN, **settings), np.random.default_rng(0)
    for layer in model.layers:
        if layer.name != "mean_pixel":
            layer.set_weights(
                [rng.uniform(0.1, 0.5, np.shape(w)) * (-1) ** i for i, w in enumerate(layer.get_weights())]
            )
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.abs(w) for w in layer.get_weights()])
    return model


def batch(side=32):
    rng = np.random.default_rng(1)
    image, mask = rng.random((2, side, side + 4, 3), np.float32), np.zeros((2, side, side + 4, 1), np.float32)
    mask[:, 8:20, 4:16] = 1
    return {"image": image, "mask": mask}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "narrow.keras"
    model = random_network()
    model_file.save(model, path, {"hole_max_px": 128, "phase": "joint"})
    return model, path


def rewritten(source, path, **members):
    """Copy a model file with members replaced or added; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        contents = {name: old.read(name) for name in old.namelist()} | members
        for name, content in contents.items():
            if content is not None:
                new.writestr(name, content)
    return path


def refused(path, match):
    with pytest.raises(UserError, match=match) as error:
        model_file.load(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_round_trip(saved):
    model, path = saved
    loaded = model_file.load(path)
    np.testing.assert_array_equal(loaded(batch()), model(batch()))
    np.testing.assert_array_equal(loaded.get_layer("mean_pixel").get_weights()[0].ravel(), np.float32(MEAN))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert list(path.parent.iterdir()) == [path]


def test_metadata(saved, tmp_path):
    _, path = saved
    assert model_file.read_metadata(path) == {"hole_max_px": 128, "phase": "joint"}
    assert model_file.read_metadata(rewritten(path, tmp_path / "bare.keras", **{"glcic.json": None})) == {}


def test_plain_keras_reads_our_file_and_we_read_its(saved, tmp_path):
    model, path = saved
    np.testing.assert_array_equal(keras.saving.load_model(path)(batch()), model(batch()))
    model.save(tmp_path / "plain.keras")
    np.testing.assert_array_equal(model_file.load(tmp_path / "plain.keras")(batch()), model(batch()))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_and_synchronized_models_become_plain_float32(tmp_path, policy):
    model = random_network(dtype=policy, synchronized=True)
    model_file.save(model, tmp_path / "mixed.keras")
    loaded = model_file.load(tmp_path / "mixed.keras")
    for layer in loaded.layers:
        assert layer.compute_dtype == "float32"
        assert not getattr(layer, "synchronized", False)
    np.testing.assert_array_equal(loaded(batch()), random_network()(batch()))
    assert model.get_layer("conv5").compute_dtype == policy[len("mixed_") :]  # the original stays as it was


def test_the_global_policy_does_not_reach_the_file(saved, tmp_path):
    model, path = saved
    expected = np.asarray(model(batch()))
    keras.config.set_dtype_policy("mixed_bfloat16")
    np.testing.assert_array_equal(model_file.load(path)(batch()), expected)
    model_file.save(model, tmp_path / "out.keras")
    keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(model_file.load(tmp_path / "out.keras")(batch()), expected)


def test_saving_replaces_the_old_file_or_leaves_it(saved, tmp_path):
    model, _ = saved
    path = tmp_path / "out.keras"
    path.write_text("old")
    with pytest.raises(TypeError):
        model_file.save(model, path, {"not JSON": object()})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    model_file.save(model, path)
    assert model_file.read_metadata(path) == {} and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(saved, tmp_path):
    with pytest.raises(UserError, match=r"expected a name that ends in \.keras, found \.h5"):
        model_file.save(saved[0], tmp_path / "out.h5")
    with pytest.raises(UserError, match="cannot be written"):
        model_file.save(saved[0], tmp_path / "missing" / "out.keras")
    assert not list(tmp_path.iterdir())


def test_no_model_at_all(saved, tmp_path):
    refused(tmp_path / "missing.keras", "there is no such file")
    refused(tmp_path, "it is a folder")
    for name, data in {
        "text.keras": b"hello",
        "empty.keras": b"",
        "half.keras": saved[1].read_bytes()[: saved[1].stat().st_size // 2],
    }.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, "it is not a zip file")
        with pytest.raises(UserError, match="it is not a zip file"):
            model_file.read_metadata(tmp_path / name)
    (tmp_path / "photo.png").write_bytes(b"hello")
    refused(tmp_path / "photo.png", "its name does not end in .keras")


def test_zips_with_other_members(saved, tmp_path):
    path = tmp_path / "odd.keras"
    refused(rewritten(saved[1], path, **{"config.json": None}), "the zip holds glcic.json, metadata.json, model.w")
    refused(rewritten(saved[1], path, **{"../escape.txt": b"x"}), "the zip holds ../escape.txt")
    refused(rewritten(saved[1], path, **{"assets/vocabulary.txt": b"x"}), "the zip holds assets/vocabulary.txt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile, about the name that is there twice
        rewritten(saved[1], path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("config.json", b"{}")
    refused(path, "the zip holds config.json, config.json")


def test_sizes_are_bounded(saved, tmp_path, monkeypatch):
    path = tmp_path / "large.keras"
    refused(rewritten(saved[1], path, **{"config.json": b" " * (model_zip.MAX_JSON_BYTES + 1)}), "larger than 4 MB")
    monkeypatch.setattr(model_zip, "MAX_BYTES", 2_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, bytes(700_000))
    assert path.stat().st_size < 10_000
    refused(path, "it unpacks to 2 MB, more than 2 MB")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"not JSON", "its config.json cannot be read"),
        (b"[1, 2]", "its config.json does not hold a JSON object"),
        (b"[" * 100_000, "its config.json cannot be read"),
        (b"{}", "it holds a None, not a functional Keras model"),
    ],
)
def test_config_that_is_none(saved, tmp_path, content, match):
    refused(rewritten(saved[1], tmp_path / "odd.keras", **{"config.json": content}), match)


def changed_config(saved, path, change):
    """Copy the model file with its configuration passed through `change(config, {layer name: layer})`."""
    with zipfile.ZipFile(saved[1]) as archive:
        config = json.loads(archive.read("config.json"))
    change(config, {layer["name"]: layer for layer in config["config"]["layers"]})
    return rewritten(saved[1], path, **{"config.json": json.dumps(config)})


def hostile_changes():
    function = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None}
    yield "lambda", lambda c, layers: layers["relu5"].update(layer), "holds a keras.layers.Lambda, which is not among"
    yield "function", lambda c, layers: layers["relu5"]["config"].update(activation=function), "holds a os.function"
    pickled = {"class_name": "__lambda__", "config": {"value": "eJw="}}
    yield "code", lambda c, layers: layers["relu5"]["config"].update(activation=pickled), "holds a __lambda__"
    yield "module", lambda c, layers: layers["conv5"].update(module="my_layers"), "holds a my_layers.Conv2D"
    yield "registered", lambda c, layers: layers["conv5"].update(registered_name="My>Conv"), "which is not among"
    yield "root", lambda c, layers: c.update(class_name="Sequential"), "not a functional Keras model"
    yield "root_registered", lambda c, layers: c.update(registered_name="My>Model"), "not a functional Keras model"
    yield "nested", lambda c, layers: layers["conv5"].update(module=c["module"], class_name="Functional"), "not among"
    file = {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}, "registered_name": None}
    yield "file", lambda c, layers: layers["conv5"].update(file), "holds a keras.layers.TFSMLayer"
    yield "wide", lambda c, layers: layers["conv5"]["config"].update(filters=10**9), "filters 1000000000; expected"
    yield "kernel", lambda c, layers: layers["conv5"]["config"].update(kernel_size=[9999, 9999]), "has kernel_size"

    def repeat(config, layers):
        tensors = layers["masked_input"]["inbound_nodes"][0]["args"][0]
        tensors *= 10_000

    yield "concatenated", repeat, "its layers ask for up to"
    yield "text_filters", lambda c, layers: layers["conv5"]["config"].update(filters="many"), "is malformed"
    yield "no_layers", lambda c, layers: c["config"].pop("layers"), "Keras cannot load it"
    yield "unknown_option", lambda c, layers: layers["conv5"]["config"].update(surprise=1), "Keras cannot load it"
    yield "other_size", lambda c, layers: layers["conv5"]["config"].update(filters=17), "Keras cannot load it"


@pytest.mark.parametrize(("change", "match"), [pytest.param(*h[1:], id=h[0]) for h in hostile_changes()])
def test_hostile_configurations(saved, tmp_path, change, match):
    refused(changed_config(saved, tmp_path / "odd.keras", change), match)


def test_lambda_is_not_run(tmp_path):
    inputs = {"image": keras.Input((None, None, 3), name="image"), "mask": keras.Input((None, None, 1), name="mask")}
    ran = []
    both = keras.layers.Multiply()([inputs["image"], inputs["mask"]])
    output = keras.layers.Lambda(lambda x: ran.append(1) or x)(both)
    keras.Model(inputs, output).save(tmp_path / "lambda.keras")
    ran.clear()
    refused(tmp_path / "lambda.keras", "holds a keras.layers.Lambda")
    assert not ran


def test_broken_weights(saved, tmp_path):
    path = tmp_path / "odd.keras"
    refused(rewritten(saved[1], path, **{"model.weights.h5": b"no HDF5"}), "Keras cannot load it")


def test_other_networks(tmp_path):
    context_discriminator(32, 16, width=1 / 16).save(tmp_path / "discriminator.keras")
    refused(tmp_path / "discriminator.keras", "keras.layers.Flatten|keras.layers.Dense")
    image, mask = keras.Input((None, None, 3), name="image"), keras.Input((None, None, 1), name="mask")
    output = keras.layers.Concatenate()([image, mask])
    keras.Model({"image": image, "mask": mask}, output).save(tmp_path / "other.keras")
    refused(tmp_path / "other.keras", r"turns .*image \['any', 'any', 'any', 3\].* into 0 \['any', 'any', 'any', 4\]")
    keras.Model([image, mask], keras.layers.Multiply()([image, mask])).save(tmp_path / "list.keras")
    refused(tmp_path / "list.keras", "its network turns")


def test_file_names_no_field_that_older_versions_of_keras_refuse(tmp_path):
    """Keras 3.13 knows neither the axes of initialisers nor renormalisation; what is not at its default stays."""
    model_file.save(completion_network(1 / 16), tmp_path / "m.keras")
    for path in (tmp_path / "m.keras", DEFAULT_MODEL):
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json").decode()
        for field in ("input_axes", "output_axes", "renorm"):
            assert field not in config
    changed = {"config": [{"renorm": True, "renorm_momentum": 0.99, "input_axes": None}]}
    assert model_file._without_newer_fields(changed) == {"config": [{"renorm": True}]}


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        ("conv2", {"strides": [200, 200]}, r"its layer conv2 has strides \[200, 200\]; expected 1 to 2"),
        ("conv5", {"kernel_size": [3, 99]}, r"its layer conv5 has kernel_size \[3, 99\]; expected 1 to 7"),
        ("conv7", {"dilation_rate": 4000}, "its layer conv7 has dilation_rate 4000; expected 1 to 32"),
        ("conv5", {"filters": 2000}, "its layer conv5 has filters 2000; expected 1 to 1024"),
        ("conv5", {"groups": 0}, "its layer conv5 has groups 0; expected 1 to 1"),
        ("conv5", {"filters": True}, "is malformed"),
        ("conv5", {"strides": []}, "is malformed"),
        ("pad_conv2", {"padding": [[1, 1], [1, 10**6]]}, "its layer pad_conv2 has padding"),
        ("pad_conv2", {"padding": -1}, "its layer pad_conv2 has padding -1"),
    ],
)
def test_layers_far_from_the_papers_are_refused_before_they_are_built(
    saved, tmp_path, monkeypatch, layer, change, message
):
    path = changed_config(saved, tmp_path / "other.keras", lambda c, layers: layers[layer]["config"].update(change))
    monkeypatch.setattr(keras.saving, "load_model", lambda *args, **options: pytest.fail("it was built"))
    with pytest.raises(UserError, match=message):
        model_file.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("layer", ["mean_pixel", "bn3"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, layer, value):
    model = completion_network(1 / 64)
    weights = model.get_layer(layer).get_weights()
    weights[-1].flat[0] = value
    model.get_layer(layer).set_weights(weights)
    model_file.save(model, tmp_path / "model.keras")
    with pytest.raises(UserError, match=f"its layer {layer} holds numbers that are not finite"):
        model_file.load(tmp_path / "model.keras")


def test_a_pipe_called_keras_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.keras")
    with pytest.raises(UserError, match=r"pipe\.keras: is a pipe; expected a model file"):
        model_file.load(tmp_path / "pipe.keras")
