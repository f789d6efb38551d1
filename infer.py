"""Complete the holes of a photo, or of all photos in a folder.

  infer.py --image photo.jpg --mask mask.png --output out.png
  infer.py --image photos/ --mask masks/ --output done/

In the mask, white is the hole. With folders, a photo takes the mask at the same place with the same name up to the
suffix, or else the mask of that name right in the folder of masks; one mask file serves all photos. Outputs keep the
photos' names and subfolders.
"""

import sys
from pathlib import Path

from absl import flags

try:
    from glcic_tf import images, scripts
    from glcic_tf.errors import UserError
except ImportError as error:  # another Keras backend is asked for, or a package is missing
    sys.exit(f"infer.py: {error}")


def infer(image, mask, output, model=None, overwrite=False):
    """Complete one photo or a folder of photos.

    Args:
        image: photo, or folder of photos at any depth.
        mask: mask of the photo's size in px, white = hole; with a folder of photos also a folder of masks.
        output: image file to write (or a folder that exists); with a folder of photos the folder to write to. Folders
            are created.
        model: `.keras` model file, by default the one of the package.
        overwrite: replace outputs that exist; without it each counts as a failure.

    Returns:
        Number of photos that could not be completed; each is named on stderr. 0 if all went well.

    Raises:
        UserError: nothing could be tried at all, or the one photo could not be completed.
    """
    image, mask, output = Path(image), Path(mask), Path(output)
    for flag, path in (("--image", image), ("--mask", mask), ("--model", model)):
        if path is not None and not Path(path).exists():
            raise UserError(f"{flag}={path}: there is no such file or folder; check the name.")
    folder = image.is_dir()
    jobs = _folder_jobs(image, mask, output) if folder else [_single_job(image, mask, output)]
    if not overwrite and all(path.exists() for _, _, path in jobs):
        raise UserError(f"{jobs[0][2]}: exists already; add --overwrite to replace it, or choose another --output.")

    if folder:
        _make_folder(output)  # before hours of work, not after
    with scripts.quiet_start():  # from here on it takes seconds
        from glcic_tf.completer import Completer

        completer = Completer.load(model)

    def work(job):
        _complete_file(completer, *job, overwrite)

    if folder:
        return scripts.for_each(jobs, work)
    work(jobs[0])
    return 0


def _single_job(image, mask, output):
    if mask.is_dir():
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
    others = [path for path in (mask.resolve(), output.resolve()) if path != root and path.is_relative_to(root)]
    photos = [
        photo for photo in images.find_photos(folder) if not any(photo.resolve().is_relative_to(o) for o in others)
    ]
    if not photos:
        raise UserError(f"--image={folder}: holds no photo beside masks and outputs.")
    mask_of = {}
    if mask.is_dir():
        for path in images.find_photos(mask):
            known = mask_of.setdefault(path.relative_to(mask).with_suffix(""), path)
            if known != path:
                raise UserError(f"{path}: {known} is a mask of the same photo; remove one of them.")
    jobs = []
    for photo in photos:
        name = photo.relative_to(folder)
        found = mask_of.get(name.with_suffix(""), mask_of.get(Path(name.stem))) if mask.is_dir() else mask
        jobs.append((photo, found, output / name))
    if all(found is None for _, found, _ in jobs):
        raise UserError(
            f"--mask={mask}: no mask is named as a photo in {folder}; expected {jobs[0][0].stem}.png or so."
        )
    return jobs


def _complete_file(completer, image, mask, output, overwrite):
    if mask is None:
        raise UserError(f"{image}: there is no mask of this name among the masks; expected {image.stem}.png or so.")
    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists already; add --overwrite to replace it.")
    pixels, hole = images.read_image(image), images.read_mask(mask)
    if hole.shape != pixels.shape[:2]:
        sizes = [f"{width} x {height} px" for height, width in (hole.shape, pixels.shape[:2])]
        raise UserError(f"{mask}: has {sizes[0]}, but {image} has {sizes[1]}; expected a mask of the photo's size.")
    if hole.all():
        raise UserError(f"{mask}: is white all over, so nothing of {image} is known; expected white in the hole alone.")
    try:
        completed = completer.complete(pixels, hole)
    except MemoryError as error:
        raise UserError(f"{image}: {error} Make the photo smaller.") from error
    _make_folder(output.parent)
    images.write_image(output, completed)


def _make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror}); choose another --output.") from error


if __name__ == "__main__":
    flags.DEFINE_string("image", None, "Photo to complete, or folder of photos (any depth).", required=True)
    flags.DEFINE_string("mask", None, "Mask, white = hole, or folder of masks named as the photos.", required=True)
    flags.DEFINE_string(
        "output",
        None,
        "File to write; its suffix (jpg, png, bmp, webp) names the format. All but jpg keep the known pixels exactly. "
        "With folders, the folder to write to.",
        required=True,
    )
    flags.DEFINE_string("model", None, "Model file (.keras) that train.py wrote. By default the one of the package.")
    flags.DEFINE_bool(
        "overwrite", False, "Replace outputs that exist. Without it they are left alone and count as failures."
    )

    def main():
        args = flags.FLAGS
        return 1 if infer(args.image, args.mask, args.output, args.model, args.overwrite) else 0

    scripts.run(main)
