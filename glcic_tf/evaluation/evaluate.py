"""Compare networks and baselines on a folder of photos, and write the report."""

import collections
import os
import platform
import time
import typing
from importlib import metadata

import cv2
import numpy as np
from pebble import ProcessExpired
from tqdm import tqdm

from glcic_tf.common import cli, storage
from glcic_tf.common.errors import UsageError, UserError, first_line
from glcic_tf.common.process_pool import process_pool
from glcic_tf.data import sources
from glcic_tf.evaluation import appearance, baselines, metrics, protocols, report
from glcic_tf.evaluation.measurements import Measurements
from glcic_tf.evaluation.methods import check as check_methods
from glcic_tf.evaluation.methods import load as load_methods

_MAX_CANDIDATES = 500  # photos whose pictures are kept until it is known which to show
_AHEAD = 8  # tasks per process that are scheduled ahead; bounds the memory of results until they are added
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]
_OWN_PICTURES = ("original", "masked")  # in the gallery, beside those of the methods
_VERSIONS = ("tensorflow", "keras", "numpy", "opencv-contrib-python-headless", "scikit-image", "PyPatchMatch")


def evaluate(
    folder,
    output,
    protocol,
    models=(None,),
    methods=tuple(baselines.METHODS),
    postprocess=("none",),
    scale=1,
    workers=0,
    gallery=48,
    limit=None,
    lpips_weights=None,
    fid_weights=None,
    overwrite=False,
    cluster=None,
):
    """Measure every method on every photo and write a report.

    Args:
        folder: folder of photos, at any depth; path or URL.
        output: folder of the report; path or URL.
        protocol: a protocols.Protocol.
        models: `.keras` files and SavedModel folders; None is the package's weights.
        methods: names in baselines.METHODS.
        postprocess: names in postprocesses.POSTPROCESSES; each model is measured with each (SavedModels without).
        scale: as for `Completer.complete`, for the models (SavedModels have 1).
        workers: processes for the baselines; 0: one for each core.
        gallery: how many photos to show.
        limit: measure so many of the photos, evenly spread; None: all.
        lpips_weights, fid_weights: measure LPIPS or FID too, see `appearance.load_networks`; None: do not measure it.
        overwrite: replace a report that is there.
        cluster: `ray_cluster.Cluster` whose workers complete and measure, with the same files on all nodes; None: this
            machine.

    Returns:
        {method: {metric: bootstrap.Mean}}, models first.

    Raises:
        UserError: nothing can be measured, or a flag names something that does not exist.
    """
    methods = list(dict.fromkeys(methods))
    _check(folder, output, protocol, models, methods)
    photos = protocols.find_photos(folder, (protocol.masks, output))
    photos = photos if limit is None else sources.spread(photos, limit)
    jobs, notes = protocols.make_jobs(photos, protocol, folder)
    with storage.replacing_folder(output, overwrite, "a report", "metrics.json", report.MEMBERS) as temporary:
        networks = load_methods(models, postprocess, scale, _OWN_PICTURES)
        kept = {job.name for job in sources.spread(jobs, _MAX_CANDIDATES)} if gallery else set()
        with cli.quiet_start():
            looks, missing = appearance.load_networks(lpips_weights, fid_weights)
        measurements = Measurements(looks)
        workers = workers or os.cpu_count()
        if cluster is None:
            _measure_all(measurements, jobs, networks, methods, workers, kept)
        else:
            _measure_by(cluster, measurements, jobs, (models, postprocess, scale, methods), kept)
        names = [*networks, *methods]
        rows, problems = measurements.rows(names), measurements.problems()
        if not rows:
            raise UserError(_nothing_measured(folder, protocol, len(jobs), measurements, problems))
        for line in problems:
            cli.say(line)
        means = {name: measurements.means(name) for name in names}
        notes = [*measurements.notes(protocol.size), *missing, *notes]
        notes += _circumstances(networks, methods, scale, workers, cluster)
        pictures, extremes = measurements.gallery(names[0], gallery)
        report.write(
            temporary,
            f"Image completion: {protocol.describe()}",
            notes,
            problems,
            rows,
            {name: {metric: mean._asdict() for metric, mean in values.items()} for name, values in means.items()},
            {name: {area: mean._asdict() for area, mean in measurements.by_area(name).items()} for name in names},
            measurements.areas,
            pictures,
            extremes,
        )
    for note in notes:
        print(note)
    return means


def _check(folder, output, protocol, models, methods):
    check_methods(folder, output, models, methods)
    if protocol.masks is not None and storage.is_same(protocol.masks, folder):
        raise UsageError(f"--masks={protocol.masks}: is the folder of the photos; name the folder of the masks.")


def _nothing_measured(folder, protocol, jobs, measurements, problems):
    reason = f" ({problems[0]})" if problems else ""
    return (
        f"--images={folder}: none of {jobs} photos could be measured: {measurements.too_small} are smaller than "
        f"{protocol.size} px, {len(measurements.skipped)} cannot be used, {measurements.failures()} completions "
        f"failed{reason}; use other photos, or a smaller --size with --hole_min and --hole_max."
    )


