"""The page's photo at work: completing, extending, snapping, choosing and undoing; and the folders of its files."""

import numpy as np
import pytest
from page_helpers import HEIGHT, WIDTH, hole, pixels, write

from glcic_tf.apps import served_models
from glcic_tf.apps.page import painted_photo as photo_module
from glcic_tf.apps.page import previews
from glcic_tf.apps.page.buttons import Work
from glcic_tf.apps.page.open_photos import Photos
from glcic_tf.apps.page.painted_photo import Photo
from glcic_tf.apps.page.previews import read_painted
from glcic_tf.apps.page.temporary_files import Folder
from glcic_tf.apps.served_models import Models
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import holes, images
from glcic_tf.networks import DEFAULT_MODEL as PACKAGED

# Gradio asks pandas for an option that newer ones no longer need.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (4, np.uint8), (3, np.uint16)])
def test_photo_is_completed_and_undone(completer, tmp_path, channels, dtype):
    original = pixels(0, channels, dtype)
    photo = Photo(write(tmp_path / "photo.png", original), 10**6)
    photo.write_preview(tmp_path / "preview.png")
    assert images.read_image(tmp_path / "preview.png").shape == (HEIGHT, WIDTH, min(channels, 3))
    painted = photo.hole(hole())
    np.testing.assert_array_equal(painted, hole())
    photo.complete(completer, painted, 2, "poisson")
    first, grown = photo.pixels.copy(), holes.dilate(hole(), 2)
    np.testing.assert_array_equal(first, completer(original, hole(), mask_dilate=2, postprocess="poisson"))
    assert photo.completions == 1 and not photo.hole(np.zeros((HEIGHT, WIDTH), bool)).any()
    photo.complete(completer, ~grown & (np.arange(WIDTH) < 5), 0, "none")
    photo.undo()
    np.testing.assert_array_equal(photo.pixels, first)
    photo.undo()
    np.testing.assert_array_equal(photo.pixels, original)
    photo.write_painted(tmp_path / "layer.png")  # the hole is painted again, as it was before it grew
    shown = read_painted([tmp_path / "layer.png"], (HEIGHT, WIDTH))
    np.testing.assert_array_equal(shown, hole())
    with pytest.raises(UserError, match="There are 9 layers; expected at most 4"):
        read_painted([tmp_path / "layer.png"] * 9, (HEIGHT, WIDTH))
    with pytest.raises(UserError, match="nothing to undo"):
        photo.undo()
    with pytest.raises(UserError, match="Nothing is painted yet"):
        photo.complete(completer, np.zeros((HEIGHT, WIDTH), bool), 0, "none")
    with pytest.raises(UserError, match="whole photo is painted over"):
        photo.complete(completer, hole(), 64, "none")


def test_a_hole_painted_on_a_preview_is_enlarged_and_one_from_a_file_stays_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "PREVIEW_PX", 21)
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    assert photo.preview_shape == (16, 21)
    painted = np.zeros((16, 21), bool)
    painted[4:8, 5:11] = True
    enlarged = photo.hole(painted)
    assert enlarged.shape == (HEIGHT, WIDTH) and enlarged[9:15, 11:21].all()
    assert not enlarged[:7].any() and not enlarged[17:].any() and not enlarged[:, :9].any()
    fine = hole() & (np.arange(WIDTH) % 2 == 0)
    photo.set_hole(fine)
    photo.write_painted(tmp_path / "layer.png")
    shown = read_painted([tmp_path / "layer.png"], photo.preview_shape)
    np.testing.assert_array_equal(photo.hole(shown), fine)
    shown[14:16, 18:21] = True  # painted on, far from it
    more = photo.hole(shown)
    np.testing.assert_array_equal(more[:25, :33], fine[:25, :33])
    assert more[29:, 37:].all()


def test_history_is_bounded(completer, tmp_path):
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    large = np.zeros((HEIGHT, WIDTH), bool)
    large[:, :36] = True
    for _ in range(4):
        photo.complete(completer, large, 0, "none")
    assert photo.completions == 1


def test_results_of_a_completion(completer, tmp_path):
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    with pytest.raises(UserError, match="Complete something first"):
        photo.find_results(completer)
    photo.complete(completer, hole(), 2, "auto")
    first = photo.pixels.copy()
    photo.find_results(completer)
    assert photo.results == ["auto", "texture", "poisson", "none"]
    for name in ("none", "poisson", "texture"):
        photo.write_result(tmp_path / f"{name}.jpg", name)
        photo.choose(name)
        np.testing.assert_array_equal(photo.pixels, completer(pixels(), hole(), mask_dilate=2, postprocess=name))
    photo.choose("auto")
    np.testing.assert_array_equal(photo.pixels, first)
    with pytest.raises(UserError, match="no longer there"):
        photo.choose("other")
    photo.write_close_ups(tmp_path / "before.jpg", tmp_path / "after.jpg")
    shapes = [images.read_image(tmp_path / f"{name}.jpg").shape for name in ("before", "after", "none")]
    assert shapes == [(HEIGHT, WIDTH, 3)] * 3  # 24 px around the hole are all of it
    photo.undo()
    assert photo.results == []
    np.testing.assert_array_equal(photo.pixels, pixels())


