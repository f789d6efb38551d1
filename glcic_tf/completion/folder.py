"""Complete a photo or a folder of photos: pairs them with masks and outputs, and goes on where one fails."""

import contextlib
import time
import typing
from pathlib import Path

from glcic_tf.common import cli, files, storage
from glcic_tf.common.errors import UsageError, UserError
from glcic_tf.completion import mask_pairs, saved_masks
from glcic_tf.completion.run_report import RunReport
from glcic_tf.convert import model_names
from glcic_tf.imaging import image_formats, images, photo_folders
from glcic_tf.imaging.holes import ALPHA

# While one passes through the network, another is read or written. More would hold more photos in memory.
_PHOTOS_AT_ONCE = 2
UNREAD = "unread"  # in place of a mask: an image of a format that is not read
SUFFIXES = ", ".join(image_formats.PHOTO_SUFFIXES)


class Job(typing.NamedTuple):
    """Paths, or URLs, of one photo: `mask` may also be ALPHA, UNREAD or None, `saved_mask` None."""

    photo: typing.Any
    mask: typing.Any
    output: typing.Any
    saved_mask: typing.Any = None


def infer(
    image,
    mask,
    output,
    model=None,
    overwrite=False,
    dtype="float32",
    cluster=None,
    *,
    engine="tensorflow",
    skip_existing=False,
    report=None,
    save_mask=None,
    **options,
):
    """Complete one photo or a folder of photos, and say what was done.

    Args:
        image: photo, or folder of photos at any depth; path or URL, as are the next two.
        mask: mask of the photo, white = hole; with a folder of photos also a folder of masks; or "alpha": the hole is
            where a photo is transparent.
        output: image file to write (or a folder that exists); with a folder of photos the folder to write to. Folders
            are created.
        model: as for `Completer.load`.
        overwrite: replace outputs that exist; without it each counts as a failure.
        dtype, engine: as for `Completer.load`.
        cluster: `ray_cluster.Cluster` that does a folder, with the same files on all nodes; None: this process.
        skip_existing: leave out photos whose output exists, so that a run that was stopped goes on.
        report: file that gets a line of JSON for each photo, see docs/completion.md; None: none is written.
        save_mask: PNG file (or a folder that exists) for the mask that was used, white = hole; with a folder of photos
            the folder for the masks. Path or URL; None: none is written.
        **options: the others of `Completer.complete_file`.

    Returns:
        Number of photos that could not be completed; each is named on stderr, as are holes larger than those of the
        training. 0 if all went well.

    Raises:
        UserError: nothing could be tried at all, or the one photo could not be completed.
    """
    start = time.perf_counter()
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip_existing: name one of them.")
    image, output = storage.as_path(image), storage.as_path(output)
    mask = mask if mask == ALPHA else storage.as_path(mask)
    storage.check_writable(output)
    for flag, path in (("--image", image), ("--mask", mask)):
        if path != ALPHA and not storage.exists(path):
            raise UserError(f"{flag}={path}: there is no such file or folder; check the name.")
    folder = storage.is_folder(image)
    save_mask = save_mask and storage.as_path(save_mask)
    jobs = _folder_jobs(image, mask, output, save_mask) if folder else [_single_job(image, mask, output)]
    there = set() if overwrite else storage.existing([job.output for job in jobs], output)
    existing = [job for job in jobs if job.output in there]
    if len(existing) == len(jobs) and not skip_existing:
        raise UserError(
            f"{jobs[0].output}: exists already; add --overwrite to replace it, --skip_existing to leave it, or choose "
            "another --output."
        )
    if save_mask:
        saved = saved_masks.paths(save_mask, image, [job[:3] for job in jobs])
        there |= set() if overwrite else storage.existing(saved, save_mask)
        jobs = [job._replace(saved_mask=path) for job, path in zip(jobs, saved, strict=True)]
    report = RunReport(report)
    if skip_existing:
        for job in existing:
            report.add(job, "skipped")
        skipped = len(existing)
        jobs = [job for job in jobs if job.output not in there]
        if not folder and not jobs:
            print(f"{existing[0].output}: exists already, skipped")
            return 0
    else:
        skipped = 0

    if jobs:
        model_names.path_of(model, "--model")  # downloaded if need be
    for place in (output, save_mask) if folder else ():
        if place and not storage.is_remote(place):
            files.make_folder(place)  # before hours of work, not after
    given = ((model, dtype, engine), overwrite, there, options)
    if folder and cluster is not None:
        return cli.report_each(_done_by(cluster, given, jobs, report), len(jobs), skipped=skipped)
    if folder:
        work = _reported(_Completing(*given), report) if jobs else None
        return cli.for_each(jobs, work, threads=_PHOTOS_AT_ONCE, skipped=skipped)
    with cli.clock(image.name):
        done = _reported(_Completing(*given), report, say=False)(jobs[0])
    for note in done["notes"]:
        cli.say(f"{image}: {note}")
    print(_summary(jobs[0].output, done, time.perf_counter() - start))
    return 0


