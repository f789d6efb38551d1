"""Which image files a folder holds."""

import typing

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError
from glcic_tf.imaging.image_formats import OTHER_SUFFIXES, PHOTO_SUFFIXES

THUMBNAIL_FOLDERS = ("@eaDir", "__MACOSX")  # that systems leave among photos


class Found(typing.NamedTuple):
    """What a folder holds.

    Attributes:
        photos: sorted list of pathlib.Path (RemotePath behind a URL, here and below), all with a suffix in
            PHOTO_SUFFIXES (upper or lower case).
        others: sorted list of pathlib.Path: image files of other formats.
        thumbnail_folders: sorted list of pathlib.Path: folders in THUMBNAIL_FOLDERS, not looked into.
    """

    photos: list
    others: list
    thumbnail_folders: list


def look_through(folder):
    """Look for images in a folder, at any depth, in the same order on every machine.

    Args:
        folder: path or URL; files and folders in it whose name starts with a dot are left out, links to folders not
            followed.

    Returns:
        Found.

    Raises:
        UserError: the folder is missing, is not a folder or cannot be listed.
    """
    folder = storage.as_path(folder)
    if not storage.is_folder(folder):
        found = "a file" if storage.exists(folder) else "nothing"
        raise UserError(f"{folder}: expected a folder of photos, found {found}; name a folder that exists.")

    found = Found([], [], [])
    for relative, folders, names in storage.walk(folder):
        parent = folder / relative
        found.thumbnail_folders.extend(parent / name for name in folders if name in THUMBNAIL_FOLDERS)
        folders[:] = [name for name in folders if name not in THUMBNAIL_FOLDERS]
        for name in names:
            if name.lower().endswith(PHOTO_SUFFIXES):
                found.photos.append(parent / name)
            elif name.lower().endswith(OTHER_SUFFIXES):
                found.others.append(parent / name)
    return Found(*map(sorted, found))


def find_photos(folder):
    """List the photos in a folder as `look_through` does. Not empty.

    Raises:
        UserError: as `look_through`, or there is no photo.
    """
    photos = look_through(folder).photos
    if not photos:
        raise UserError(f"{folder}: holds no photo; expected files that end in {', '.join(PHOTO_SUFFIXES)}.")
    return photos
