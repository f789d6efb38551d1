"""Train the networks (paper, section 3.5): phases as data, checkpoints, resuming, and what a run leaves behind.

A run's folder holds `config.json`, `checkpoints/`, `stats.jsonl`, `tensorboard/`, `samples/` and, at the end of each
phase, `<phase>.keras`: the completion network as a model file.
"""

import contextlib
import json
import logging
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from glcic_tf import (
    data,
    devices,
    discriminator_file,
    export,
    files,
    model_file,
    networks,
    photo_folder,
    precision,
    schedule,
    signals,
    steps,
    train_state,
)
from glcic_tf.checkpoints import Checkpoints
from glcic_tf.errors import UserError, first_line
from glcic_tf.monitor import Monitor, Validation, Window

_logger = logging.getLogger(__name__)
_deterministic = False  # TensorFlow cannot be told to forget it again
_MAX_LOOP_SECONDS = 10.0  # a signal is answered between two calls of the loop


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
    strategy_name, strategy = strategy, devices.make_strategy(strategy, tpu)
    schedule.check_replicas(stages, strategy.num_replicas_in_sync)
    if strategy_name == "tpu" and config.precision == "mixed_float16":
        raise UserError("config.precision=mixed_float16: TPUs have no float16; use mixed_bfloat16.")
    if config.jit_compile and strategy.num_replicas_in_sync > 1:
        raise UserError("config.jit_compile: works with one replica only; unset it, or choose another --strategy.")
    run = Run(config, stages, strategy, Path(workdir))
    todo = run.stages_to_do(phase)
    if not todo:
        _logger.info("%s: %s is finished: step %d of %d.", workdir, _what(phase), run.step, stages[-1].end)
        return True
    if config.deterministic:
        global _deterministic
        _deterministic = True
        tf.config.experimental.enable_op_determinism()
    photos, val_photos = photo_folder.find(config, data_dir, val_dir, max(stage.batch_size for stage in todo))
    run.prepare(photos, todo[0])
    with signals.stop_on_signals() as stopped, contextlib.closing(Monitor(workdir, run.step, todo[-1].end)) as monitor:
        for stage in todo:
            if run.train_stage(stage, photos, val_photos, monitor, stopped):
                _logger.info("stopped and saved at step %d; the same command goes on from there", run.step)
                return False
    _logger.info("%s: %s is finished: step %d of %d.", workdir, _what(phase), run.step, stages[-1].end)
    return True


