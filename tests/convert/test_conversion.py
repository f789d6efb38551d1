"""convert.py from outside: files of every layout, written by hand, become model files that the other scripts take."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import published_files
import published_weights
import pytest
import torch7_writer
import torch_writer

from glcic_tf.common.errors import UserError
from glcic_tf.completion.completer import Completer
from glcic_tf.convert import LICENCES, conversion, published
from glcic_tf.export import savedmodel
from glcic_tf.imaging import images
from glcic_tf.networks import discriminator_file, model_file
from glcic_tf.networks.discriminator import context_discriminator, discriminator_arguments

ROOT = Path(__file__).parents[2]
NARROW = 1 / 32


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file of each layout."""
    return published_files.write(tmp_path_factory.mktemp("published"), NARROW)


COMPLETION = {"places2.t7": "torch7", "model_cn": "glcic_pytorch", "gl.pth": "mmagic"}
CONTENTS = {
    "torch7": lambda: published_weights.torch7_release(0, NARROW),
    "glcic_pytorch": lambda: published_weights.glcic_pytorch_completion(0, NARROW),
    "mmagic": lambda: published_weights.mmagic_completion(0, NARROW),
}


@pytest.mark.parametrize(("name", "source"), COMPLETION.items())
def test_completion_networks_become_ordinary_model_files(files, tmp_path, name, source):
    output = tmp_path / "new" / "model.keras"
    lines = conversion.convert(files / name, output, settings=files / "config.json" if name == "model_cn" else None)
    assert f"completion network of {source}" in lines[0] and LICENCES[source] in lines[-1]
    assert model_file.read_metadata(output)["licence"] == LICENCES[source]
    settings = {"mpv": published_weights.MEAN}
    expected, _ = published.convert(CONTENTS[source](), source, "completion", settings)
    for ours, theirs in zip(model_file.load(output).get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    completer = Completer.load(output)
    photo = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    hole = np.zeros((37, 50), bool)
    hole[10:20, 20:35] = True
    completed = completer(photo, hole)
    assert np.array_equal(completed[~hole], photo[~hole]) and not np.array_equal(completed[hole], photo[hole])
    savedmodel.savedmodel(model_file.load(output), tmp_path / "saved")
    assert (tmp_path / "saved" / "saved_model.pb").is_file()


@pytest.mark.parametrize(("name", "source"), [("model_cd", "glcic_pytorch"), ("gl.pth", "mmagic")])
def test_discriminators_become_files_that_training_starts_from(files, tmp_path, name, source):
    lines = conversion.convert(files / name, tmp_path / "d.keras", network="discriminator")
    assert f"discriminator network of {source}" in lines[0]
    loaded = discriminator_file.load(tmp_path / "d.keras")
    content = {
        "glcic_pytorch": published_weights.glcic_pytorch_discriminator,
        "mmagic": published_weights.mmagic_discriminator,
    }[source](0, NARROW)
    expected, _ = published.convert(content, source, "discriminator")
    assert discriminator_arguments(loaded) == discriminator_arguments(expected)
    for ours, theirs in zip(loaded.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_of_both_gives_the_completion_network_and_says_so(files, tmp_path):
    lines = conversion.convert(files / "gl.pth", tmp_path / "c.keras")
    assert (
        "completion network of mmagic" in lines[0]
        and lines[1] == "The file also holds a discriminator network; choose it with --network=discriminator."
    )


def test_from_the_command_line(files, tmp_path, glcic, monkeypatch):
    """To begin with as a process, then in this one, the model that comes out at work too."""
    monkeypatch.chdir(tmp_path)
    flags = [f"--input={files / 'places2.t7'}", "--source=torch7", "--output=places2.keras"]
    command = [sys.executable, ROOT / "convert.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "CC BY-NC-SA 4.0" in done.stdout and done.stderr == ""
    images.write_image(tmp_path / "photo.png", np.full((40, 40, 3), 90, np.uint8))
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 255
    images.write_image(tmp_path / "mask.png", mask)
    flags = ["--model=places2.keras", "--image=photo.png", "--mask=mask.png", "--output=out.png"]
    code, _, err = glcic("complete", *flags)
    assert code == 0, err
    before = sorted(path.name for path in tmp_path.iterdir())
    code, _, err = glcic("convert", f"--input={files / 'model_cn'}", "--output=new.keras")
    assert code == 1 and err.count("\n") == 1 and "name that file with --config" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"path": "nothing.t7"}, r"nothing\.t7: cannot be read \(No such file"),
        ({"path": "."}, r"\.: is a folder; expected a weight file"),
        ({"output": "model.h5"}, r"--output=model\.h5: expected a name that ends in \.keras"),
        ({"output": "old.keras"}, r"--output=old\.keras: exists already; add --overwrite"),
        ({"source": "mmagic"}, r"holds weights of torch7 \(completion\), not of mmagic"),
        ({"network": "discriminator"}, r"holds weights of torch7 \(completion\), not of discriminator"),
        ({"settings": "nothing.json"}, r"nothing\.json: cannot be read"),
        ({"settings": "old.keras"}, r"--config=old\.keras: is not a config\.json"),
        ({"path": "text.pth"}, r"text\.pth: "),
        ({"path": "cut.t7"}, r"cut\.t7: "),
        ({"path": "numbers.t7"}, r"cannot be converted: it holds a float, expected a table of weights"),
        ({"path": "other.pth"}, r"to no known layout \(layer.weight\)"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(files, tmp_path, monkeypatch, change, match):
    monkeypatch.chdir(tmp_path)
    Path("old.keras").write_text("not [json")
    Path("text.pth").write_text("hello")
    content = (files / "places2.t7").read_bytes()
    Path("cut.t7").write_bytes(content[: len(content) // 2])
    Path("numbers.t7").write_bytes(torch7_writer.dumps(3.5))
    torch_writer.write_zip("other.pth", published_files.tensors({"layer.weight": np.zeros((2, 3), np.float32)}))
    before = sorted(Path().iterdir())
    call = {"path": files / "places2.t7", "output": "model.keras"} | change
    with pytest.raises(UserError, match=match) as error:
        conversion.convert(**call)
    assert "\n" not in str(error.value) and sorted(Path().iterdir()) == before


def spoil(arguments):
    return [
        (None, "its notes do not describe a discriminator"),
        ({"width": 1}, "its notes do not describe a discriminator"),
        (arguments | {"image_size": 10**9}, "too large"),
        (arguments | {"width": 100}, "too large"),
        (arguments | {"width": "1"}, "its notes do not describe a discriminator"),
        (arguments | {"use_global": False, "use_local": False}, "its notes do not describe a discriminator"),
        (arguments | {"global_convolutions": 1}, "weights do not fit"),
    ]


def test_discriminator_files_of_strangers(tmp_path):
    model = context_discriminator(16, 8, 1 / 32)
    for notes, message in spoil(discriminator_arguments(model)):
        model_file.save(model, tmp_path / "d.keras", {"arguments": notes})
        with pytest.raises(UserError, match=message):
            discriminator_file.load(tmp_path / "d.keras")
    with pytest.raises(UserError, match="there is no such file"):
        discriminator_file.load(tmp_path / "none.keras")
