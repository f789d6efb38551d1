"""infer.py on single photos, and what the scripts share; every mistake is one line."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from infer_helpers import HEIGHT, WIDTH, files, hole, photo, write
from PIL import Image, ImageCms

from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.completion.folder import infer
from glcic_tf.imaging import images

SCRIPT = Path(__file__).parents[2] / "infer.py"


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_load")]


@pytest.fixture
def script(glcic, tmp_path, monkeypatch):
    """A function of infer.py's flags that does it in `tmp_path`, in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(glcic, name=SCRIPT, command="complete")


def test_from_the_command_line(model, loaded, tmp_path):
    write(tmp_path / "photo.png", photo())
    write(tmp_path / "mask.png", hole())
    flags = ["--image", "photo.png", "--mask=mask.png", "--output", "new/deep/out.png", "--model", model]
    command = [sys.executable, str(SCRIPT), *map(str, flags), "--postprocess=none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    result = images.read_image(tmp_path / "new" / "deep" / "out.png")
    np.testing.assert_array_equal(result[~hole()], photo()[~hole()])
    expected = loaded(photo(), hole(), postprocess="none")
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "infer.py: missing: --image, --output; see infer.py --help"),
        (["--image=a.png", "--mask=b.png"], "infer.py: missing: --output; see infer.py --help"),
        (["--imag=a.png"], "infer.py: Unknown command line flag 'imag'. Did you mean: image ?; see infer.py --help"),
        (
            ["--image=a", "--mask=b", "--output=c", "d"],
            "infer.py: found 'd', which belongs to no flag; see infer.py --help",
        ),
        (
            ["--image=a", "--output=c", "--scale=2"],
            "infer.py: flag --scale=2: expected auto or a number in (0, 1]; see infer.py --help",
        ),
        (
            ["--image=a", "--output=c", "--jpeg_quality=0"],
            "infer.py: flag --jpeg_quality=0: 0 is not an integer in the range [1, 100]; see infer.py --help",
        ),
        (
            ["--image=a", "--output=c", "--postprocess=blur"],
            "infer.py: flag --postprocess=blur: value should be one of <auto|texture|poisson|none>; "
            "see infer.py --help",
        ),
        (
            ["--image=a", "--output=b", "--dtype=float16"],
            "infer.py: flag --dtype=float16: value should be one of <float32|bfloat16>; see infer.py --help",
        ),
    ],
)
def test_bad_flags_are_one_line(script, arguments, message):
    assert script(*arguments) == (2, "", message + "\n")