class Run:
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
        network = self.latest[1].get("network") if self.latest else self._network_of(source)
        mean_pixel = self._mean_pixel(photos, source)
        self.begin(mean_pixel, len(photos.paths), photo_folder.fingerprint(photos.paths), network)
        if self.latest:
            path, meta = self.latest
            if meta["fingerprint"] != self.meta["fingerprint"]:
                _logger.warning(
                    "the run began with %d other photos than these %d: from here on it is another run than it would "
                    "have been, and photos that it was watched on may be trained on",
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

    def begin(self, mean_pixel, photos, fingerprint, network=None):
        """Make the state with its first weights, and write down what it is of.

        Args:
            mean_pixel: RGB in [0, 1].
            photos, fingerprint: how many photos there are, and what `photo_folder.fingerprint` says of them.
            network: dict of `networks.completion_arguments`, where C is like that of a model file; else None.
        """
        self._write_json("config.json", self.resolved)
        self._write_json("mean_pixel.json", list(mean_pixel))
        path = self.config.discriminator.init_from
        first_discriminator = discriminator_file.load(path) if path else None
        self.state = train_state.TrainState(self.config, mean_pixel, self.strategy, network, first_discriminator)
        self.meta = {
            "config": self.resolved,
            "mean_pixel": list(mean_pixel),
            "photos": photos,
            "fingerprint": fingerprint,
            "network": network,
        }

    def _write_json(self, name, content):
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--workdir={self.workdir}: cannot be made ({error.strerror}); choose another.") from error
        with files.replacing(self.workdir / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _network_of(self, source):
        """What C is built with where it starts from a model file: all that the file's network has, its width too."""
        if source is None:
            return None
        try:
            network = networks.completion_arguments(source)
        except (AttributeError, ValueError) as error:
            raise UserError(
                f"config.init_from={self.config.init_from}: its network cannot be trained on, since it lacks layers of "
                f"ours ({first_line(error)}); give a file that train.py or convert.py wrote."
            ) from error
        if network["width"] != self.config.width:
            _logger.info("config.width=%g: the network of the model file has %g", self.config.width, network["width"])
        return network

    def _mean_pixel(self, photos, source):
        if self.latest:
            return self.latest[1]["mean_pixel"]
        given = tuple(self.config.data.mean_pixel)
        if min(given) >= 0:
            return given
        if source is not None:
            try:
                return tuple(float(x) for x in source.get_layer("mean_pixel").get_weights()[0].ravel())
            except (ValueError, IndexError) as error:
                raise UserError(
                    f"config.init_from={self.config.init_from}: has no layer mean_pixel; set config.data.mean_pixel."
                ) from error
        mean = photo_folder.mean_pixel(photos, self.config.data.mean_photos, self.config.seed)
        _logger.info("mean pixel of the photos: %.4f %.4f %.4f", *mean)
        return mean

    def train_stage(self, stage, photos, val_photos, monitor, stopped):
        """Train what is left of a stage; return True if a signal stopped it, after saving."""
        if not self.latest or self.latest[1]["stage"] != stage.index:
            self.state.enter(stage)
        config, state = self.config, self.state
        dataset = data.batches(photos, stage, config.seed, self.step, config.data.mirror, config.data.workers)
        iterator = iter(self.strategy.experimental_distribute_dataset(dataset))
        loop = steps.make_loop(state, stage, config.jit_compile, time_input=not _deterministic)
        validation = Validation(val_photos, state, stage, config.seed) if val_photos else None
        window, saved_at, step_seconds = Window(), time.monotonic(), 0.0
        stop = False
        while self.step < stage.end and not stop:
            n = self._steps_until_due(stage, step_seconds)
            begin = time.monotonic()
            result = _run_loop(loop, iterator, n, stage, photos)
            seconds = time.monotonic() - begin
            step_seconds = seconds / n
            window.add(result, n, seconds)
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
            due = config.checkpoint_every_steps > 0 and self.step % config.checkpoint_every_steps == 0
            late = 0 < config.checkpoint_every_minutes * 60 < time.monotonic() - saved_at
            stop = bool(stopped)  # asked once, so that a stop is never without a checkpoint
            if over or due or late or stop:
                self._check_weights()
                if over and self._ends_phase(stage):
                    self.save_model(stage)  # before the checkpoint: a phase that is over has its model file
                self.save(stage)
                saved_at = time.monotonic()
        photos.log_left_out()
        return stop

    def _steps_until_due(self, stage, step_seconds):
        c = self.config
        periods = [c.log_every_steps, c.sample_every_steps, c.checkpoint_every_steps]
        due = [period - self.step % period for period in periods if period > 0]
        quick = int(_MAX_LOOP_SECONDS / step_seconds) if step_seconds else c.steps_per_loop
        return min(c.steps_per_loop, max(quick, 1), stage.end - self.step, *due)

    def _check_finite(self, bad_step):
        scale = self.state.loss_scale()
        if scale is None and bad_step >= 0:
            raise UserError(f"step {bad_step + 1}: the loss is not a finite number. {self._last_good()}")
        if bad_step >= 0:
            self._check_weights()  # an overflow on the way forward also gets into the batch statistics
        if scale is not None and scale < precision.MIN_LOSS_SCALE:
            raise UserError(
                f"step {self.step}: the loss scale fell to {scale:g}, the loss overflows. {self._last_good()}"
            )

    def _last_good(self):
        latest = self.checkpoints.latest()
        kept = f"the last good checkpoint is kept: {latest[0]}" if latest else "no checkpoint was saved yet"
        return f"Lower the learning rate or use another precision; {kept}."

    def _ends_phase(self, stage):
        after = self.stages[stage.index + 1 :]
        return not after or after[0].phase != stage.phase

    def _check_weights(self):
        for network in filter(None, [self.state.completion, self.state.discriminator]):
            for variable in network.variables:
                if not np.all(np.isfinite(keras.ops.convert_to_numpy(variable))):
                    raise UserError(f"step {self.step}: {variable.path} is not finite. {self._last_good()}")

    def save(self, stage):
        """Save a checkpoint at the run's step, which lies in `stage`."""
        position = {"step": self.step, "phase": stage.phase, "stage": stage.index}
        self.checkpoints.save(self.state, {**position, "completion_stage": self.state.completion_stage, **self.meta})

    def save_model(self, stage):
        """Save C for users: a model file at the end of each phase, at the end of the run a SavedModel too."""
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
        if stage is self.stages[-1]:
            path = self.workdir / "savedmodel"
            export.savedmodel(self.state.completion, path, overwrite=True, metadata=metadata)
            _logger.info("wrote %s", path)


def _run_loop(loop, iterator, n, stage, photos):
    try:
        return {name: value.numpy() for name, value in loop(iterator, tf.constant(n)).items()}
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            f"stage {stage.name}: out of memory ({first_line(error)}); lower batch_size, now {stage.batch_size}."
        ) from error
    except tf.errors.OpError as error:
        if photos.error:
            raise UserError(photos.error) from error
        raise


def _what(phase):
    return "the run" if phase == "all" else f"the {phase} phase"
