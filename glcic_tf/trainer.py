"""Train the networks (paper, section 3.5): phases as data, checkpoints, resuming, and what a run leaves behind.

A run's folder holds `config.json`, `checkpoints/`, `stats.jsonl`, `tensorboard/`, `samples/` and, at the end of each
phase, `<phase>.keras`: the completion network as a model file.
"""

import contextlib
import json
import logging
import os
import signal
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from glcic_tf import data, devices, images, model_file, precision, schedule, steps
from glcic_tf.checkpoints import Checkpoints
from glcic_tf.errors import UserError
from glcic_tf.monitor import Monitor, Validation, Window

_logger = logging.getLogger(__name__)


def train(config, data_dir, workdir, phase="all", strategy="auto", val_dir=None, tpu=""):
    """Train until the phase is over, from the newest checkpoint in the run's folder if there is one.

    Args:
        config: ConfigDict with the fields of configs/default.py.
        data_dir: folder of photos.
        workdir: the run's folder; made if need be.
        phase: `completion`, `discriminator` or `joint`: that phase alone; `all`: whatever is left to do.
        strategy, tpu: as in `devices.make_strategy`.
        val_dir: folder of photos for the sample grid and the validation figures; None: some are held out.

    Returns:
        True if the phase is over, False if a signal stopped the run, which can then be resumed.

    Raises:
        UserError: something given contradicts itself, the run's folder or the data; or the loss is no number any more.
    """
    stages = schedule.resolve(config)
    strategy = devices.make_strategy(strategy, tpu)
    schedule.check_replicas(stages, strategy.num_replicas_in_sync)
    if config.jit_compile and strategy.num_replicas_in_sync > 1:
        raise UserError("config.jit_compile: works with one replica only; unset it, or choose another --strategy.")
    run = _Run(config, stages, strategy, Path(workdir))
    todo = run.stages_to_do(phase)
    if not todo:
        _logger.info("%s: %s is finished: step %d of %d.", workdir, _what(phase), run.step, stages[-1].end)
        return True
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    photos, val_photos = _find_photos(config, data_dir, val_dir, max(stage.batch_size for stage in todo))
    run.prepare(photos, todo[0])
    with _stop_on_signals() as stopped, contextlib.closing(Monitor(workdir, run.step, todo[-1].end)) as monitor:
        for stage in todo:
            run.train_stage(stage, photos, val_photos, monitor, stopped)
            if stopped:
                _logger.info("stopped and saved at step %d; the same command goes on from there", run.step)
                return False
    _logger.info("%s: %s is finished: step %d of %d.", workdir, _what(phase), run.step, stages[-1].end)
    return True


