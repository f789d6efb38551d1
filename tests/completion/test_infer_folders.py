"""infer.py on folders: pairs of photos and masks, files that cannot be used, and interruptions."""

import time

import numpy as np
import pytest
from infer_helpers import HEIGHT, WIDTH, files, hole, photo, write
from PIL import Image

from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.completion.folder import infer
from glcic_tf.imaging import images

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_load")]


def test_large_holes_are_named_in_folders_too(model, loaded, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loaded, "trained_hole_px", (4, 6))
    for name in "abcd":
        write(tmp_path / "photos" / f"{name}.png", photo())
    mask = write(tmp_path / "mask.png", hole())
    assert infer(tmp_path / "photos", mask, tmp_path / "done", model) == 0
    lines = sorted(capsys.readouterr().err.splitlines())
    assert len(lines) == 4
    for name, line in zip("abcd", lines, strict=True):
        assert f"{name}.png: a hole is 12 px thick" in line


def test_photos_under_way_at_once_do_not_mix(model, tmp_path):
    """Each comes out as it does alone."""
    for i in range(6):
        write(tmp_path / "photos" / f"{i:02}.png", photo(i))
        write(tmp_path / "masks" / f"{i:02}.png", np.roll(hole(), i, axis=1))
    infer(tmp_path / "photos", tmp_path / "masks", tmp_path / "done", model)
    for i in range(6):
        name = f"{i:02}.png"
        infer(tmp_path / "photos" / name, tmp_path / "masks" / name, tmp_path / name, model)
        np.testing.assert_array_equal(images.read_image(tmp_path / name), images.read_image(tmp_path / "done" / name))


def test_an_interrupted_folder_begins_no_more_photos(capsys):
    begun = []

    def work(job):
        begun.append(job)
        if job == 1:
            raise KeyboardInterrupt
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        cli.for_each(range(100), work, threads=2)
    assert len(begun) < 50


def test_folders(model, tmp_path, capsys):
    """Any depth and suffix, masks at the same place or right in their folder, bad files in between."""
    for seed, name in enumerate(("a.png", "b.PNG", "sub/c.webp", "sub/deep/d.bmp", "lonely.png")):
        write(tmp_path / "photos" / name, photo(seed))
    (tmp_path / "photos" / "broken.png").write_text("hello")
    for name in ("a.png", "b.bmp", "sub/c.png", "d.webp", "broken.png", "unused.png"):
        write(tmp_path / "masks" / name, hole())
    call = [tmp_path / "photos", tmp_path / "masks", tmp_path / "done", model]

    assert infer(*call) == 2
    assert files(tmp_path / "done") == ["a.png", "b.PNG", "sub/c.webp", "sub/deep/d.bmp"]
    for seed, name in enumerate(files(tmp_path / "done")):
        result = images.read_image(tmp_path / "done" / name)
        np.testing.assert_array_equal(result[~hole()], photo(seed)[~hole()])
    shown = capsys.readouterr()
    assert shown.out.startswith("4 of 6 photos done in ") and shown.out.endswith(" s, 2 failed\n")
    lines = shown.err.splitlines()
    assert len(lines) == 2
    assert "broken.png: is not an image" in lines[0] and "lonely.png: there is no mask of this name" in lines[1]

    # Once more: what is there stays, and counts as a failure.
    (tmp_path / "done" / "a.png").write_text("mine")
    assert infer(*call) == 6
    assert (tmp_path / "done" / "a.png").read_text() == "mine"
    assert capsys.readouterr().err.count("exists already; set overwrite") == 4
    assert infer(*call, overwrite=True) == 2
    assert images.read_image(tmp_path / "done" / "a.png").shape == (HEIGHT, WIDTH, 3)


def test_one_mask_for_all_and_folders_inside_the_photos(model, tmp_path):
    for name in ("a.png", "sub/b.png"):
        write(tmp_path / name, photo())
    mask = write(tmp_path / "mask.png", hole())
    for overwrite in (False, True):
        assert infer(tmp_path, mask, tmp_path / "done", model, overwrite) == 0
        assert files(tmp_path) == ["a.png", "done/a.png", "done/sub/b.png", "mask.png", "sub/b.png"]
    with pytest.raises(UserError, match="exists already"):
        infer(tmp_path, mask, tmp_path / "done", model)


def test_masks_that_cannot_be_paired(model, tmp_path):
    write(tmp_path / "photos" / "a.png", photo())
    write(tmp_path / "masks" / "b.png", hole())
    with pytest.raises(UserError, match=r"no mask is named as a photo in .*photos; expected a\.png or so"):
        infer(tmp_path / "photos", tmp_path / "masks", tmp_path / "done", model)
    write(tmp_path / "masks" / "a.png", hole())
    write(tmp_path / "masks" / "a.bmp", hole())
    with pytest.raises(UserError, match=r"a\.png: a\.bmp and a\.png may both be its mask; remove one"):
        infer(tmp_path / "photos", tmp_path / "masks", tmp_path / "done", model)
    assert not (tmp_path / "done").exists()


def test_every_image_of_a_folder_is_completed_or_named(model, tmp_path, capsys):
    for name in ("a.jpg", "b.tif", "c.avif", "sub/d.jfif", "a.gif", "@eaDir/a.jpg/thumb.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo()).save(tmp_path / "photos" / name, format="JPEG" if name.endswith("jfif") else None)
    frames = [Image.fromarray(photo(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "photos" / "b.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "photos" / "e.CR2").write_bytes(b"II*\0raw")
    write(tmp_path / "mask.png", hole())
    assert infer(tmp_path / "photos", tmp_path / "mask.png", tmp_path / "done", model) == 1
    assert files(tmp_path / "done") == ["a.jpg", "a.png", "b.tif", "c.avif", "sub/d.jfif"]  # of a GIF, a PNG
    shown = capsys.readouterr()
    assert shown.out.startswith("5 of 6 photos done in ") and shown.out.endswith(" s, 1 failed\n")
    lines = sorted(shown.err.splitlines())
    assert len(lines) == 3
    assert "@eaDir: holds thumbnails that a system made; left out." in lines[0]
    assert "b.tif: holds 3 pictures; the first is completed." in lines[1]
    assert "e.CR2: is of a format that is not read" in lines[2]
    result = images.read_image(tmp_path / "done" / "b.tif")
    np.testing.assert_array_equal(result[~hole()], photo()[~hole()])


def test_photos_and_masks_side_by_side(model, tmp_path):
    for name in ("x.png", "y.png"):
        write(tmp_path / "both" / name, photo())
        write(tmp_path / "both" / name.replace(".", "_mask001."), hole())
    assert infer(tmp_path / "both", tmp_path / "both", tmp_path / "done", model) == 0
    assert files(tmp_path / "done") == ["x.png", "y.png"]


def test_a_mask_on_the_sensor_instead_of_the_photo_is_told(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo()).save(tmp_path / "photo.jpg", exif=exif)
    write(tmp_path / "mask.png", hole())
    with pytest.raises(UserError, match="mask.png: has 42 x 31 px, but .*photo.jpg has 31 x 42 px; .* before its EXIF"):
        infer(tmp_path / "photo.jpg", tmp_path / "mask.png", tmp_path / "out.png", model)
