"""All that training changes: networks, optimisers and the step counter."""

import keras
import tensorflow as tf
import tensorflow.experimental.numpy as tnp

from glcic_tf.networks import initial_weights, model_file, phases
from glcic_tf.training.network_kinds import KINDS
from glcic_tf.training.optimizers import carry_over, inner, loss_scale_variables, make_optimizer


class TrainState:
    """Networks, optimisers and the step counter: all that training changes.

    Attributes:
        completion: the network C.
        average: a network like C whose variables are moving averages of C's; None where config.average_decay is 0.
        completion_optimizer: C's optimiser, made for `completion_stage`, the index of the last stage that updated C;
            both None until there was one.
        discriminator, discriminator_optimizer: D and its optimiser; None until a stage needs them.
        discriminator_sizes: (image_size, patch_size) that D was built for.
        step: int64 variable, steps done since the run began.
    """

    def __init__(self, config, mean_pixel, strategy, arguments=None, first_discriminator=None):
        """Make C with its first weights.

        Args:
            config: ConfigDict.
            mean_pixel: as in `completion.completion_network`.
            strategy: tf.distribute.Strategy.
            arguments: arguments of `completion.completion_network` (or of another kind's, see `network_kinds`), read
                off a model file whose network C takes over; None: the config's.
            first_discriminator: network that D starts from, see `discriminator_file.load`; None: random weights.
        """
        self.config, self.strategy, self._first_discriminator = config, strategy, first_discriminator
        self._kind = KINDS[config.network]
        arguments = {"width": config.width} | (arguments or {})
        self.discriminator = self.discriminator_optimizer = self.discriminator_sizes = None
        self.completion_optimizer = self.completion_stage = None
        with strategy.scope():
            self.completion = self._build_completion(mean_pixel, arguments)
            self.average = self._build_completion(mean_pixel, arguments) if config.average_decay else None
            self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")

    def _build_completion(self, mean_pixel, arguments):
        network = self._kind.build_completion(
            mean_pixel=mean_pixel, synchronized=True, dtype=self.config.precision, **arguments
        )
        _draw_weights(network, self.config.seed)
        return network

    @property
    def result(self):
        """The completion network that users get: the average where there is one, else C."""
        return self.average or self.completion

    def begin_with(self, source, origin):
        """Take C's weights from a loaded model file; raise UserError, beginning with `origin`, if they do not fit."""
        with self.strategy.scope():
            for network in filter(None, (self.completion, self.average)):
                mean_pixel = network.get_layer("mean_pixel").get_weights()  # may have been given
                model_file.copy_weights(source, network, origin)
                network.get_layer("mean_pixel").set_weights(mean_pixel)
                if self.config.equal_phases:
                    _make_phases_equal(network)

    def finish_update(self):
        """Do what follows an update of C, in cross-replica context: equal phases, and a step of the moving average."""
        update = self.strategy.extended.update
        if self.config.equal_phases:
            for layer in _deconvolutions(self.completion):
                update(layer.kernel.value, lambda kernel: kernel.assign(phases.equal_phases(kernel.value(), tnp)))
        if self.average is None:
            return
        # At first it averages over fewer steps: otherwise the first weights would stay in it for long.
        step = tf.cast(self.step, keras.config.floatx())
        decay = tf.minimum(tf.cast(self.config.average_decay, step.dtype), (1 + step) / (10 + step))
        for mean, variable in zip(self.average.variables, self.completion.variables, strict=True):
            update(mean.value, lambda mean, value: mean.assign(value + decay * (mean - value)), (variable.value,))

    def enter(self, stage):
        """Make what a stage needs.

        D is built anew when its input size has changed. An optimiser keeps its slots as long as its class and its
        network stay the same. The discriminator phase leaves C's optimiser as it is.
        """
        with self.strategy.scope():
            if stage.phase != "discriminator":
                self.completion_optimizer = self._optimizer(
                    stage.optimizer, self.completion.trainable_variables, self.completion_optimizer
                )
                self.completion_stage = stage.index
            if stage.phase == "completion":
                return
            sizes = (stage.image_size, stage.patch_size)
            if self.discriminator_sizes != sizes:
                self.discriminator, self.discriminator_optimizer = self._build_discriminator(stage), None
                self.discriminator_sizes = sizes
            self.discriminator_optimizer = self._optimizer(
                stage.discriminator_optimizer, self.discriminator.trainable_variables, self.discriminator_optimizer
            )

    def _build_discriminator(self, stage):
        d, source = self.config.discriminator, self._first_discriminator
        network = self._kind.build_discriminator(d, stage, source, synchronized=True, dtype=self.config.precision)
        _draw_weights(network, discriminator_seed(self.config.seed, stage))
        if source is not None:
            model_file.copy_weights(source, network, f"config.discriminator.init_from={d.init_from}")
        return network

    def _optimizer(self, spec, variables, old):
        new = make_optimizer(spec, self.config.precision, variables)
        if old is not None and type(inner(old)) is type(inner(new)):
            carry_over(old, new)
        return new

    def optimizers(self):
        """The optimisers there are, by name."""
        pairs = {
            "completion_optimizer": self.completion_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        return {name: optimizer for name, optimizer in pairs.items() if optimizer is not None}

    def loss_scale(self):
        """The smallest loss scale of the optimisers, or None if the loss is not scaled."""
        scales = [loss_scale_variables(o).get("scale") for o in self.optimizers().values()]
        return min((float(s.numpy()) for s in scales if s is not None), default=None)


def discriminator_seed(seed, stage):
    """Seed of the first weights of the D that is built for a stage; they depend on nothing that came before."""
    return seed + 1 + stage.index


def _deconvolutions(network):
    return [layer for layer in network.layers if layer.name.startswith("deconv")]


def _make_phases_equal(network):
    for layer in _deconvolutions(network):
        layer.kernel.assign(phases.equal_phases(keras.ops.convert_to_numpy(layer.kernel)))


def _draw_weights(network, seed):
    for variable in network.variables:
        if not variable.path.startswith("mean_pixel/"):  # which is measured, not trained
            variable.assign(initial_weights.draw(variable.path, tuple(variable.shape), seed))