def test_an_extended_canvas_is_completed_and_undone(completer, tmp_path):
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    painted = hole()
    photo.set_hole(painted)
    photo.extend(5, 0, 9, 3, 10**6)
    assert photo.pixels.shape == (34, 56, 3) and photo.extensions == 1 and photo.completions == 0
    extended = photo.hole(np.ones((34, 56), bool) & _extended(painted))
    np.testing.assert_array_equal(extended, _extended(painted))
    photo.write_extended(tmp_path / "before.png", tmp_path / "photo.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "before.png")[:31, 5:47], pixels())
    photo.complete(completer, _extended(np.zeros_like(painted)), 8, "none")  # what is added does not grow
    np.testing.assert_array_equal(photo.pixels[:31, 5:47], pixels())
    np.testing.assert_array_equal(
        photo.pixels, completer(pixels(), np.zeros_like(painted), uncrop=(5, 0, 9, 3), postprocess="none")
    )
    photo.undo()
    photo.undo()
    np.testing.assert_array_equal(photo.pixels, pixels())
    np.testing.assert_array_equal(photo.hole(painted), painted)
    assert photo.preview_shape == (HEIGHT, WIDTH) and photo.steps == 0
    for wrong in ((0, 0, 0, 0), (-1, 0, 0, 0), (None, 0, 0, 0), (1.5, 0, 0, 0)):
        with pytest.raises(UserError, match="Give the px to add on each side"):
            photo.extend(*wrong, 10**6)
    with pytest.raises(UserError, match="would have 142 x 31 px; at most"):
        photo.extend(100, 0, 0, 0, 2000)
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3)


def test_before_keeps_the_size_of_a_canvas_whose_extension_is_forgotten(completer, models, tmp_path, monkeypatch):
    monkeypatch.setattr(photo_module, "_MAX_UNDO", 2)
    photos = Photos(10**9, 3600)
    work = Work(models, photos, Folder(tmp_path, 1800, 1800), 10**6)
    token = work.open(write(tmp_path / "photo.png", pixels()), None)[0]
    work.extend(token, 5, 0, 9, 3)
    with photos.using(token) as photo:
        for _ in range(2):
            photo.complete(completer, _extended(hole()), 0, "none")
    work.undo(token)
    with photos.using(token) as photo:
        assert images.read_image(photo.befores[-1]).shape == photo.pixels.shape == (34, 56, 3)


def _extended(inner):
    outer = np.ones((34, 56), bool)
    outer[:31, 5:47] = inner
    return outer


def test_snapping_can_be_undone(tmp_path):
    photographed = np.full((60, 80, 3), 60, np.uint8) + pixels(shape=(60, 80)) // 16
    photographed[20:40, 30:50] += np.array([150, 0, 0], np.uint8)
    photo = Photo(write(tmp_path / "photo.png", photographed), 10**6)
    with pytest.raises(UserError, match="Nothing is painted yet"):
        photo.snap(np.zeros((60, 80), bool))
    click = np.zeros((60, 80), bool)
    click[28:32, 38:42] = True
    photo.snap(click)
    wanted = np.zeros((60, 80), bool)
    wanted[20:40, 30:50] = True
    np.testing.assert_array_equal(photo.hole(wanted), wanted)
    photo.write_painted(tmp_path / "layer.png")
    np.testing.assert_array_equal(read_painted([tmp_path / "layer.png"], (60, 80)), wanted)
    photo.undo()
    np.testing.assert_array_equal(photo.hole(click), click)


def test_models_that_are_here_are_offered_and_nothing_is_downloaded(model, monkeypatch):
    monkeypatch.setattr(served_models.model_names, "here", lambda: {"faces": model, "scenes": PACKAGED})
    found = Models()
    assert found.names == ["scenes", "faces"]
    with found.using("faces") as completer:
        assert completer(pixels(), hole(), postprocess="none").shape == (HEIGHT, WIDTH, 3)


def test_random_hole(tmp_path):
    photo = Photo(write(tmp_path / "photo.png", pixels()), 10**6)
    photo.random_hole(np.random.default_rng(0))
    assert photo.write_painted(tmp_path / "layer.png")


def test_photos_are_kept_apart_and_forgotten(tmp_path):
    path = write(tmp_path / "photo.png", pixels())
    photos, photo = Photos(max_bytes=4000, idle_s=1000), Photo(path, 10**6)
    photos.check_room()
    token = photos.add(photo)
    with photos.using(token) as found:
        assert found is photo
    with pytest.raises(UserError, match="Too many photos"):  # it has 3906 bytes
        photos.add(Photo(path, 10**6))
        photos.check_room()
    for wrong in ("", None, token + "a"):
        with pytest.raises(UserError, match="no longer open"), photos.using(wrong):
            pass
    photos.drop(token)
    with pytest.raises(UserError, match="no longer open"), photos.using(token):
        pass
    photos = Photos(max_bytes=1, idle_s=0)
    photos.add(photo)
    photos.check_room()


def test_folder_owns_what_is_in_it_and_deletes_what_is_old(tmp_path, monkeypatch):
    folder = Folder(tmp_path / "f", uploads_s=1000, own_s=-1) if (tmp_path / "f").mkdir() is None else None
    own, kept = folder.new() / "a", folder.kept() / "b"
    uploaded = folder.path / "hash"
    uploaded.mkdir()
    for path in (own, kept, uploaded / "c", tmp_path / "secret"):
        path.touch()
    (folder.path / "link").symlink_to(tmp_path / "secret")
    assert folder.owns(own) and folder.owns(uploaded / "c")
    wrong = (tmp_path / "secret", folder.path / "link", folder.path / ".." / "secret", folder.path, "a\0", "f/own", "")
    assert not any(folder.owns(path) for path in wrong)
    folder._swept = -1e9
    folder.new()
    assert not own.exists() and kept.exists() and (uploaded / "c").exists()
