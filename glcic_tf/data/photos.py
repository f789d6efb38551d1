"""A photo to train on, wherever it lies: what the pipeline asks of it, and photos that are files of their own.

`shards.ShardPhoto` is the other kind.
"""

import dataclasses
import typing

from glcic_tf.common import storage
from glcic_tf.common.errors import without_secrets
from glcic_tf.imaging import images


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
        return without_secrets(self.place)

    @property
    def name(self):
        """File name, without folders."""
        return storage.as_path(self.place).name

    @property
    def parent(self):
        """Path or URL of its folder."""
        return str(storage.as_path(self.place).parent)

    @property
    def size(self):
        """Only its header would tell."""
        return None

    def read(self, shorter_edge_px=None):
        """Read it as `Photo` says, the same from a URL as from a folder."""
        with storage.local(self.place) as path:
            return images.read_photo(path, shorter_edge_px=shorter_edge_px)