class _Completing:
    """Completes the photo of a job; made once in each process that does."""

    def __init__(self, loaded, overwrite, there, options):
        with cli.quiet_start():  # from here on it takes seconds
            from glcic_tf.completion.completer import Completer

            self._completer = Completer.load(*loaded)
        self._overwrite, self._there, self._options = overwrite, there, options

    def __call__(self, job, again=False):
        """Complete a photo, a second time perhaps; return what is to be told of it, as a dict of JSON values."""
        photo, mask, path, saved_mask = job
        if mask == UNREAD:
            raise UserError(f"{photo}: is of a format that is not read ({image_formats.READ} are); convert it.")
        if mask is None:
            raise UserError(f"{photo}: there is no mask of this name among the masks; expected {photo.stem}.png or so.")
        start = time.perf_counter()
        overwrite = self._overwrite or (again and self._there.isdisjoint((path, saved_mask)))
        with contextlib.ExitStack() as staged:
            here = staged.enter_context(storage.local_output(path, overwrite))
            photo = staged.enter_context(storage.local(photo))
            mask = mask if mask == ALPHA else staged.enter_context(storage.local(mask))
            saved_mask = staged.enter_context(saved_masks.local_output(saved_mask, overwrite))
            done = self._completer.complete_file(
                photo, mask, here, overwrite=overwrite, save_mask=saved_mask, **self._options
            )
        return done.told() | {"seconds": round(time.perf_counter() - start, 3)}


def _reported(completing, report, say=True):
    """Return a function of a job that completes it, says its notes and reports on it."""

    def work(job):
        try:
            done = completing(job)
        except UserError as error:
            report.add(job, "failed", error=str(error))
            raise
        report.add(job, "done", **done)
        for note in done["notes"] if say else ():
            cli.say(f"{job[0]}: {note}")
        return done

    return work


def _done_by(cluster, given, jobs, report):
    """Yield lines about each photo that a cluster has completed, and its error or None."""
    for job, done, error in cluster.workers(_Completing, given, jobs) if jobs else ():
        report.add(job, "failed", error=error) if error else report.add(job, "done", **done)
        yield [] if error else [f"{job[0]}: {note}" for note in done["notes"]], error


def _summary(output, done, seconds):
    """What was done with one photo, in a line."""
    size = f"{done['width_px']} x {done['height_px']} px, {storage.size(output) / 1e6:.1f} MB"
    scale = f" at {done['scale']:.2f} of the resolution" if done["scale"] != 1 else ""
    postprocess = " and ".join(done["postprocess"]) or "no post-process"
    return f"{output}: {size}; hole {done['hole_px']} px thick{scale}, {postprocess}; {seconds:.1f} s"


def _single_job(image, mask, output):
    if mask != ALPHA and storage.is_folder(mask):
        raise UserError(f"--mask={mask}: is a folder, but --image={image} is a file; name the mask of this photo.")
    output = _output_paths([Path(image.name)], output)[0] if storage.is_folder(output) else output
    images.check_writable_suffix(output)
    return Job(image, mask, output)


def _folder_jobs(folder, mask, output, save_mask):
    """Pair the images in a folder with masks: list of Job, without saved masks."""
    if storage.exists(output) and not storage.is_folder(output):
        raise UserError(f"--output={output}: is a file, but --image={folder} is a folder; name a folder.")
    # Outputs and masks of this or an earlier call may lie inside the folder of photos.
    others = [path for path in (mask, output, save_mask) if path and path != ALPHA and storage.is_inside(path, folder)]
    others = [path for path in others if not storage.is_inside(folder, path)]
    found = photo_folders.look_through(folder)
    for thumbnails in found.thumbnail_folders:
        cli.say(f"{thumbnails}: holds thumbnails that a system made; left out.")
    photos, unread = (
        [path for path in paths if not any(storage.is_inside(path, other) for other in others)]
        for paths in (found.photos, found.others)
    )
    one_for_all = mask == ALPHA or not storage.is_folder(mask)
    side_by_side = not one_for_all and storage.is_same(folder, mask)
    if side_by_side:
        masks = [path for path in photos if mask_pairs.is_named_as_mask(path.name)]
        photos = [path for path in photos if path not in set(masks)]
    elif not one_for_all:
        masks = photo_folders.find_photos(mask)
    if not photos:
        beside = " beside masks and outputs" if found.photos else f"; expected files that end in {SUFFIXES}"
        raise UserError(f"--image={folder}: holds no photo{beside}.")
    names = [path.relative_to(folder) for path in photos]
    mask_of = [mask] * len(photos)
    if not one_for_all:
        paired = mask_pairs.pair(names, [path.relative_to(mask) for path in masks])
        mask_of = [None if name is None else mask / name for name in paired]
        if not any(mask_of):
            raise UserError(
                f"--mask={mask}: no mask is named as a photo in {folder}; expected {names[0].stem}.png or so."
            )
    jobs = list(map(Job, photos, mask_of, _output_paths(names, output)))
    return jobs + [Job(path, UNREAD, output / path.relative_to(folder)) for path in unread]


def _output_paths(names, output):
    """Return where the results go: under the photos' names, with another suffix where the format is not written."""
    taken, paths = {name for name in names if name.suffix.lower() in images.WRITTEN_SUFFIXES}, []
    for name in names:
        path = name
        if name not in taken:
            path = name.with_suffix(image_formats.written_as(image_formats.of(name.suffix)).suffixes[0])
            path = name.with_name(name.name + path.suffix) if path in taken else path
            taken.add(path)
        paths.append(output / path)
    return paths
