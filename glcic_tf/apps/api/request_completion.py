"""One completion for a program: from files in a request to the bytes of a file, with errors in the API's words."""

import dataclasses
import json
import shutil
from pathlib import Path

from glcic_tf.apps.page import temporary_files
from glcic_tf.common.errors import UserError
from glcic_tf.completion.options import Options
from glcic_tf.imaging import images
from glcic_tf.imaging.holes import ALPHA

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".avif": "image/avif",
}
FORMATS = tuple(suffix[1:] for suffix in MEDIA_TYPES)


class Refused(Exception):
    """A request that cannot be answered.

    Attributes:
        status: of HTTP, 4xx or 5xx.
    """

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Answer:
    """A completed photo.

    Attributes:
        content: bytes of the file.
        media_type: of the file, such as "image/png".
        told: JSON, in ASCII, of what was done, see `options.Completion.told`.
    """

    content: bytes
    media_type: str
    told: str


def complete(models, name, image, mask, options, image_format=None, jpeg_quality=images.JPEG_QUALITY, max_pixels=None):
    """Complete a photo.

    Args:
        models: a served_models.Models.
        name: of the network among them; None: the first.
        image: open binary file, an image.
        mask: another, its mask; None: the hole is where the image is transparent.
        options: dict of the fields of `options.Options`.
        image_format: one of FORMATS; None: that of the image, or the nearest that is written.
        jpeg_quality: 1 to 100.
        max_pixels: refuse larger images and masks.

    Returns:
        Answer.

    Raises:
        Refused: the request is at fault, or there is no memory for it.
    """
    try:
        options = dataclasses.asdict(Options(**options))
    except ValueError as error:
        raise Refused(422, str(error)) from error
    with temporary_files.own_folder() as folder:
        paths = {"image": Path(folder, "image"), "mask": Path(folder, "mask")}
        for part, sent in (("image", image), ("mask", mask)):
            if sent is not None:
                with paths[part].open("wb") as file:
                    shutil.copyfileobj(sent, file)
        try:
            suffix = f".{image_format}" if image_format else images.suffix_like(paths["image"])
            output = Path(folder, "completed").with_suffix(suffix)
            with models.using(name or models.names[0]) as completer:
                done = completer.complete_file(
                    paths["image"],
                    ALPHA if mask is None else paths["mask"],
                    output,
                    max_pixels=max_pixels or images.MAX_PIXELS,
                    jpeg_quality=jpeg_quality,
                    isolated=True,
                    **options,
                )
        except UserError as error:
            raise Refused(422, _without(paths, str(error))) from error
        except MemoryError as error:
            raise Refused(413, "image: there is not enough memory for it; make it smaller.") from error
        return Answer(output.read_bytes(), MEDIA_TYPES[suffix], json.dumps(done.told()))


def _without(paths, message):
    """A message that names parts of the request where it would name files of the server."""
    for part, path in paths.items():
        message = message.replace(str(path), part)
    return message
