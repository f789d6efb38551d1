"""A photo to train on, wherever it lies: what the pipeline asks of it, and photos that are files of their own.

`shards.ShardPhoto` is the other kind.
"""

import dataclasses
import os
import tempfile
import typing

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images

_MAX_FILE_BYTES = 2**30  # of a photo behind a URL


class Photo(typing.Protocol):
    """What is known of a photo without reading it, and how it is read; `str` of it is what messages call it.

    Attributes:
        name: file name, without folders.
        parent: the folder or URL that it lies in.
        size: (height, width) in px, None if that is not known beforehand.
    """

    name: str
    parent: object
    size: tuple[int, int] | None

    def read(self, shorter_edge_px=None):
        """Read it: uint8 [height, width, 3] RGB, decoded smaller where it is to be shrunk, see `images.read_photo`.

        Raises:
            UserError: it is missing, empty, too large, broken or not an image.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo in a file of its own.

    Attributes:
        place: its path or URL, as str.
    """

    place: str

    def __str__(self):
        return self.place

    @property
    def name(self):
        """File name, without folders."""
        return self.place.rpartition("/")[2]

    @property
    def parent(self):
        """Path or URL of its folder."""
        return self.place.rpartition("/")[0] or "."

    @property
    def size(self):
        """Only its header would tell."""
        return None

    def read(self, shorter_edge_px=None):
        """Read it as `Photo` says, the same from a URL as from a folder."""
        if not storage.is_remote(self.place):
            return images.read_photo(self.place, shorter_edge_px=shorter_edge_px)
        length = storage.size(self.place)
        if length > _MAX_FILE_BYTES:
            raise UserError(f"{self.place}: has {length} bytes; expected a photo of at most {_MAX_FILE_BYTES}.")
        with tempfile.TemporaryDirectory(prefix="photo-") as folder:
            local = os.path.join(folder, "photo")
            storage.copy(self.place, local)
            try:
                return images.read_photo(local, shorter_edge_px=shorter_edge_px)
            except UserError as error:
                raise UserError(str(error).replace(local, self.place, 1)) from error
