"""What the page's buttons do."""

import contextlib
import time
from pathlib import Path

import cv2
import gradio as gr
import numpy as np

from glcic_tf.apps import demo
from glcic_tf.apps.page.painted_photo import Photo, result_name
from glcic_tf.apps.page.previews import read_painted
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import holes, images

PHOTO_FORMAT, PNG = FORMATS = ("As the photo", "PNG")  # of a download
MAX_GROW_PX = 64
LABELS = {
    "auto": "Automatic",
    "texture": "The photo's own texture",
    "poisson": "The network, blended",
    "none": "The network alone",
}
_THUMBNAIL_PX = 96


class Work:
    """What the buttons do. Methods take and return values of Gradio's components; mistakes are raised as gradio.Error.

    Args:
        models: a Models.
        photos: a Photos.
        folder: a Folder.
        max_pixels: refuse larger photos and masks.
    """

    def __init__(self, models, photos, folder, max_pixels):
        self.models, self.photos = models, photos
        self._folder, self._max_pixels = folder, max_pixels

    def open(self, path, token):
        """Open a photo in place of the one that was open."""
        with _told(path):
            self.photos.check_room()
            photo = Photo(path, self._max_pixels)
        photo.befores = [self._folder.new() / "before.jpg"]  # the last for the canvas as it is extended now
        photo.write_preview(photo.befores[-1])
        self.photos.drop(token)
        height, width = photo.pixels.shape[:2]
        status = f"Paint over what should go, then press Complete. ({photo.name}, {width} x {height} px)"
        shown = self._shown(photo, status)
        return self.photos.add(photo), None, gr.update(visible=False), gr.update(visible=True), *shown

    def close(self, token):
        """Forget the photo and ask for another."""
        self.photos.drop(token)
        return None, None, gr.update(visible=True), gr.update(visible=False)

    def complete_painted(self, token, layers, model, grow, postprocess, progress=gr.Progress()):  # noqa: B008 - Gradio looks for it
        """Complete what is painted."""
        progress(0, desc="Waiting for the model")
        grow = min(max(int(grow), 0), MAX_GROW_PX)
        # The model first: who waits for it does not hold the photo.
        with self.models.using(model) as completer, self._using(token) as photo:
            progress(0.1, desc="Completing")
            start = time.perf_counter()
            hole = photo.hole(read_painted(layers, photo.preview_shape))
            done = photo.complete(completer, hole, grow, postprocess)
            seconds = time.perf_counter() - start
            progress(0.9, desc="Showing")
            status = f"Completed in {seconds:.1f} s. Go on painting, download it, or undo it."
            status += "".join(f" {note[0].upper()}{note[1:]}" for note in done.notes)
            return self._shown(photo, status)

    def undo(self, token):
        """Undo the last completion."""
        with self._using(token) as photo:
            photo.undo()
            del photo.befores[1 + photo.extensions :]
            return self._shown(photo, "The last step is undone; what was painted is painted again.")

    def extend(self, token, left, top, right, bottom):
        """Extend the canvas, and paint what is added."""
        with self._using(token) as photo:
            photo.extend(left, top, right, bottom, self._max_pixels)
            extended = self._folder.new() / "before.jpg"
            photo.write_extended(extended, photo.befores[-1])
            photo.befores.append(extended)
            height, width = photo.pixels.shape[:2]
            return self._shown(photo, f"The canvas has {width} x {height} px now; press Complete to fill it.")

    def snap(self, token, layers):
        """Make what is painted the outline of the object below it."""
        with self._using(token) as photo:
            photo.snap(read_painted(layers, photo.preview_shape))
            return self._shown(photo, "What is painted is the object's outline; Undo takes that back.")

    def look_closely(self, token, close):
        """Show before and after as a close-up, or whole."""
        with self._using(token) as photo:
            photo.close = bool(close)
            return self._compared(photo)

    def show_results(self, token, model):
        """Complete what was completed last by every post-process, and show that side by side."""
        with self.models.using(model) as completer, self._using(token) as photo:
            photo.find_results(completer)
            return self._shown(photo, "Click on the result that you like best.")

    def choose(self, token, event: gr.SelectData):
        """Take one of the results that are shown."""
        with self._using(token) as photo:
            index, names = event.index, photo.results
            name = names[index] if isinstance(index, int) and 0 <= index < len(names) else None
            photo.choose(name)
            return self._shown(photo, f"This is the result now: {LABELS[name][0].lower()}{LABELS[name][1:]}.")

    def clear(self, token):
        """Show the photo again, with nothing painted: the canvas clears itself with all that is on it."""
        with self._using(token) as photo:
            photo.set_hole(None)
            return self._shown(photo, "Nothing is painted.")

    def random_hole(self, token):
        """Paint a random hole."""
        with self._using(token) as photo:
            photo.random_hole(np.random.default_rng())
            return self._shown(photo, "A random hole is painted.")

    def take_mask(self, path, token):
        """Paint what is white in a file."""
        with self._using(token, path) as photo:
            hole = images.read_mask(path, self._max_pixels, isolated=True)
            status = "The mask is painted."
            if hole.shape != photo.pixels.shape[:2]:
                sizes = [f"{width} x {height} px" for height, width in (hole.shape, photo.pixels.shape[:2])]
                status = f"The mask has {sizes[0]} and was brought to the photo's {sizes[1]}."
                hole = holes.resize(hole, photo.pixels.shape[:2])
            if not hole.any():
                raise UserError(f"{path}: is black everywhere; expected white where something should go.")
            photo.set_hole(hole)
            return self._shown(photo, status)

    def save(self, token, kind):
        """Write the photo as it is now."""
        with self._using(token) as photo:
            path = self._folder.new() / result_name(photo.name, ".png" if kind == PNG else photo.suffix)
            photo.write(path)
            return path

    def save_mask(self, token, layers):
        """Write what is painted, at the photo's size."""
        with self._using(token) as photo:
            hole = photo.hole(read_painted(layers, photo.preview_shape))
            path = self._folder.new() / f"{Path(photo.name).stem}_mask.png"
            images.write_image(path, np.where(hole, np.uint8(255), np.uint8(0)))
            return path

    def thumbnail(self, name):
        """Write a small copy of a sample, a file name as `demo.sample_path` takes it; return its path."""
        photo = images.read_photo(demo.sample_path(name))
        side = min(photo.shape[:2])
        top, left = ((length - side) // 2 for length in photo.shape[:2])
        square = photo[top : top + side, left : left + side]
        path = self._folder.kept() / "sample.jpg"
        images.write_image(path, cv2.resize(square, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA))
        return str(path)

    @contextlib.contextmanager
    def _using(self, token, *paths):
        with _told(*paths), self.photos.using(token) as photo:
            yield photo

    def _shown(self, photo, status):
        """What the page shows of a photo: editor, status, undo, result, slider, pictures, results."""
        preview = self._folder.new() / "photo.jpg"
        for path in photo.befores:
            self._folder.keep(path)
        photo.write_preview(preview)
        layer = preview.with_name("hole.png")
        layers = [str(layer)] if photo.write_painted(layer) else []
        done = photo.completions > 0
        results = []
        for name in photo.results:
            results.append((str(preview.with_name(f"{name}.jpg")), LABELS[name]))
            photo.write_result(results[-1][0], name)
        return (
            {"background": str(preview), "layers": layers, "composite": None},
            status,
            gr.update(interactive=photo.steps > 0),
            gr.update(visible=done),
            self._compared(photo, preview),
            _pictures(photo.befores[-1], preview, photo.preview_shape),
            gr.update(value=results or None, visible=bool(results), selected_index=None),
        )

    def _compared(self, photo, preview=None):
        """The two pictures of the slider; None before anything was completed."""
        if not photo.completions:
            return None
        if photo.close and photo.is_completed:
            before, after = (self._folder.new() / "close_up.jpg" for _ in range(2))
            photo.write_close_ups(before, after)
            return str(before), str(after)
        if preview is None:
            preview = self._folder.new() / "photo.jpg"
            photo.write_preview(preview)
        return str(photo.befores[-1]), str(preview)


def _pictures(before, now, shape):
    """HTML with the photo as it was and as it is, which page.js lays over the canvas, and its size for page.css."""
    pictures = (f'<img id="{name}" src="gradio_api/file={path}">' for name, path in (("before", before), ("now", now)))
    height, width = shape
    return "".join(pictures) + f"<style>#editor {{ --photo-width: {width}; --photo-height: {height}; }}</style>"


@contextlib.contextmanager
def _told(*paths):
    """Tell the visitor what a UserError says, without the server's folders; `paths` are those in its message."""
    try:
        yield
    except UserError as error:
        message = str(error)
        for path in filter(None, paths):
            message = message.replace(f"{Path(path).parent}/", "")
        raise gr.Error(message, print_exception=False) from error
