"""A training run: its folder and its state, and how it begins and is resumed.

A run's folder holds `config.json`, `checkpoints/`, `stats.jsonl`, `tensorboard/`, `samples/` and, at the end of each
phase, `<phase>.keras`: the completion network as a model file; with config.keep_best also `best/` and `best.keras`.
With several workers only the chief writes; all read.
"""

import json
import logging
from pathlib import Path

from glcic_tf.common import files
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.convert import model_names
from glcic_tf.data import mean_pixel, sources
from glcic_tf.networks import discriminator_file, model_file
from glcic_tf.training import cluster, health, phase_choice, run_checks, train_state
from glcic_tf.training.network_kinds import KINDS
from glcic_tf.training.saver import Saver
from glcic_tf.training.stages import to_dict

_logger = logging.getLogger(__name__)


class Run:
    """One run.

    Attributes:
        config, stages, strategy, workdir: as given.
        resolved: the config as a nested dict.
        latest: (path, notes) of the checkpoint that it resumes from, None without one.
        state: the TrainState; None until `prepare` or `begin`.
        saver: the Saver.
        cluster: the cluster.Cluster of the strategy.
    """

    def __init__(self, config, stages, strategy, workdir):
        self.config, self.stages, self.strategy, self.workdir = config, stages, strategy, Path(workdir)
        self.resolved = to_dict(config)
        self.cluster = cluster.Cluster(strategy)
        self.saver = Saver(self.workdir, config, self.cluster.is_chief)
        self.state = None
        self.find_checkpoint()

    def find_checkpoint(self):
        """Look for the newest checkpoint; raise UserError if its config is another one."""
        self.latest = self.saver.checkpoints.latest()
        if self.latest:
            run_checks.check_config(self.latest[1], self.resolved, self.workdir)

    @property
    def step(self):
        """Steps that the run has done."""
        if self.state is not None:
            return int(self.state.step.numpy())
        return self.latest[1]["step"] if self.latest else 0

    def stages_to_do(self, phase):
        """The stages that a call with this --phase has to train; empty if they are done."""
        begun, init_from = self.latest is not None, self.config.init_from
        return phase_choice.stages_to_do(self.stages, phase, self.step, self.workdir, begun, init_from)

    def prepare(self, photos, first):
        """Make the state, at the stage `first`: from the newest checkpoint, a model file, or random weights."""
        source = None
        if self.config.init_from and not self.latest:
            source = model_file.load(model_names.path_of(self.config.init_from, "config.init_from"))
        network = self.latest[1].get("network") if self.latest else self._network_of(source)
        fingerprint = sources.fingerprint(photos.paths)
        found = self.cluster.exchange([int(fingerprint[:12], 16)])[:, 0]
        run_checks.check_equal(found, "finds other photos in --data_dir; give all workers the same photos")
        mean_pixel = self._mean_pixel(photos, source)
        self.begin(mean_pixel, len(photos.paths), fingerprint, network)
        if self.latest:
            self._resume(photos)
        elif source is not None:
            self.state.begin_with(source, f"config.init_from={self.config.init_from}")
            with self.strategy.scope():
                self.state.step.assign(first.start)
            if first.phase == "joint" and not self.config.discriminator.init_from:
                _logger.warning("--phase=joint from a model file: the discriminator starts untrained.")
            _logger.info("starts from %s at step %d (%s)", self.config.init_from, self.step, first.phase)

    def begin(self, mean_pixel, photos, fingerprint, network=None):
        """Make the state with its first weights, and note what it is trained on.

        Args:
            mean_pixel: RGB in [0, 1].
            photos, fingerprint: how many photos there are, and their `sources.fingerprint`.
            network: dict of the arguments that C is built with, if they come from a model file; otherwise None.
        """
        self._write_json("config.json", self.resolved)
        self._write_json("mean_pixel.json", list(mean_pixel))
        path = self.config.discriminator.init_from
        first_discriminator = discriminator_file.load(path) if path else None
        self.state = train_state.TrainState(self.config, mean_pixel, self.strategy, network, first_discriminator)
        self.saver.meta = {
            "config": self.resolved,
            "mean_pixel": list(mean_pixel),
            "photos": photos,
            "fingerprint": fingerprint,
            "network": network,
        }

    def _resume(self, photos):
        path, meta = self.latest
        if meta["fingerprint"] != self.saver.meta["fingerprint"]:
            _logger.warning(
                "the run began with %d other photos, not these %d: from here on it differs from the run that it would "
                "have been, and photos that were held out for validation may be trained on",
                meta["photos"],
                len(photos.paths),
            )
        entered = [meta["completion_stage"], meta["stage"]]  # the first made C's optimiser, the second all else
        for index in dict.fromkeys(i for i in entered if i is not None):
            self.state.enter(self.stages[index])
        self.saver.checkpoints.restore(path, self.state)
        self.saver.best = meta.get("best")
        _logger.info("resumed %s at step %d", path, self.step)

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
        """The arguments that C is built with if it starts from a model file: the file's, its width too."""
        if source is None:
            return None
        try:
            network = KINDS[self.config.network].completion_arguments(source)
        except (AttributeError, ValueError) as error:
            raise UserError(
                f"config.init_from={self.config.init_from}: its network cannot be trained, since it lacks layers of "
                f"config.network={self.config.network} ({first_line(error)}); give a file that `glcic train` or "
                "`glcic convert` wrote."
            ) from error
        if network["width"] != self.config.width:
            _logger.info("config.width=%g is ignored: the model file has %g", self.config.width, network["width"])
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
                    f"config.init_from={self.config.init_from} has no layer mean_pixel; set config.data.mean_pixel."
                ) from error
        mean = (0.0, 0.0, 0.0)
        if self.cluster.is_chief:
            mean = mean_pixel.measure(photos, self.config.data.mean_photos, self.config.seed)
        mean = tuple(self.cluster.exchange(mean)[0].tolist())
        _logger.info("mean pixel of the photos: %.4f %.4f %.4f", *mean)
        return mean

    def enter(self, stage):
        """Make what a stage needs, unless the run was resumed in this stage."""
        if not self.latest or self.latest[1]["stage"] != stage.index:
            self.state.enter(stage)

    def check_finite(self, bad_step):
        """Raise UserError if the loss was not a number at `bad_step` (-1: it always was), or its scale fell too low."""
        scale = self.state.loss_scale()
        if scale is not None and bad_step >= 0:
            self.saver.check_weights(self.state)  # an overflow in the forward pass also reaches the batch statistics
        health.check_loss(self.step, bad_step, scale, self.saver.last_good)

    def save(self, stage):
        """Save a checkpoint; at the end of a phase, first save its model file."""
        after = self.stages[stage.index + 1 :]
        if self.step == stage.end and (not after or after[0].phase != stage.phase):
            self.saver.check_weights(self.state)
            self.saver.save_model(self.state, stage, last=not after)
        self.saver.save(self.state, stage)
