"""--save_mask: what is saved gives the same result again, bit for bit, and nothing of the user's is lost."""

import os

import numpy as np
import pytest
from infer_helpers import HEIGHT, WIDTH, files, hole, photo, write
from PIL import Image

from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.completion import mask_pairs, saved_masks
from glcic_tf.completion.folder import infer
from glcic_tf.imaging import images

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_load")]


def bare(path):
    """The pixels of a PNG as its file has them."""
    with Image.open(path) as image:
        return np.asarray(image)


def grey(path):
    """A mask of all grey levels, a hole from 128 up."""
    ramp = np.linspace(0, 255, WIDTH).round().astype(np.uint8)
    return write(path, np.tile(ramp, (HEIGHT, 1)))


def painted(path):
    """A mask painted on a transparent layer, in two boxes."""
    layer = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    layer[3:9, 4:12] = layer[15:25, 20:40] = 200, 30, 30, 255
    return write(path, layer)


def small(path):
    return write(path, np.pad(np.full((6, 5), 255, np.uint8), 5))


MASKS = {
    "as it is": (lambda path: write(path, hole()), {}),
    "grey": (grey, {}),
    "painted": (painted, {"mask_dilate": 3}),
    "inverted": (grey, {"invert_mask": True, "mask_dilate": 2}),
    "resized": (small, {"resize_mask": True}),
    "uncrop": (lambda path: write(path, hole()), {"uncrop": (5, 0, 9, 3), "mask_dilate": 2}),
    "uncrop, resized": (small, {"uncrop": (5, 0, 9, 3), "resize_mask": True}),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("name", MASKS)
def test_a_saved_mask_gives_the_same_result(model, tmp_path, name, suffix):
    make, options = MASKS[name]
    image, mask = write(tmp_path / "photo.png", photo()), make(tmp_path / "mask.png")
    first, again = tmp_path / f"first{suffix}", tmp_path / f"again{suffix}"
    assert infer(image, mask, first, model, save_mask=tmp_path / "new" / "used.png", **options) == 0
    used = bare(tmp_path / "new" / "used.png")
    assert used.dtype == np.uint8 and set(np.unique(used)) == {0, 255}
    assert used.shape == images.read_image(first).shape[:2]
    kept = {"uncrop": options["uncrop"]} if "uncrop" in options else {}
    assert infer(image, tmp_path / "new" / "used.png", again, model, **kept) == 0
    assert again.read_bytes() == first.read_bytes()
    if suffix == ".png":  # white is what was missing, and nothing else
        left, top, *_ = options.get("uncrop", (0, 0, 0, 0))
        known = used[top : top + HEIGHT, left : left + WIDTH] == 0
        result = images.read_image(first)[top : top + HEIGHT, left : left + WIDTH]
        np.testing.assert_array_equal(result[known], photo()[known])
        assert (result[~known] != photo()[~known]).any()


def test_of_alpha_and_of_a_turned_photo(model, tmp_path):
    cut = photo(0, 4)
    cut[..., 3] = 255
    cut[8:20, 10:30, 3], cut[7, 10:30, 3], cut[2, 2, 3] = 0, 190, 100
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(cut).save(tmp_path / "cut.png", exif=exif)
    options = {"model": model, "uncrop": (0, 4, 0, 0)}
    assert infer(tmp_path / "cut.png", "alpha", tmp_path / "1.png", save_mask=tmp_path / "used.png", **options) == 0
    expected = np.rot90(cut[..., 3] < 128, -1)
    expected[:, HEIGHT - 8] |= np.rot90(cut[..., 3] == 190, -1)[:, HEIGHT - 8]  # the soft rim
    used = bare(tmp_path / "used.png")
    assert used.shape == (WIDTH + 4, HEIGHT) and (used[:4] == 255).all()
    np.testing.assert_array_equal(used[4:] == 255, expected)
    assert infer(tmp_path / "cut.png", tmp_path / "used.png", tmp_path / "2.png", **options) == 0
    assert (tmp_path / "2.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_the_canvas_of_the_result_as_a_photo_gives_the_result(model, tmp_path):
    image = write(tmp_path / "photo.png", photo())
    assert infer(image, "alpha", tmp_path / "1.png", model, uncrop=(5, 0, 9, 3), save_mask=tmp_path / "used.png") == 0
    assert infer(tmp_path / "1.png", tmp_path / "used.png", tmp_path / "2.png", model) == 0
    assert (tmp_path / "2.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_folders(model, tmp_path, capsys):
    """Named so that they are found again; inside the folder of photos, they are not taken for photos."""
    for seed, name in enumerate(("a.png", "a.bmp", "sub/b.webp")):
        write(tmp_path / "photos" / name, photo(seed))
    (tmp_path / "photos" / "broken.png").write_text("hello")
    mask, used = write(tmp_path / "mask.png", hole()), tmp_path / "photos" / "used"
    assert infer(tmp_path / "photos", mask, tmp_path / "done", model, save_mask=used, mask_dilate=2) == 1
    assert files(used) == ["a.bmp.png", "a.png.png", "sub/b.webp.png"]  # two would be a.png
    assert infer(tmp_path / "photos", used, tmp_path / "again", model, save_mask=tmp_path / "copies") == 1
    assert files(tmp_path / "again") == files(tmp_path / "done") == ["a.bmp", "a.png", "sub/b.webp"]
    for name in files(tmp_path / "done"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "done" / name).read_bytes()
    for name in files(used):
        np.testing.assert_array_equal(bare(tmp_path / "copies" / name), bare(used / name))
    capsys.readouterr()

    # A run that was stopped goes on: a mask without its result is no obstacle, but another file is.
    (tmp_path / "done" / "a.png").unlink()
    (tmp_path / "done" / "a.bmp").unlink()
    (used / "a.bmp.png").write_text("mine")
    call = (tmp_path / "photos", mask, tmp_path / "done", model)
    assert infer(*call, save_mask=used, mask_dilate=2, skip_existing=True) == 2
    err = capsys.readouterr().err
    assert "a.bmp.png: exists already, and is not the mask that is used; set overwrite to replace it" in err
    assert files(tmp_path / "done") == ["a.png", "sub/b.webp"] and (used / "a.bmp.png").read_text() == "mine"
    assert infer(*call, overwrite=True, save_mask=used, mask_dilate=2) == 1
    assert bare(used / "a.bmp.png").shape == (HEIGHT, WIDTH)


def test_names(tmp_path):
    def named(*photos):
        jobs = [(tmp_path / name, "alpha", tmp_path / "out") for name in photos]
        found = saved_masks.paths(tmp_path / "m", tmp_path, jobs)
        return [path.relative_to(tmp_path / "m") for path in found]

    def strings(*photos):
        return [path.as_posix() for path in named(*photos)]

    assert strings("a.jpg", "sub/a.jpg", "b.JPEG") == ["a.png", "sub/a.png", "b.png"]
    assert strings("a.jpg", "a.webp") == ["a.jpg.png", "a.webp.png"]
    for photos in (
        ("a.jpg", "a.jpg.png"),
        ("a.jpg", "a_mask.jpg", "a-mask1.png"),
        ("A.jpg", "a.jpg"),
        ("sub/a.jpg", "a.jpg", "a.png", "sub/a_mask.jpg"),
        ("\u00e9.jpg", "e\u0301.jpg"),
    ):
        found = named(*photos)
        assert len(set(found)) == len(photos)
        assert mask_pairs.pair([tmp_path.__class__(name) for name in photos], found) == found


@pytest.mark.parametrize("name", ["photo.png", "mask.png", "out.png", "link.png"])
def test_a_place_that_is_taken_by_this_run(model, tmp_path, name):
    image, mask = write(tmp_path / "photo.png", photo()), write(tmp_path / "mask.png", hole())
    (tmp_path / "link.png").symlink_to(image)
    before = image.read_bytes(), mask.read_bytes()
    with pytest.raises(UsageError, match=rf"--save_mask=.*{name}: .* is a photo, a mask or an output of this run"):
        infer(image, mask, tmp_path / "out.png", model, overwrite=True, save_mask=tmp_path / name)
    assert (image.read_bytes(), mask.read_bytes()) == before and not (tmp_path / "out.png").exists()


def test_places_that_cannot_be(model, tmp_path):
    image, mask = write(tmp_path / "photos" / "a.png", photo()), write(tmp_path / "mask.png", hole())
    one, many = (image, mask, tmp_path / "out.png", model), (tmp_path / "photos", mask, tmp_path / "done", model)
    for name in ("used.jpg", "used"):
        with pytest.raises(UsageError, match=rf"--save_mask=.*{name}: found .*; expected a name that ends in \.png"):
            infer(*one, save_mask=tmp_path / name)
    with pytest.raises(UserError, match=r"--save_mask=.*mask\.png: is a file, but --image=.* is a folder"):
        infer(*many, save_mask=mask)
    with pytest.raises(UsageError, match=r"--save_mask=.*photos: is the folder of the photos; name another"):
        infer(*many, save_mask=tmp_path / "photos")
    with pytest.raises(UsageError, match=r"--save_mask=.*done: .*a\.png is a photo, a mask or an output"):
        infer(*many, save_mask=tmp_path / "done")
    with pytest.raises(UserError, match=r"mask\.png: cannot be created"):
        infer(*one, save_mask=mask / "used.png")
    (tmp_path / "used.png").write_text("mine")
    with pytest.raises(UserError, match=r"used\.png: exists already, and is not the mask"):
        infer(*one, save_mask=tmp_path / "used.png")
    assert files(tmp_path) == ["mask.png", "photos/a.png", "used.png"]
    assert (tmp_path / "used.png").read_text() == "mine"


def test_a_result_that_cannot_be_written_leaves_no_mask(model, tmp_path, monkeypatch):
    image, mask = write(tmp_path / "photo.png", photo()), write(tmp_path / "mask.png", hole())
    replace = os.replace

    def full(source, target):
        if str(target).endswith("out.png"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"out\.png: cannot be written \(No space left on device\)"):
        infer(image, mask, tmp_path / "out.png", model, save_mask=tmp_path / "used.png")
    assert files(tmp_path) == ["mask.png", "photo.png"]


def test_urls(model, memory, tmp_path):
    image, mask = write(tmp_path / "photo.png", photo()), write(tmp_path / "mask.png", hole())
    url = "memory://masks/used.png"
    assert infer(image, mask, "memory://out/1.png", model, mask_dilate=2, save_mask=url) == 0
    assert infer(image, url, tmp_path / "2.png", model) == 0
    assert (tmp_path / "2.png").read_bytes() == memory.cat("/out/1.png")
    assert infer(image, url, tmp_path / "3.png", model, save_mask="memory://masks/copy.png") == 0
    with pytest.raises(UserError, match=r"^memory://masks/used\.png: exists already, and is not the mask"):
        infer(image, mask, tmp_path / "4.png", model, save_mask=url)
    assert infer(image, mask, tmp_path / "4.png", model, save_mask=url, overwrite=True) == 0
    assert sorted(memory.ls("/masks", detail=False)) == ["/masks/copy.png", "/masks/used.png"]