class _Run:
    """One run: its folder, its position and its state."""

    def __init__(self, config, stages, strategy, workdir):
        self.config, self.stages, self.strategy, self.workdir = config, stages, strategy, workdir
        self.checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoints_kept)
        self.resolved = schedule.to_dict(config)
        self.state = None
        self.latest = self.checkpoints.latest()
        self.meta = self.latest[1] if self.latest else None
        self.step = self.meta["step"] if self.latest else 0
        if self.latest:
            self._check_config()

    def _check_config(self):
        found = schedule.contradictions(self.meta["config"], self.resolved, self.step)
        if found:
            shown = "; ".join(f"config.{field} was {then!r}, is {now!r}" for field, then, now in found[:5])
            more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
            raise UserError(
                f"{self.workdir} holds a run at step {self.step} with another config: {shown}{more}. "
                "Give the same config to resume it, or another --workdir to start anew."
            )

    def stages_to_do(self, phase):
        """The stages that this call is to train; empty if they are done."""
        left = [stage for stage in self.stages if stage.end > self.step]
        if phase == "all":
            return left
        if phase not in schedule.PHASES:
            raise UserError(f"--phase={phase}: expected one of {', '.join(schedule.PHASES)} or all.")
        if not any(stage.phase == phase for stage in self.stages):
            raise UserError(f"--phase={phase}: the config has no stage of this phase.")
        if phase not in [stage.phase for stage in left]:
            return []
        if left[0].phase != phase:
            if not self.latest and self.config.init_from:
                left = left[[stage.phase for stage in left].index(phase) :]
                self.step = left[0].start
                if phase == "joint":
                    _logger.warning("--phase=joint from a model file: the discriminator starts untrained.")
            elif not self.latest:
                raise UserError(
                    f"--phase={phase} needs a trained completion network, and {self.workdir} holds no checkpoint: "
                    "run --phase=completion first, or name a model file with --config.init_from."
                )
            else:
                raise UserError(
                    f"--phase={phase}: the run in {self.workdir} is in its {left[0].phase} phase (step {self.step} "
                    f"of {left[0].end}); run --phase={left[0].phase} first, or --phase=all."
                )
        others = [i for i, stage in enumerate(left) if stage.phase != phase]
        return left[: others[0]] if others else left

    def prepare(self, photos, first):
        """Make the state: from the newest checkpoint, from a model file, or from random weights."""
        source = model_file.load(self.config.init_from) if self.config.init_from and not self.latest else None
        mean_pixel = self._mean_pixel(photos, source)
        self.state = steps.TrainState(self.config, mean_pixel, self.strategy)
        self.meta = {"config": self.resolved, "mean_pixel": list(mean_pixel), "photos": len(photos.paths)}
        self._make_folder(mean_pixel)
        if self.latest:
            path, meta = self.latest
            if meta["photos"] != len(photos.paths):
                _logger.warning(
                    "the run began with %d photos and there are %d now: their order differs from here on",
                    meta["photos"],
                    len(photos.paths),
                )
            entered = [meta["completion_stage"], meta["stage"]]  # the first made C's optimiser, the second the rest
            for index in dict.fromkeys(i for i in entered if i is not None):
                self.state.enter(self.stages[index])
            self.checkpoints.restore(path, self.state)
            _logger.info("resumed %s at step %d", path, self.step)
        elif source is not None:
            model_file.copy_weights(source, self.state.completion, f"config.init_from={self.config.init_from}")
            self.state.completion.get_layer("mean_pixel").set_weights([np.reshape(mean_pixel, (1, 1, 1, 3))])
            with self.strategy.scope():
                self.state.step.assign(self.step)
            _logger.info("starts from %s at step %d (%s)", self.config.init_from, self.step, first.phase)

    def _make_folder(self, mean_pixel):
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            _write_json(self.workdir / "config.json", self.resolved)
            _write_json(self.workdir / "mean_pixel.json", list(mean_pixel))
        except OSError as error:
            raise UserError(
                f"--workdir={self.workdir}: cannot be written ({error.strerror}); choose another."
            ) from error

    def _mean_pixel(self, photos, source):
        if self.latest:
            return self.latest[1]["mean_pixel"]
        given = tuple(self.config.data.mean_pixel)
        if min(given) >= 0:
            return given
        if source is not None:
            return tuple(float(x) for x in source.get_layer("mean_pixel").get_weights()[0].ravel())
        mean = data.mean_pixel(photos, self.config.data.mean_photos, self.config.seed)
        _logger.info("mean pixel of the photos: %.4f %.4f %.4f", *mean)
        return mean

    def train_stage(self, stage, photos, val_photos, monitor, stopped):
        """Train what is left of a stage."""
        if not self.latest or self.latest[1]["stage"] != stage.index:
            self.state.enter(stage)
        config, state = self.config, self.state
        dataset = data.batches(photos, stage, config.seed, self.step, config.data.mirror, config.data.workers)
        iterator = iter(self.strategy.experimental_distribute_dataset(dataset))
        loop = steps.make_loop(state, stage, config.jit_compile, time_input=not config.deterministic)
        validation = Validation(val_photos, state, stage, config.seed) if val_photos else None
        window, saved_at = Window(), time.monotonic()
        while self.step < stage.end and not stopped:
            n = self._steps_until_due(stage)
            begin = time.monotonic()
            try:
                result = {name: value.numpy() for name, value in loop(iterator, tf.constant(n)).items()}
            except tf.errors.OpError as error:
                if photos.error:
                    raise UserError(photos.error) from error
                raise
            window.add(result, n, time.monotonic() - begin)
            self.step += n
            self._check_finite(int(result["bad_step"]))
            monitor.advance(self.step, stage.phase)
            over = self.step == stage.end
            if over or self.step % config.log_every_steps == 0:
                monitor.scalars(self.step, stage, window.summary(stage, state))
                window = Window()
            if validation and (over or self.step % config.sample_every_steps == 0):
                figures, grid = validation.run(config.sample_photos)
                monitor.scalars(self.step, stage, figures)
                monitor.grid(self.step, grid)
            if over and photos.too_small:
                _logger.info("%d photos are smaller than the crops and were left out so far", len(photos.too_small))
            if over and self._ends_phase(stage):
                self._save_model(stage)
            due = config.checkpoint_every_steps > 0 and self.step % config.checkpoint_every_steps == 0
            late = 0 < config.checkpoint_every_minutes * 60 < time.monotonic() - saved_at
            if over or due or late or stopped:
                self._save(stage)
                saved_at = time.monotonic()

    def _steps_until_due(self, stage):
        c = self.config
        periods = [c.steps_per_loop, c.log_every_steps, c.sample_every_steps, c.checkpoint_every_steps]
        due = [period - self.step % period for period in periods[1:] if period > 0]
        return min(c.steps_per_loop, stage.end - self.step, *due)

    def _check_finite(self, bad_step):
        scale = self.state.loss_scale()
        if scale is None and bad_step >= 0:
            raise UserError(f"step {bad_step}: the loss is not a finite number. {self._last_good()}")
        if scale is not None and scale < precision.MIN_LOSS_SCALE:
            raise UserError(
                f"step {self.step}: the loss scale fell to {scale:g}, the loss overflows. {self._last_good()}"
            )

    def _last_good(self):
        path = tf.train.latest_checkpoint(str(self.checkpoints.folder))
        kept = f"the last good checkpoint is kept: {path}" if path else "no checkpoint was saved yet"
        return f"Lower the learning rate or use another precision; {kept}."

    def _ends_phase(self, stage):
        after = self.stages[stage.index + 1 :]
        return not after or after[0].phase != stage.phase

    def _save(self, stage):
        networks_ = [self.state.completion, self.state.discriminator]
        for network in filter(None, networks_):
            for variable in network.variables:
                if not np.all(np.isfinite(keras.ops.convert_to_numpy(variable))):
                    raise UserError(f"step {self.step}: {variable.path} is not finite. {self._last_good()}")
        position = {"step": self.step, "phase": stage.phase, "stage": stage.index}
        self.checkpoints.save(self.state, {**position, "completion_stage": self.state.completion_stage, **self.meta})

    def _save_model(self, stage):
        """Save C for users."""
        path = self.workdir / f"{stage.phase}.keras"
        metadata = {
            "phase": stage.phase,
            "step": self.step,
            "image_size": stage.image_size,
            "hole_kind": stage.hole.kind,
            "hole_min_px": stage.hole.min_px,
            "hole_max_px": stage.hole.max_px,
        }
        model_file.save(self.state.completion, path, metadata)
        _logger.info("wrote %s", path)


