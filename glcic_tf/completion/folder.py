"""Complete a photo or a folder of photos: pairs them with masks and outputs, and goes on where one fails."""

import warnings
from pathlib import Path

from glcic_tf.common import cli, files
from glcic_tf.common.errors import UserError
from glcic_tf.imaging import images
from glcic_tf.imaging.holes import ALPHA

# While one passes through the network, another is read or written. More would hold more photos in memory.
_PHOTOS_AT_ONCE = 2


def infer(image, mask, output, model=None, overwrite=False, dtype="float32", **options):
    """Complete one photo or a folder of photos.

    Args:
        image: photo, or folder of photos at any depth.
        mask: mask of the photo, white = hole; with a folder of photos also a folder of masks; or "alpha": the hole is
            where a photo is transparent.
        output: image file to write (or a folder that exists); with a folder of photos the folder to write to. Folders
            are created.
        model: `.keras` model file, by default the one of the package.
        overwrite: replace outputs that exist; without it each counts as a failure.
        dtype: of `Completer.load`.
        **options: the others of `Completer.complete_file`.

    Returns:
        Number of photos that could not be completed; each is named on stderr, as are holes larger than those of the
        training. 0 if all went well.

    Raises:
        UserError: nothing could be tried at all, or the one photo could not be completed.
    """
    image, output = Path(image), Path(output)
    mask = mask if mask == ALPHA else Path(mask)
    for flag, path in (("--image", image), ("--mask", mask), ("--model", model)):
        if path not in (None, ALPHA) and not Path(path).exists():
            raise UserError(f"{flag}={path}: there is no such file or folder; check the name.")
    folder = image.is_dir()
    jobs = _folder_jobs(image, mask, output) if folder else [_single_job(image, mask, output)]
    if not overwrite and all(path.exists() for _, _, path in jobs):
        raise UserError(f"{jobs[0][2]}: exists already; add --overwrite to replace it, or choose another --output.")

    if folder:
        files.make_folder(output)  # before hours of work, not after
    with cli.quiet_start():  # from here on it takes seconds
        from glcic_tf.completion.completer import Completer, HoleSizeWarning, TextureWarning

        completer = Completer.load(model, dtype)

    def work(job):
        photo, mask, path = job
        if mask is None:
            raise UserError(f"{photo}: there is no mask of this name among the masks; expected {photo.stem}.png or so.")
        completer.complete_file(photo, mask, path, overwrite=overwrite, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("always", HoleSizeWarning)
        warnings.simplefilter("always", TextureWarning)
        show_others = warnings.showwarning

        def show(message, category, *where):
            if issubclass(category, (HoleSizeWarning, TextureWarning)):
                cli.say(message)
            else:
                show_others(message, category, *where)

        warnings.showwarning = show
        if folder:
            return cli.for_each(jobs, work, threads=_PHOTOS_AT_ONCE)
        work(jobs[0])
    return 0


def _single_job(image, mask, output):
    if mask != ALPHA and mask.is_dir():
        raise UserError(f"--mask={mask}: is a folder, but --image={image} is a file; name the mask of this photo.")
    output = output / image.name if output.is_dir() else output
    images.check_writable_suffix(output)
    return image, mask, output


def _folder_jobs(folder, mask, output):
    """Pair the photos in a folder with masks: list of (photo, mask or None, output)."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file, but --image={folder} is a folder; name a folder.")
    # Outputs and masks of this or an earlier call may lie inside the folder of photos.
    root = folder.resolve()
    others = [Path(path).resolve() for path in (mask, output) if path != ALPHA]
    others = [path for path in others if path != root and path.is_relative_to(root)]
    photos = [
        photo for photo in images.find_photos(folder) if not any(photo.resolve().is_relative_to(o) for o in others)
    ]
    if not photos:
        raise UserError(f"--image={folder}: holds no photo beside masks and outputs.")
    mask_of, one_for_all = {}, mask == ALPHA or not mask.is_dir()
    if not one_for_all:
        for path in images.find_photos(mask):
            known = mask_of.setdefault(path.relative_to(mask).with_suffix(""), path)
            if known != path:
                raise UserError(f"{path}: {known} is a mask of the same photo; remove one of them.")
    jobs = []
    for photo in photos:
        name = photo.relative_to(folder)
        found = mask if one_for_all else mask_of.get(name.with_suffix(""), mask_of.get(Path(name.stem)))
        jobs.append((photo, found, output / name))
    if all(found is None for _, found, _ in jobs):
        raise UserError(
            f"--mask={mask}: no mask is named as a photo in {folder}; expected {jobs[0][0].stem}.png or so."
        )
    return jobs
