"""A training run: its folder, its position and its state, and how it begins, goes on and is saved.

A run's folder holds `config.json`, `checkpoints/`, `stats.jsonl`, `tensorboard/`, `samples/` and, at the end of each
phase, `<phase>.keras`: the completion network as a model file; with config.keep_best also `best/` and `best.keras`.
With several workers the chief alone writes; all read.
"""

import hashlib
import json
import logging
import time

import keras
import numpy as np

from glcic_tf.common import files
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.data import sources
from glcic_tf.export import savedmodel
from glcic_tf.networks import discriminator_file, model_file
from glcic_tf.networks.completion import completion_arguments
from glcic_tf.training import cluster, optimizers, train_state
from glcic_tf.training.checkpoints import Checkpoints
from glcic_tf.training.settings import BEST_FIGURES
from glcic_tf.training.stages import PHASES, contradictions, to_dict

_logger = logging.getLogger(__name__)
_SHARED_FOLDER_SECONDS = 120.0  # within which a network disk shows on all machines what one of them wrote


class Run:
    """One run: its folder, its position and its state."""

    def __init__(self, config, stages, strategy, workdir):
        self.config, self.stages, self.strategy, self.workdir = config, stages, strategy, workdir
        self.checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoints_kept)
        self.best = Checkpoints(workdir / "best", kept=1)
        self.resolved = to_dict(config)
        self.cluster = cluster.Cluster(strategy)
        self.state = None
        self._find_checkpoint()

    def _find_checkpoint(self):
        self.latest = self.checkpoints.latest()
        self.meta = self.latest[1] if self.latest else None
        self.step = self.meta["step"] if self.latest else 0
        if self.latest:
            self._check_config()

    def agree(self, phase):
        """See to it that all workers train the same from the same checkpoint on; wait if their folder is slow.

        Raises:
            UserError: they were started with different configs, or do not share the run's folder.
            cluster.WorkerLost: one does not answer.
        """
        if self.cluster.workers == 1:
            return
        free = {"data": self.resolved["data"] | {"workers": None}}
        digest = hashlib.sha256(json.dumps([phase, self.resolved | free]).encode()).hexdigest()
        deadline = time.monotonic() + _SHARED_FOLDER_SECONDS
        while True:
            given, found, late = self.cluster.exchange([int(digest[:12], 16), self.step, time.monotonic() > deadline]).T
            self._check_equal(given, "was started with another config or --phase; give all workers the same command")
            if np.all(found == found[0]):
                break
            if np.any(late):
                steps = f"finds another newest checkpoint in --workdir={self.workdir} ({found.astype(int).tolist()})"
                self._check_equal(found, f"{steps}; give all workers one folder on a disk that they share")
            time.sleep(1)
            self._find_checkpoint()
        _logger.info("%d workers with %d replicas", self.cluster.workers, self.strategy.num_replicas_in_sync)

    def _check_equal(self, told, problem):
        """Raise UserError if a worker told another number than the chief."""
        others = np.flatnonzero(told != told[0])
        if others.size:
            raise UserError(f"--strategy=multi_worker: worker {others[0]} of {self.cluster.workers} {problem}.")

    def _check_config(self):
        found = contradictions(self.meta["config"], self.resolved, self.step)
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
        if phase not in PHASES:
            raise UserError(f"--phase={phase}: expected one of {', '.join(PHASES)} or all.")
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
        fingerprint = sources.fingerprint(photos.paths)
        found = self.cluster.exchange([int(fingerprint[:12], 16)])[:, 0]
        self._check_equal(found, "finds other photos in --data_dir; give all workers the same photos")
        mean_pixel = self._mean_pixel(photos, source)
        self.begin(mean_pixel, len(photos.paths), fingerprint, network)
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
            self.state.begin_with(source, f"config.init_from={self.config.init_from}")
            with self.strategy.scope():
                self.state.step.assign(self.step)
            _logger.info("starts from %s at step %d (%s)", self.config.init_from, self.step, first.phase)

    def begin(self, mean_pixel, photos, fingerprint, network=None):
        """Make the state with its first weights, and write down what it is of.

        Args:
            mean_pixel: RGB in [0, 1].
            photos, fingerprint: how many photos there are, and what `sources.fingerprint` says of them.
            network: dict of `completion.completion_arguments`, where C is like that of a model file; else None.
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
        if self.latest and "best" in self.latest[1]:
            self.meta["best"] = self.latest[1]["best"]

    def _write_json(self, name, content):
        if not self.cluster.is_chief:
            return
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
            network = completion_arguments(source)
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
        mean = (0.0, 0.0, 0.0)
        if self.cluster.is_chief:
            mean = sources.mean_pixel(photos, self.config.data.mean_photos, self.config.seed)
        mean = tuple(self.cluster.exchange(mean)[0].tolist())
        _logger.info("mean pixel of the photos: %.4f %.4f %.4f", *mean)
        return mean

    def enter(self, stage):
        """Make what a stage needs, unless the checkpoint that the run goes on from is of this stage."""
        if not self.latest or self.latest[1]["stage"] != stage.index:
            self.state.enter(stage)

    def check_finite(self, bad_step):
        """Raise UserError if the loss was no number at `bad_step` (-1: it always was), or its scale fell too low."""
        scale = self.state.loss_scale()
        if scale is None and bad_step >= 0:
            raise UserError(f"step {bad_step + 1}: the loss is not a finite number. {self._last_good()}")
        if bad_step >= 0:
            self.check_weights()  # an overflow on the way forward also gets into the batch statistics
        if scale is not None and scale < optimizers.MIN_LOSS_SCALE:
            raise UserError(
                f"step {self.step}: the loss scale fell to {scale:g}, the loss overflows. {self._last_good()}"
            )

    def _last_good(self):
        latest = self.checkpoints.latest()
        kept = f"the last good checkpoint is kept: {latest[0]}" if latest else "no checkpoint was saved yet"
        return f"Lower the learning rate or use another precision; {kept}."

    def ends_phase(self, stage):
        """Whether the next stage is of another phase, or there is none."""
        after = self.stages[stage.index + 1 :]
        return not after or after[0].phase != stage.phase

    def check_weights(self):
        """Raise UserError if a weight or a batch statistic is no number."""
        for network in filter(None, [self.state.completion, self.state.average, self.state.discriminator]):
            for variable in network.variables:
                if not np.all(np.isfinite(keras.ops.convert_to_numpy(variable))):
                    raise UserError(f"step {self.step}: {variable.path} is not finite. {self._last_good()}")

    def save(self, stage):
        """Save a checkpoint at the run's step, which lies in `stage`."""
        self._save_to(self.checkpoints, stage)

    def keep_best(self, stage, figures):
        """Keep a checkpoint and a model file if the validation figure of config.keep_best is the stage's best so far.

        Both are replaced when the next stage begins, whose sizes and holes make other figures.
        """
        name = self.config.keep_best
        if not name:
            return
        best = self.meta.get("best")
        sign = BEST_FIGURES[name]
        known = best and (best["stage"], best["figure"]) == (stage.index, name)
        if known and best["step"] <= self.step and sign * figures[name] <= sign * best["value"]:
            return
        self.meta["best"] = {"stage": stage.index, "figure": name, "value": figures[name], "step": self.step}
        self.check_weights()
        model_file.save(self.state.result, self.workdir / "best.keras", self._notes(stage) | {name: figures[name]})
        self._save_to(self.best, stage)
        _logger.info("best so far: %s %.4g at step %d", name, figures[name], self.step)

    def _save_to(self, checkpoints, stage):
        position = {"step": self.step, "phase": stage.phase, "stage": stage.index}
        checkpoints.save(self.state, {**position, "completion_stage": self.state.completion_stage, **self.meta})

    def _notes(self, stage):
        return {
            "phase": stage.phase,
            "step": self.step,
            "image_size": stage.image_size,
            "hole_kind": stage.hole.kind,
            "hole_min_px": stage.hole.min_px,
            "hole_max_px": stage.hole.max_px,
        }

    def save_model(self, stage):
        """Save C for users: a model file at the end of each phase, at the end of the run a SavedModel too."""
        path = self.workdir / f"{stage.phase}.keras"
        metadata = self._notes(stage)
        model_file.save(self.state.result, path, metadata)
        _logger.info("wrote %s", path)
        if stage is self.stages[-1]:
            path = self.workdir / "savedmodel"
            savedmodel.savedmodel(self.state.result, path, overwrite=True, metadata=metadata)
            _logger.info("wrote %s", path)