def _circumstances(networks, methods, scale, workers, cluster):
    """Notes about what else the figures and the times depend on."""
    notes = [f"Models complete with --scale={scale} (SavedModels: 1)."] if networks and scale != 1 else []
    if cluster is not None:
        return [*notes, f"Times: on a cluster, up to {cluster.slots()} photos at once.", _versions()]
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    alone = ["models one photo after the other"] if networks else []
    shared = [f"other methods in {workers} processes at once"] if methods else []
    notes.append(f"Times: {machine}; {', '.join(alone + shared)}.")
    return [*notes, _versions()]


def _versions():
    installed = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    return ", ".join(f"{name} {metadata.version(name)}" for name in _VERSIONS if name in installed) + "."


def _measure_all(measurements, jobs, networks, methods, workers, kept):
    """Measure networks first, alone, so that their times mean something, then the baselines in processes."""
    tasks = [(job, method) for job in jobs for method in methods]
    with tqdm(total=len(jobs) * bool(networks) + len(tasks), unit="step", disable=None, leave=False) as bar:
        if networks:
            measure(jobs[0], networks, False)  # traces the graphs, so that it does not count as the first photo's time
            for job in jobs:
                measurements.add(job.name, measure(job, networks, job.name in kept))
                bar.update()
        if not methods:
            return
        with process_pool(workers) as pool:
            for job, method, future in _scheduled(pool, tasks, kept, workers * _AHEAD):
                try:
                    measurements.add(job.name, future.result())
                except ProcessExpired as error:  # a library crashed, or the system killed it to free memory
                    measurements.add_failure(job.path, f"{method} failed: its process ended with {error.exitcode}")
                bar.update()


class _Measuring:
    """Measures all methods on the photo of a job, on another machine."""

    def __init__(self, models, postprocess, scale, methods):
        networks = load_methods(models, postprocess, scale, _OWN_PICTURES)
        self._methods = networks | {name: baselines.METHODS[name] for name in methods}

    def __call__(self, job, again=False):
        number, job, kept = job
        return measure(job, self._methods, kept)


def _measure_by(cluster, measurements, jobs, given, kept):
    """Measure on a cluster; photos are added in their order, so that figures are the same as on one machine."""
    numbered = [(number, job, job.name in kept) for number, job in enumerate(jobs)]
    ready, next_one = {}, 0
    with tqdm(total=len(jobs), unit="photo", disable=None, leave=False) as bar:
        for (number, job, _), measured, error in cluster.workers(_Measuring, given, numbered):
            if error:
                measurements.add_failure(job.path, error)
            ready[number] = job, measured, error
            while next_one in ready:
                job, measured, error = ready.pop(next_one)
                if not error:
                    measurements.add(job.name, measured)
                next_one += 1
            bar.update()


def _scheduled(pool, tasks, kept, ahead):
    """Yield (job, method, future) of each task, in order, while up to `ahead` later ones are worked on."""
    waiting = collections.deque()
    for job, method in tasks:
        waiting.append((job, method, pool.schedule(measure, (job, [method], job.name in kept))))
        if len(waiting) > ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


class Measured(typing.NamedTuple):
    """Results of methods on one photo.

    Attributes:
        hole: [size, size] bool.
        found: {method: {metric: float}}, with those of metrics.all_metrics, and seconds.
        failed: [(path, message)] of methods that failed.
        images: {method: [size, size, 3] uint8}, and "original".
        pictures: {method: bytes of a JPEG}, "original" and "masked"; empty unless asked for.
    """

    hole: np.ndarray
    found: dict
    failed: list
    images: dict
    pictures: dict


def measure(job, methods, with_pictures):
    """Measure methods on one photo.

    Args:
        job: a protocols.Job.
        methods: names in baselines.METHODS, or dict of name -> function.
        with_pictures: whether to return JPEGs too.

    Returns:
        `Measured`; None if the photo is smaller than the crop; a message if it or its mask cannot be used.
    """
    methods = methods if isinstance(methods, dict) else {name: baselines.METHODS[name] for name in methods}
    try:
        sample = protocols.sample(job)
    except UserError as error:
        return str(error)
    if sample is None:
        return None
    original, hole = sample
    masked = np.where(hole[..., None], 0, original).astype(np.uint8)  # no method sees what was there
    found, failed, pictures, completions = {}, [], {}, {"original": original}
    if with_pictures:
        white = np.where(hole[..., None], 255, original).astype(np.uint8)
        pictures = {"original": _jpeg(original), "masked": _jpeg(white)}
    for name, complete in methods.items():
        start = time.perf_counter()
        try:
            completed = complete(masked.copy(), hole)
        except (ValueError, RuntimeError) as error:
            failed.append((job.path, first_line(error)))
            continue
        seconds = time.perf_counter() - start
        found[name] = metrics.all_metrics(original, completed, hole) | {"seconds": seconds}
        if with_pictures:
            pictures[name] = _jpeg(completed)
        completions[name] = completed
    return Measured(hole, found, failed, completions, pictures)


def _jpeg(image):
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG)[1].tobytes()
