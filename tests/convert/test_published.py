"""published: networks with weights in the three layouts equal PyTorch's own (goldens by goldens/published.py)."""

from pathlib import Path

import numpy as np
import published_weights
import pytest

from glcic_tf.convert import SOURCES, published
from glcic_tf.networks.completion import completion_arguments

GOLDENS = np.load(Path(__file__).with_name("goldens") / "published.npz")
EVERY = 8  # rows and columns that the goldens keep
SETTINGS = {"mpv": list(published_weights.MEAN)}
NARROW = 1 / 32


CONTENTS = {
    "torch7": published_weights.torch7_release,
    "glcic_pytorch": published_weights.glcic_pytorch_completion,
    "mmagic": lambda *args: {"state_dict": published_weights.mmagic_completion(*args), "meta": {"epoch": 1}},
}


@pytest.mark.parametrize("source", SOURCES)
def test_completion_equals_pytorch(source):
    content = CONTENTS[source]()
    assert published.recognise(content) == [(source, "completion")]
    model, metadata = published.convert(content, source, "completion", SETTINGS)
    assert metadata["source"] == source and metadata["licence"].startswith(published.LICENCES[source][:3])
    for height, width in ((256, 256), (212, 180)):
        image, mask = published_weights.image_and_mask(height, width)
        completed = model.predict_on_batch({"image": image[None], "mask": mask[None]})[0]
        expected = GOLDENS[f"{source}_{height}_{width}"]
        assert expected.std() > 0.05, "the golden says nothing"
        np.testing.assert_allclose(completed[::EVERY, ::EVERY], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("golden", "content", "size", "patch"),
    [
        ("glcic_pytorch_places2", published_weights.glcic_pytorch_discriminator(0, 0.25), 256, 128),
        ("glcic_pytorch_celeba", published_weights.glcic_pytorch_discriminator(0, 0.25, "celeba"), 160, 96),
        ("mmagic_discriminator", published_weights.mmagic_discriminator(0, 0.25), 256, 128),
    ],
)
def test_discriminator_equals_pytorch(golden, content, size, patch):
    [(source, network)] = published.recognise(content)
    assert golden.startswith(source) and network == "discriminator"
    model, _ = published.convert(content, source, network)
    image, _ = published_weights.image_and_mask(size, size)
    inputs = {"image": image[None], "patch": image[None, 7 : 7 + patch, 9 : 9 + patch]}
    np.testing.assert_allclose(model.predict_on_batch(inputs)[0], GOLDENS[golden], atol=1e-4)


def test_arguments_are_read_off_the_network():
    """What cannot be moved into weights is in the model, where fine-tuning finds it."""
    found = {
        source: completion_arguments(published.convert(make(0, NARROW), source, "completion", SETTINGS)[0])
        for source, make in CONTENTS.items()
    }
    base = {"width": NARROW, "epsilon": 1e-5, "relu_first": False, "input_scale": 1.0, "output": "sigmoid"}
    base["input_offset"] = [0.0, 0.0, 0.0]
    assert found["glcic_pytorch"] == base | {"relu_first": True}
    assert found["torch7"] == base | {"input_offset": pytest.approx([-x for x in published_weights.MEAN])}
    assert found["mmagic"] == base | {"input_scale": 2.0, "input_offset": [-1.0] * 3, "output": "clip"}


