"""What a training run shows: a line of stats.jsonl, TensorBoard, a progress bar or plain lines, sample grids."""

import contextlib
import logging
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from glcic_tf.common import files, random_streams
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.data.random_holes import draw_hole
from glcic_tf.evaluation import metrics
from glcic_tf.imaging import images, pictures
from glcic_tf.training import patches, stats

_logger = logging.getLogger(__name__)


class Monitor:
    """Writes into a run's folder, always appending to what is there, and to the terminal."""

    def __init__(self, workdir, step, total_steps):
        self.workdir = Path(workdir)
        self.stats = stats.StatsFile(self.workdir / "stats.jsonl")
        self.events = self.workdir / "tensorboard" / self.workdir.resolve().name  # the run's name in TensorBoard
        with _written(self.events):
            self.writer = tf.summary.create_file_writer(str(self.events))
        self.bar = tqdm(total=total_steps, initial=step, unit="step", disable=not sys.stderr.isatty())
        self.begin, self.first_step, self.total_steps = time.monotonic(), step, total_steps

    def advance(self, step, phase):
        """Move the progress bar."""
        self.bar.set_description(phase, refresh=False)
        self.bar.update(step - self.bar.n)

    def scalars(self, step, stage, values):
        """Record named numbers of a step."""
        self.stats.append(step, stage, values)
        with _written(self.events), self.writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(stats.tag(name), value)
            self.writer.flush()
        if "images_per_second" in values:
            self.bar.set_postfix_str(f"{values['images_per_second']:.1f} images/s", refresh=False)
        if self.bar.disable:
            _logger.info(f"{stage.name}  step {step}/{self.total_steps}  {self._time_left(step)}{stats.shown(values)}")

    def grid(self, step, picture):
        """Keep a sample grid, uint8 [height, width, 3]."""
        folder = self.workdir / "samples"
        files.make_folder(folder)
        images.write_image(folder / f"{step:07d}.png", picture)
        with _written(self.events), self.writer.as_default(step=step):
            tf.summary.image("validation/samples", picture[None])
            self.writer.flush()

    def close(self):
        """Finish what was written."""
        self.bar.close()
        with contextlib.suppress(tf.errors.OpError):  # on a full disk, which an earlier error has reported
            self.writer.close()

    def _time_left(self, step):
        done = step - self.first_step
        if done <= 0:
            return ""
        minutes, seconds = divmod(int((time.monotonic() - self.begin) / done * (self.total_steps - step)), 60)
        return f"left {minutes // 60}:{minutes % 60:02d}:{seconds:02d}  "


class SilentMonitor:
    """Stands in for a Monitor in the workers that are not the chief."""

    def advance(self, step, phase):
        """Do nothing."""

    def scalars(self, step, stage, values):
        """Do nothing."""

    def grid(self, step, picture):
        """Do nothing."""

    def close(self):
        """Do nothing."""


@contextlib.contextmanager
def _written(folder):
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"{folder}: cannot be written ({first_line(error)}); check free space and permissions."
        ) from error


class Validation:
    """Fixed photos with fixed holes, completed now and then to show the progress of training.

    Args:
        photos: an examples.Photos; the central square of each is used; those that cannot be decoded are left out.
        state: the TrainState whose network completes them.
        stage: the stage whose sizes and holes they get.
        seed: the seed that the holes are drawn from.
    """

    def __init__(self, photos, state, stage, seed):
        size = stage.image_size
        self.stage = stage
        crops, masks = [], []
        for index in range(len(photos.paths)):
            if photos.read(index) is None:
                continue
            crops.append(photos.crop(index, size, size, (0.5, 0.5)))
            rng = random_streams.stream(seed, random_streams.VALIDATION_HOLE, index)
            masks.append(draw_hole(rng, size, stage.hole)[0].astype(np.float32))
        if not crops:
            raise UserError(
                f"{photos.paths[0].parent}: none of the {len(photos.paths)} validation photos can be decoded."
            )
        self.images, self.masks = np.stack(crops), np.stack(masks)
        self.strategy = state.strategy

        @tf.function(autograph=False)
        def complete(image, mask):
            completed = state.result({"image": image, "mask": mask}, training=False)
            return patches.composite(completed, image, mask)

        self._network = complete

    def run(self, shown):
        """Complete all photos.

        Returns:
            (means of l1, PSNR in the hole and sharpness by name, grid of the first `shown` photos as uint8 [height,
            width, 3]).
        """
        completed = self._complete()
        triples = list(zip(self.images, completed, self.masks[..., 0], strict=True))
        figures = {
            "val_l1": float(np.mean([metrics.l1_in_hole(*triple) for triple in triples])),
            "val_psnr_hole": float(np.mean([metrics.psnr_in_hole(*triple) for triple in triples])),
            "val_sharpness": float(np.nanmean([metrics.sharpness(*triple) for triple in triples])),
        }
        grid = [pictures.comparison(*triple) for triple in triples[:shown]]
        return figures, np.concatenate(grid)

    def _complete(self):
        results = []
        batch = min(self.stage.batch_size, len(self.images))
        for begin in range(0, len(self.images), batch):
            part = slice(begin, begin + batch)
            image = tf.constant(self.images[part], tf.float32) / 255.0
            output = self.strategy.run(self._network, args=(image, tf.constant(self.masks[part])))
            results.append(self.strategy.experimental_local_results(output)[0].numpy())
        return np.clip(np.rint(np.concatenate(results) * 255), 0, 255).astype(np.uint8)