def test_no_model_is_one_line(script, tmp_path):
    write(tmp_path / "photo.png", photo())
    write(tmp_path / "mask.png", hole())
    (tmp_path / "no.keras").write_text("hello")
    code, _, err = script("--image=photo.png", "--mask=mask.png", "--output=out.png", "--model=no.keras")
    assert code == 1 and err.startswith("infer.py: no.keras: is not a model file") and err.count("\n") == 1
    assert files(tmp_path) == ["mask.png", "no.keras", "photo.png"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_depth_and_channels_survive(model, tmp_path, channels, dtype):
    original = photo(0, channels, dtype)
    image, mask = write(tmp_path / "photo.png", original), write(tmp_path / "mask.bmp", hole())
    assert infer(image, mask, tmp_path / "out.png", model) == 0
    result = images.read_image(tmp_path / "out.png")
    assert result.shape == original.shape and result.dtype == dtype
    np.testing.assert_array_equal(result[~hole()], original[~hole()])


def test_the_suffix_names_the_format_and_a_folder_takes_the_name(model, tmp_path):
    image, mask = write(tmp_path / "photo.png", photo()), write(tmp_path / "mask.png", hole())
    (tmp_path / "done").mkdir()
    infer(image, mask, tmp_path / "out.jpg", model)
    assert (tmp_path / "out.jpg").read_bytes().startswith(b"\xff\xd8")
    infer(image, mask, tmp_path / "done", model)
    assert files(tmp_path / "done") == ["photo.png"]


def single_mistakes():
    yield "missing_image", {"image": "none.png"}, r"--image=.*none\.png: there is no such file or folder"
    yield "missing_mask", {"mask": "none.png"}, r"--mask=.*none\.png: there is no such file or folder"
    yield "missing_model", {"model": "none.keras"}, r"--model=.*none\.keras: there is no such file or folder"
    yield "text_image", {"image": "text.png"}, r"text\.png: is not an image that can be read"
    yield "text_mask", {"mask": "text.png"}, r"text\.png: is not an image that can be read"
    yield "truncated", {"image": "truncated.jpg"}, r"truncated\.jpg: is broken or incomplete \(42 x 31 px"
    yield "empty", {"image": "empty.jpg"}, r"empty\.jpg: is empty"
    yield (
        "all_hole",
        {"mask": "white.png"},
        r"white\.png: leaves nothing known in .*photo\.png; expected white in the hole",
    )
    yield "all_known", {"mask": "black.png"}, r"black\.png: leaves nothing to complete in .*photo\.png; .*invert_mask"
    yield (
        "wrong_size",
        {"mask": "small.png"},
        r"small\.png: has 42 x 30 px, but .*photo\.png .* 42 x 31 .*resize_mask",
    )
    yield "no_alpha", {"mask": "alpha"}, r"photo\.png: has no transparency to take the hole from; name a mask"
    yield "opaque", {"mask": "alpha", "image": "opaque.png"}, r"the alpha of .*opaque\.png: leaves nothing to complete"
    yield "too_large", {"max_pixels": 1300}, r"photo\.png: has 42 x 31 px, .* --max_megapixels"
    yield "no_suffix", {"output": "out"}, r"out: found no suffix; expected an image name that ends in \.jpg"
    yield "suffix", {"output": "out.gif"}, r"out\.gif: found '\.gif'"
    yield "unwritable", {"output": "text.png/out.png"}, r"text\.png: cannot be created"
    yield "exists", {"output": "white.png"}, r"white\.png: exists already; add --overwrite"
    yield "same_file", {"output": "photo.png"}, r"photo\.png: exists already; add --overwrite"
    yield "no_model", {"model": "text.png"}, r"text\.png: is not a model file"
    yield "empty_folder", {"image": "void"}, r"void: holds no photo"
    yield "mask_folder", {"mask": "void"}, r"--mask=.*void: is a folder, but --image=.*photo\.png is a file"
    yield (
        "output_file",
        {"image": ".", "output": "text.png"},
        r"--output=.*text\.png: is a file, but --image=.* is a fo",
    )


@pytest.mark.parametrize(("changed", "match"), [pytest.param(*m[1:], id=m[0]) for m in single_mistakes()])
def test_mistakes_are_one_line_and_leave_no_file(model, tmp_path, changed, match):
    write(tmp_path / "photo.png", photo())
    write(tmp_path / "mask.png", hole())
    write(tmp_path / "white.png", np.ones((HEIGHT, WIDTH), bool))
    write(tmp_path / "black.png", np.zeros((HEIGHT, WIDTH), bool))
    write(tmp_path / "opaque.png", np.dstack([photo(), np.full((HEIGHT, WIDTH), 128, np.uint8)]))
    write(tmp_path / "small.png", hole()[1:])
    whole = write(tmp_path / "truncated.jpg", photo()).read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[:-100])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "void").mkdir()
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    named = {"image": "photo.png", "mask": "mask.png", "output": "out.png"} | changed
    with pytest.raises(UserError, match=match) as error:
        infer(
            **{"model": model}
            | {
                flag: tmp_path / name if isinstance(name, str) and name != "alpha" else name
                for flag, name in named.items()
            }
        )
    assert "\n" not in str(error.value)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_too_little_memory_is_one_line(model, loaded, tmp_path, monkeypatch):
    def network(image, mask):
        raise MemoryError

    monkeypatch.setattr(loaded, "network", network)
    image, mask = write(tmp_path / "photo.png", photo()), write(tmp_path / "mask.png", hole())
    with pytest.raises(
        UserError, match=r"photo\.png: the surroundings of its holes are too much for the memory\. Make the photo sma"
    ):
        infer(image, mask, tmp_path / "new" / "out.png", model)
    assert files(tmp_path) == ["mask.png", "photo.png"] and not (tmp_path / "new").exists()


def test_overwrite(model, tmp_path):
    image, mask = write(tmp_path / "photo.png", photo()), write(tmp_path / "mask.png", hole())
    infer(image, mask, image, model, overwrite=True)
    result = images.read_image(image)
    np.testing.assert_array_equal(result[~hole()], photo()[~hole()])
    assert (result[hole()] != photo()[hole()]).any()


