"""Compare networks and baselines on a folder of photos: measures, and writes the report."""

import collections
import contextlib
import multiprocessing
import os
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

from glcic_tf import baselines, fid, files, metrics, photo_folder, protocols, report, scripts, summary
from glcic_tf.errors import UserError, first_line

_MAX_CANDIDATES = 500  # photos whose pictures are kept until it is known which to show
_EXTREMES = 6  # best and worst cases in the gallery
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]


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
    fid_weights=None,
    overwrite=False,
):
    """Measure every method on every photo and write a report.

    Args:
        folder: photos, at any depth.
        output: folder of the report.
        protocol: a protocols.Protocol.
        models: `.keras` files and SavedModel folders; None is the package's weights.
        methods: names in baselines.METHODS.
        postprocess: names in completer.POSTPROCESSES; each model is measured with each (SavedModels without).
        scale: of `Completer.complete`, for the models (SavedModels have 1).
        workers: processes for the baselines; 0: one for each core.
        gallery: how many photos to show.
        limit: measure so many of the photos, evenly spread; None: all.
        fid_weights: measure FID too, with these weights of InceptionV3, see `fid.load_network`; None: do not.
        overwrite: replace a report that is there.

    Returns:
        {method: {metric: summary.Mean}}, models first.

    Raises:
        UserError: nothing can be measured, or a flag names what is not there.
    """
    unknown = [name for name in methods if name not in baselines.METHODS]
    if unknown:
        raise UserError(f"--methods={','.join(unknown)}: expected some of {', '.join(baselines.METHODS)}.")
    photos = protocols.find_photos(folder, (protocol.masks, output))
    photos = photos if limit is None else photo_folder.spread(photos, limit)
    jobs, notes = protocols.make_jobs(photos, protocol, folder)
    with files.replacing_folder(output, overwrite, "a report", "metrics.json", report.MEMBERS) as temporary:
        kept = {job.name for job in photo_folder.spread(jobs, _MAX_CANDIDATES)} if gallery else set()
        networks = _networks(models, postprocess, scale)
        results = _Results(fid.load_network(fid_weights) if fid_weights else None)
        with_pixels = bool(fid_weights)
        with _pool(workers or os.cpu_count()) as pool:
            tasks = [(job, method) for job in jobs for method in methods]
            waiting = [pool.schedule(_measure, (job, [method], job.name in kept, with_pixels)) for job, method in tasks]
            with tqdm(total=len(jobs) + len(tasks), unit="step", disable=None, leave=False) as bar:
                for job in jobs:
                    results.add(job.name, _measure(job, networks, job.name in kept, with_pixels))
                    bar.update()
                for (job, method), future in zip(tasks, waiting, strict=True):
                    try:
                        results.add(job.name, future.result())
                    except ProcessExpired as error:  # a library crashed, or the system ended it to get memory back
                        ended = f"its process ended with code {error.exitcode}"
                        results.failed.append(f"{job.path}: {method} failed ({ended}).")
                    bar.update()
        names = [*networks, *methods]
        rows = results.rows(names)
        if not rows:
            reasons = f" ({results.skipped[0]})" if results.skipped else ""
            raise UserError(
                f"--images={folder}: none of {len(jobs)} photos could be measured: {results.too_small} are smaller "
                f"than {protocol.size} px, {len(results.skipped)} failed{reasons}."
            )
        means = {name: _summarise([row for row in rows if row["method"] == name]) for name in names}
        means = {name: values | results.fid(name) for name, values in means.items() if values}
        for line in results.skipped + results.failed:
            scripts.say(line)
        notes = [*results.notes(protocol), *notes, *([] if scale == 1 else [f"Models complete with --scale={scale}."])]
        report.write(
            temporary,
            f"Image completion: {protocol.describe()}",
            notes,
            rows,
            {name: {metric: mean._asdict() for metric, mean in values.items()} for name, values in means.items()},
            {name: _by_area([row for row in rows if row["method"] == name], results.areas) for name in means},
            results.areas,
            results.chosen(names[0], gallery),
        )
    for note in notes:
        print(note)
    return means


@contextlib.contextmanager
def _pool(workers):
    """Processes for the baselines. Those of pebble, since one that dies takes only its own task with it."""
    context = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
    with ProcessPool(workers, initializer=cv2.setNumThreads, initargs=(1,), context=context) as pool:
        try:
            yield pool
        except BaseException:
            pool.stop()  # or leaving would wait for all that was scheduled
            raise


