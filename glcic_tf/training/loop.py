"""Train the networks (paper, section 3.5): phases as data, on one or several devices, or on several machines.

`run` has what a run's folder holds, and how a run begins and is resumed.
"""

import contextlib
import logging
import time

import tensorflow as tf

from glcic_tf.common import signals, storage
from glcic_tf.common.errors import UsageError, UserError, first_line
from glcic_tf.data import sources
from glcic_tf.data.dataset import batches
from glcic_tf.training import devices, optimizers, precision, run_checks, stats, steps
from glcic_tf.training.monitor import Monitor, SilentMonitor, Validation
from glcic_tf.training.run import Run
from glcic_tf.training.stages import check_replicas, resolve

_logger = logging.getLogger(__name__)
_deterministic = False  # stays True once it is: TensorFlow cannot switch op determinism off again
_MAX_LOOP_SECONDS = 10.0  # of one call, as signals are handled between two calls of the loop


def train(config, data_dir, workdir, phase="all", strategy="auto", val_dir=None, tpu=""):
    """Train until the phase is over, from the newest checkpoint in the run's folder if there is one.

    Args:
        config: ConfigDict with the fields of configs/default.py.
        data_dir: folder of photos or of shards, or a URL of one.
        workdir: the run's folder; made if need be.
        phase: `completion`, `discriminator` or `joint`: that phase alone; `all`: whatever is left to do.
        strategy, tpu: as in `devices.make_strategy`.
        val_dir: folder of photos for the sample grid and the validation figures; None: some are held out.

    Returns:
        True if the phase is over, False if a signal stopped the run, which can then be resumed.

    Raises:
        UserError: the arguments contradict each other, the run's folder or the data; or the loss is no longer a number.
        cluster.WorkerLost: with `multi_worker`, another worker does not answer; to continue, make the same call in a
            new process.
    """
    if storage.is_remote(workdir):
        raise UsageError(
            f"--workdir={workdir}: is a URL, but runs are written to a folder on this machine; give a folder, or mount "
            "the URL as one."
        )
    stages = resolve(config)
    strategy_name, strategy = strategy, devices.make_strategy(strategy, tpu)
    check_replicas(stages, strategy.num_replicas_in_sync, config.accumulate_steps)
    if strategy_name == "tpu" and config.precision == "mixed_float16":
        raise UserError("config.precision=mixed_float16: TPUs have no float16; use mixed_bfloat16.")
    if config.jit_compile and strategy.num_replicas_in_sync > 1:
        raise UserError("config.jit_compile: works with one replica only; unset it, or choose another --strategy.")
    run = Run(config, stages, strategy, workdir)
    with run.cluster.watched():
        over = _train(run, data_dir, phase, val_dir)
    if over:
        _logger.info("%s: %s is finished: step %d of %d.", workdir, _what(phase), run.step, stages[-1].end)
    else:
        _logger.info("stopped and saved at step %d; the same command goes on from there", run.step)
    return over


def _train(run, data_dir, phase, val_dir):
    run_checks.agree(run, phase)
    todo = run.stages_to_do(phase)
    if not todo:
        return True
    config = run.config = run.config.copy_and_resolve_references()
    config.precision = precision.choose(config.precision, run.strategy, run.cluster)
    if config.deterministic:
        global _deterministic
        _deterministic = True
        tf.config.experimental.enable_op_determinism()
    photos, val_photos = sources.find(config, data_dir, val_dir, max(stage.batch_size for stage in todo))
    if config.keep_best and val_photos is None:
        raise UserError(
            f"config.keep_best={config.keep_best}: there are no photos to watch training on; raise "
            "config.data.validation_photos, or give --val_dir."
        )
    run.prepare(photos, todo[0])
    if run.cluster.is_chief:
        monitor = Monitor(run.workdir, run.step, todo[-1].end)
    else:
        monitor, val_photos = SilentMonitor(), None
    with signals.stop_on_signals() as stopped, contextlib.closing(monitor):
        for stage in todo:
            if stop := _train_stage(run, stage, photos, val_photos, monitor, stopped):
                break
        run.cluster.leave()
    return not stop