def _find_photos(config, data_dir, val_dir, batch_size):
    paths = images.find_photos(data_dir)
    if val_dir:
        val_paths = images.find_photos(val_dir)
        spread = np.linspace(0, len(val_paths) - 1, min(len(val_paths), config.data.validation_photos))
        val_paths = [val_paths[i] for i in spread.astype(int)]
    else:
        paths, val_paths = data.split(paths, config.data.validation_photos, config.seed)
    if len(paths) < batch_size:
        raise UserError(
            f"--data_dir={data_dir}: {len(paths)} photos to train on, fewer than one batch of {batch_size}; "
            "add photos or lower config.batch_size."
        )
    _logger.info("%d photos to train on, %d to watch it on", len(paths), len(val_paths))
    return data.Photos(paths, config.data.enlarge), data.Photos(val_paths) if val_paths else None


def _what(phase):
    return "the run" if phase == "all" else f"the {phase} phase"


def _write_json(path, content):
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


@contextlib.contextmanager
def _stop_on_signals():
    """Yield a list that the first SIGTERM or Ctrl-C fills, so that the run can save; the second acts as usual."""
    stopped = []
    previous = {}

    def stop(number, frame):
        stopped.append(number)
        for n, handler in previous.items():
            signal.signal(n, handler)

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, stop)
    except ValueError:  # not the main thread, as when called from a notebook's worker
        pass
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