def test_flags_reach_the_completer(script, model, loaded, tmp_path):
    """Through the flags as typed: a black-is-hole mask of half the size, drawn too tightly."""
    inside = np.zeros((2 * HEIGHT, 2 * WIDTH), bool)
    inside[20:36, 24:56] = True
    write(tmp_path / "photo.png", photo())
    write(tmp_path / "mask.png", ~inside)
    flags = ["--image=photo.png", "--mask=mask.png", "--invert_mask", "--resize_mask", "--mask_dilate=2", "--scale=0.5"]
    flags += ["--postprocess=poisson", "--output=out.png", "--model", model]
    code, _, err = script(*flags)
    assert (code, err) == (0, "")
    options = {"invert_mask": True, "resize_mask": True, "mask_dilate": 2, "scale": 0.5, "postprocess": "poisson"}
    expected = loaded(photo(), ~inside, **options)
    result = images.read_image(tmp_path / "out.png")
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert (result != photo()).any(axis=-1)[9, 14]  # grown beyond row 10


def test_transparent_pixels_are_the_hole_without_a_mask(model, tmp_path):
    cut_out = np.dstack([photo(), np.where(hole(), 0, 255).astype(np.uint8)])
    write(tmp_path / "photos" / "cut_out.png", cut_out)
    write(tmp_path / "photos" / "whole.png", photo())
    assert infer(tmp_path / "photos", "alpha", tmp_path / "done", model) == 1
    result = images.read_image(tmp_path / "done" / "cut_out.png")
    np.testing.assert_array_equal(result[~hole()], cut_out[~hole()])
    assert (result[..., 3] == 255).all() and files(tmp_path / "done") == ["cut_out.png"]


def test_bfloat16_reaches_the_network(model, tmp_path):
    write(tmp_path / "photo.png", photo(dtype=np.uint16))  # of 8 bit, the difference might be rounded away
    write(tmp_path / "mask.png", hole())
    results = []
    for dtype in ("float32", "bfloat16"):
        output = tmp_path / f"{dtype}.png"
        infer(tmp_path / "photo.png", tmp_path / "mask.png", output, model, dtype=dtype, postprocess="none")
        results.append(images.read_image(tmp_path / f"{dtype}.png"))
    assert not np.array_equal(*results)


def test_large_holes_are_named(model, loaded, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loaded, "trained_hole_px", (4, 6))
    image, mask = write(tmp_path / "photo.png", photo()), write(tmp_path / "mask.png", hole())
    infer(image, mask, tmp_path / "out.png", model)
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "photo.png: a hole is 12 px thick, but the network was trained on holes of 4 to 6 px: completed at 0.5" in line
    )


def test_metadata_and_jpeg_quality(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    Image.fromarray(photo()).save(
        tmp_path / "photo.jpg",
        exif=exif,
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    )
    mask = write(tmp_path / "mask.png", np.rot90(hole(), -1))
    sizes = []
    for quality in (20, 95):
        infer(tmp_path / "photo.jpg", mask, tmp_path / "out.jpg", model, overwrite=True, jpeg_quality=quality)
        sizes.append((tmp_path / "out.jpg").stat().st_size)
    assert sizes[0] < sizes[1]
    with Image.open(tmp_path / "out.jpg") as result:
        assert result.size == (HEIGHT, WIDTH)  # upright
        assert result.getexif()[0x0112] == 1 and result.getexif()[0x010F] == "camera"
        assert result.info["icc_profile"]


@pytest.mark.parametrize("postprocess", ["none", "poisson"])
def test_colours_under_full_transparency_do_not_reach_the_hole(loaded, postprocess):
    image = np.dstack([photo(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    image[:, 34:, 3] = 0
    results = []
    for hidden in (0, 255):
        image[:, 34:, :3] = hidden
        results.append(loaded(image, hole(), postprocess=postprocess))
        np.testing.assert_array_equal(results[-1][~hole()], image[~hole()])
    np.testing.assert_array_equal(results[0][hole()], results[1][hole()])


def test_quiet_start_holds_back_only_the_notices(capfd):
    with pytest.raises(UserError), cli.quiet_start():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
        os.write(2, b"I0000 00:00:1.5 1 port.cc:153] oneDNN custom operations are on.\nE0000 something is wrong\n")
        print("from Python", file=sys.__stderr__)
        raise UserError("stop")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err.splitlines() == ["E0000 something is wrong", "from Python", "afterwards"]