def _train_stage(run, stage, photos, val_photos, monitor, stopped):
    """Train what is left of a stage; return True if a signal stopped it, after saving."""
    config, state = run.config, run.state
    run.enter(stage)

    # Prepare: batches from the run's step on, the compiled loop, and photos to watch training on.
    dataset = run.strategy.distribute_datasets_from_function(
        lambda context: batches(
            photos,
            stage,
            config.seed,
            run.step,
            config.data.mirror,
            config.data.workers,
            context,
            config.accumulate_steps,
        )
    )
    iterator = iter(dataset)
    loop = steps.make_loop(state, stage, config.jit_compile, time_input=not _deterministic)
    validation = Validation(val_photos, state, stage, config.seed) if val_photos else None
    window, saved_at, step_seconds = stats.Window(), time.monotonic(), 0.0
    stop = False
    while run.step < stage.end and not stop:
        n = _steps_until_due(run, stage, step_seconds)
        begin = time.monotonic()
        result = _run_loop(run, loop, iterator, n, stage, photos)
        seconds, bad_step = time.monotonic() - begin, int(result.pop("bad_step"))
        window.add(result, n, seconds, float(result.pop("waited")))
        step = run.step
        run.check_finite(bad_step)
        over = step == stage.end

        # Show.
        monitor.advance(step, stage.phase)
        if over or step % config.log_every_steps == 0:
            monitor.scalars(step, stage, _figures(window, stage, state))
            window.clear()
        if validation and (over or step % config.sample_every_steps == 0):
            figures, grid = validation.run(config.sample_photos)
            monitor.scalars(step, stage, figures)
            monitor.grid(step, grid)
            run.saver.keep_best(state, stage, figures)

        # Save. The signal is checked only once, so that a run never stops without a checkpoint. All workers must do the
        # same steps and stop together: they go by the chief's clock, and by a signal to any of them.
        due = config.checkpoint_every_steps > 0 and step % config.checkpoint_every_steps == 0
        late = 0 < config.checkpoint_every_minutes * 60 < time.monotonic() - saved_at
        told = run.cluster.exchange([seconds / n, late, bool(stopped)])
        step_seconds, late, stop = float(told[0, 0]), bool(told[0, 1]), bool(told[:, 2].any())
        if over or due or late or stop:
            run.save(stage)
            saved_at = time.monotonic()
    photos.log_left_out()
    return stop


def _steps_until_due(run, stage, step_seconds):
    c = run.config
    periods = [c.log_every_steps, c.sample_every_steps, c.checkpoint_every_steps]
    due = [period - run.step % period for period in periods if period > 0]
    quick = int(_MAX_LOOP_SECONDS / step_seconds) if step_seconds else c.steps_per_loop
    return min(c.steps_per_loop, max(quick, 1), stage.end - run.step, *due)


def _figures(window, stage, state):
    """Means of the metrics, learning rates, loss scale and speed, by name."""
    rates = {name: optimizers.inner(o).learning_rate.numpy() for name, o in state.optimizers().items()}
    figures = window.means() | stats.optimizer_figures(rates, state.loss_scale()) | window.speed(stage.batch_size)
    if state.config.deterministic:
        del figures["input_share"]  # cannot be measured
    return figures


def _run_loop(run, loop, iterator, n, stage, photos):
    try:
        with run.cluster.watched():
            return {name: value.numpy() for name, value in loop(iterator, tf.constant(n)).items()}
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            f"stage {stage.name}: out of memory ({first_line(error)}); lower batch_size, now "
            f"{stage.batch_size}, or raise config.accumulate_steps, now {run.config.accumulate_steps}."
        ) from error
    except tf.errors.OpError as error:
        if photos.error:
            raise UserError(photos.error) from error
        raise


def _what(phase):
    return "the run" if phase == "all" else f"the {phase} phase"