def test_old_torch7_files():
    """Modules in another order of the table, and the inverse standard deviation instead of the variance."""
    content, old = published_weights.torch7_release(0, NARROW), published_weights.torch7_release(0, NARROW)
    modules = old["model"].fields["modules"]
    for number in range(2, 50, 3):
        fields = modules[number].fields
        fields["running_std"] = (fields.pop("running_var").astype(np.float64) + 1e-5) ** -0.5
    old["model"].fields["modules"] = dict(sorted(modules.items(), reverse=True))
    new, old = (published.convert(c, "torch7", "completion")[0].get_weights() for c in (content, old))
    for ours, theirs in zip(new, old, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_checkpoint_of_both_networks():
    both = published_weights.mmagic_completion(0, NARROW) | published_weights.mmagic_discriminator(0, NARROW)
    content = {"state_dict": both, "optimizer": {}, "meta": {}}
    assert published.recognise(content) == [("mmagic", "completion"), ("mmagic", "discriminator")]
    for network in ("completion", "discriminator"):
        assert published.convert(content, "mmagic", network)[1]["network"] == network


def test_trained_holes():
    """The paper's for the authors' weights, MMagic's, and those that config.json names."""
    content, settings = CONTENTS["glcic_pytorch"](0, NARROW), dict(SETTINGS)
    assert "hole_min_px" not in published.convert(content, "glcic_pytorch", "completion", settings)[1]
    settings |= {"hole_min_w": 48, "hole_max_w": 96, "hole_min_h": 40, "hole_max_h": 90}
    metadata = published.convert(content, "glcic_pytorch", "completion", settings)[1]
    assert (metadata["hole_min_px"], metadata["hole_max_px"]) == (40, 96)
    assert published.convert(CONTENTS["torch7"](0, NARROW), "torch7", "completion")[1]["hole_max_px"] == 128


def spoiled(content, change):
    change(content.get("state_dict", content))
    return content


MODULES = ("model", "fields", "modules")


@pytest.mark.parametrize(
    ("source", "change", "message"),
    [
        ("glcic_pytorch", lambda s: s.pop("conv7.weight"), "it lacks conv7.weight"),
        ("glcic_pytorch", lambda s: s.pop("bn16.running_var"), "it lacks bn16.running_var"),
        ("glcic_pytorch", lambda s: s.update({"conv9.bias": np.zeros(3)}), r"its conv9.bias is \[3\], expected \[8\]"),
        (
            "glcic_pytorch",
            lambda s: s.update({"conv9.bias": 7}),
            "its conv9.bias is a int, expected a tensor of rank 1",
        ),
        ("glcic_pytorch", lambda s: s.update({"conv18.weight": np.zeros(3)}), "holds conv18.weight, and maybe more"),
        ("glcic_pytorch", lambda s: s.update({"conv4.weight": np.zeros((10**6, 1, 1, 1))}), "has 1000000 channels"),
        ("mmagic", lambda s: s.pop("generator.decoder.dec7.conv.bias"), "it lacks generator.decoder.dec7.conv.bias"),
        ("torch7", lambda s: s.pop("mean"), "lacks the mean pixel"),
        ("torch7", lambda s: s.update(mean=np.zeros(4)), "lacks the mean pixel"),
        ("torch7", lambda s: s["model"].fields["modules"].pop(50), "has 49 modules, expected 50"),
        ("torch7", lambda s: s["model"].fields.pop("modules"), "expected nn.Sequential with a list of modules"),
        (
            "torch7",
            lambda s: setattr(s["model"].fields["modules"][2], "class_name", "nn.ReLU"),
            "module 2 is nn.ReLU, expected nn.SpatialBatchNormalization",
        ),
        (
            "torch7",
            lambda s: s["model"].fields["modules"][19].fields.update(padW=1),
            r"module 19 \(nn.SpatialDilatedConvolution\) has padW 1, expected 2",
        ),
        ("torch7", lambda s: s["model"].fields["modules"][5].fields.update(eps=1e-3), "module 5 has eps 0.001"),
        ("torch7", lambda s: s["model"].fields["modules"][10].fields.update(nOutputPlane=10**9), "has 1000000000"),
        ("torch7", lambda s: s["model"].fields["modules"][1].fields.update(weight=None), "it lacks module 1 weight"),
    ],
)
def test_what_does_not_fit_is_named(source, change, message):
    content = spoiled(CONTENTS[source](0, NARROW), change)
    with pytest.raises(published.LayoutError, match=message):
        published.convert(content, source, "completion", SETTINGS)


@pytest.mark.parametrize("settings", [None, {}, {"mpv": 0.5}, {"mpv": [0.1, 0.2]}, {"mpv": [1, 2, "3"]}])
def test_glcic_pytorch_needs_its_mean(settings):
    with pytest.raises(published.LayoutError, match="name that file with --config"):
        published.convert(CONTENTS["glcic_pytorch"](0, NARROW), "glcic_pytorch", "completion", settings)


@pytest.mark.parametrize("content", [3.5, [1], {}, {"a": 1}, {"state_dict": {"x.weight": np.zeros(3)}}, {"model": {}}])
def test_unknown_layouts(content):
    with pytest.raises(published.LayoutError, match="expected a table of weights|to no known layout"):
        published.recognise(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model_gd.conv1.weight"), "it lacks model_gd.conv1.weight"),
        (lambda s: s.update({"model_ld.linear6.weight": np.zeros((1024, 10))}), "takes 10 features"),
        (lambda s: s.pop("model_ld.linear6.bias"), "it lacks model_ld.linear6.bias"),
        (lambda s: s.update({"linear1.weight": np.zeros((1, 1024))}), r"linear1.weight is \[1, 1024\]"),
    ],
)
def test_what_does_not_fit_in_a_discriminator_is_named(change, message):
    content = spoiled(published_weights.glcic_pytorch_discriminator(0, 1 / 16), change)
    with pytest.raises(published.LayoutError, match=message):
        published.convert(content, "glcic_pytorch", "discriminator")


def test_towers_of_other_widths_than_one_another_are_refused():
    content = published_weights.mmagic_discriminator(0, 1 / 16)
    wide = published_weights.mmagic_discriminator(0, 1 / 8)
    content |= {name: value for name, value in wide.items() if ".local_disc." in name}
    with pytest.raises(published.LayoutError, match="its patch_conv1 has the shapes"):
        published.convert(content, "mmagic", "discriminator")