class _Results:
    """What was measured so far."""

    def __init__(self, network=None):
        self._network, self._features = network, {}
        self.found, self.areas, self.pictures = collections.defaultdict(dict), {}, collections.defaultdict(dict)
        self.skipped, self.failed, self.too_small = [], [], 0
        self._seen = set()

    def add(self, name, measured):
        """Add what `_measure` returned for a photo; what concerns the photo itself is counted once."""
        first = name not in self._seen
        self._seen.add(name)
        if isinstance(measured, str):
            if first:
                self.skipped.append(measured)
            return
        if measured is None:
            self.too_small += first
            return
        area, found, failed, pictures, pixels = measured
        for method, image in pixels.items():
            if method != "original" or first:
                statistics = self._features.setdefault(method, fid.Statistics(self._network.output_shape[-1]))
                statistics.add(fid.features(image[None], self._network))
        self.areas[name] = area
        self.found[name] |= found
        self.failed += failed
        self.pictures[name] |= pictures

    def fid(self, method):
        """FID of a method as a part of its means; empty if it was not asked for, or there are under two photos."""
        if method not in self._features or self._features[method].n < 2:
            return {}
        distance = fid.distance(self._features["original"], self._features[method])
        return {"fid": summary.Mean(distance, float("nan"), float("nan"), self._features[method].n)}

    def rows(self, methods):
        """Rows of the table: by photo, then in the order of the methods."""
        return [
            {"image": name, "method": method, **self.found[name][method]}
            for name in sorted(self.found)
            for method in methods
            if method in self.found[name]
        ]

    def notes(self, protocol):
        """Say how many photos were measured, and how many were not and why."""
        notes = [f"{len(self.found)} photos measured."]
        if self.too_small:
            notes.append(f"{self.too_small} photos skipped: smaller than {protocol.size} px.")
        if self.skipped:
            notes.append(f"{len(self.skipped)} photos skipped: they or their masks cannot be used.")
        if self.failed:
            notes.append(f"{len(self.failed)} completions failed.")
        capped = sum(found["psnr_hole"] >= metrics.PSNR_CAP_DB for by in self.found.values() for found in by.values())
        if capped:
            notes.append(f"{capped} completions are perfect; their PSNR counts as {metrics.PSNR_CAP_DB:g} dB.")
        return notes

    def chosen(self, method, count):
        """Pictures to show: the best and the worst cases of a method, and others evenly spread."""
        names = sorted(name for name, shown in self.pictures.items() if shown)
        measured = sorted(
            (name for name in names if method in self.found[name]), key=lambda n: self.found[n][method]["psnr_hole"]
        )
        extremes = min(_EXTREMES, count // 4)
        taken = {*measured[:extremes], *measured[len(measured) - extremes :]}
        rest = [name for name in names if name not in taken]
        taken |= set(photo_folder.spread(rest, max(0, count - len(taken))))
        return {name: self.pictures[name] for name in sorted(taken)}


def _measure(job, methods, with_pictures, with_pixels=False):
    """Measure methods on one photo.

    Args:
        job: a protocols.Job.
        methods: names in baselines.METHODS, or dict of name -> function.
        with_pictures, with_pixels: whether to return JPEGs, and the completed images themselves.

    Returns:
        (area, {method: metrics and seconds}, messages of methods that failed, {name: JPEG}, {name: uint8 array}); None
        if the photo is smaller than the crop; a message if it or its mask cannot be used.
    """
    methods = methods if isinstance(methods, dict) else {name: baselines.METHODS[name] for name in methods}
    try:
        sample = protocols.sample(job)
    except UserError as error:
        return str(error)
    if sample is None:
        return None
    original, hole = sample
    masked = np.where(hole[..., None], 0, original).astype(np.uint8)  # no method sees what stood there
    found, failed, pictures, pixels = {}, [], {}, {"original": original} if with_pixels else {}
    if with_pictures:
        white = np.where(hole[..., None], 255, original).astype(np.uint8)
        pictures = {"original": _jpeg(original), "masked": _jpeg(white)}
    for name, complete in methods.items():
        start = time.perf_counter()
        try:
            completed = complete(masked.copy(), hole)
        except (ValueError, RuntimeError, MemoryError) as error:
            failed.append(f"{job.path}: {name} failed ({first_line(error)}).")
            continue
        seconds = time.perf_counter() - start
        found[name] = metrics.all_metrics(original, completed, hole) | {"seconds": seconds}
        if with_pictures:
            pictures[name] = _jpeg(completed)
        if with_pixels:
            pixels[name] = completed
    return float(hole.mean()), found, failed, pictures, pixels


def _jpeg(image):
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG)[1].tobytes()


def _summarise(rows):
    """Means of the metrics with their intervals, and of the seconds, over the photos that a method completed."""
    if not rows:
        return {}
    means = {metric: summary.mean_interval([row[metric] for row in rows]) for metric in report.METRICS}
    seconds = summary.Mean(float(np.median([row["seconds"] for row in rows])), float("nan"), float("nan"), len(rows))
    return means | {"seconds": seconds}


def _by_area(rows, areas):
    values = summary.by_area([areas[row["image"]] for row in rows], [row["psnr_hole"] for row in rows])
    return {name: mean._asdict() for name, mean in values.items()}


def _networks(models, postprocess, scale):
    """Load models: {name: function}, named as their files."""
    if not models:
        return {}
    for path in models:
        if path is not None and not Path(path).exists():
            raise UserError(f"--models={path}: there is no such file or folder; check the name.")
    with scripts.quiet_start():  # from here on it takes seconds
        from glcic_tf.completer import Completer

    found = {}
    for path in models:
        name = "glcic" if path is None else Path(path).stem
        name = name if name not in found else str(path)
        if path is not None and Path(path).is_dir():
            found[name] = _saved_model(path)
            continue
        completer = Completer.load(path)
        for kind in postprocess:
            found[name if kind == "none" else f"{name}+{kind}"] = _with(completer, kind, scale)
    return found


def _with(completer, postprocess, scale):
    from glcic_tf.completer import HoleSizeWarning

    def complete(image, hole):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HoleSizeWarning)  # the protocol's holes are what they are
            return completer.complete(image, hole, scale=scale, postprocess=postprocess)

    return complete


def _saved_model(path):
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(path)
        signature = loaded.signatures["serving_default"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise UserError(f"--models={path}: is no SavedModel of a completion network ({first_line(error)}).") from error

    def complete(image, hole, loaded=loaded):  # the signature dies with what was loaded
        mask = np.where(hole, 255, 0).astype(np.uint8)
        return signature(image=tf.constant(image[None]), mask=tf.constant(mask[None, ..., None]))["completed"][
            0
        ].numpy()

    return complete
