"""The three steps of Algorithm 1 and the looped tf.function that runs them.

A step sees one replica's share of a batch and returns each of its metrics as that share of the global mean, so that
sums over the replicas are means over the batch.
"""

import keras
import tensorflow as tf

from glcic_tf import geometry, initial_weights, losses, networks, precision

METRICS = {
    "completion": ("completion_loss", "known_loss"),
    "discriminator": ("completion_loss", "discriminator_loss", "r1_penalty", "d_real", "d_fake", "d_accuracy"),
    "joint": (
        "completion_loss",
        "known_loss",
        "adversarial_loss",
        "discriminator_loss",
        "r1_penalty",
        "d_real",
        "d_fake",
        "d_accuracy",
    ),
}


class TrainState:
    """Networks, optimisers and the step counter: all that training changes.

    Attributes:
        completion: the network C.
        completion_optimizer: its optimiser, as of `completion_stage`, the index of the last stage that updated C; both
            None as long as there was none.
        discriminator, discriminator_optimizer: D and its optimiser; None as long as no stage needed them.
        discriminator_sizes: (image_size, patch_size) that D was built for.
        step: int64 variable, steps done since the run began.
    """

    def __init__(self, config, mean_pixel, strategy):
        self.config, self.strategy = config, strategy
        self.discriminator = self.discriminator_optimizer = self.discriminator_sizes = None
        self.completion_optimizer = self.completion_stage = None
        with strategy.scope():
            self.completion = networks.completion_network(
                config.width, mean_pixel, synchronized=self._synchronized, dtype=config.precision
            )
            _draw_weights(self.completion, config.seed)
            self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")

    @property
    def _synchronized(self):
        return self.strategy.num_replicas_in_sync > 1

    def enter(self, stage):
        """Make what a stage needs.

        D is built anew when its input size changed; slots of an optimiser are kept as long as its class and its network
        stay. The discriminator phase leaves C's optimiser as it is.
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
        d = self.config.discriminator
        network = networks.context_discriminator(
            stage.image_size,
            stage.patch_size,
            d.width,
            d.use_global,
            d.use_local,
            d.global_convolutions or None,
            d.local_convolutions or None,
            # Also on one replica: R1 differentiates twice, and tf.nn.moments, which Keras takes the statistics with
            # otherwise, stops the gradient at the mean: right for the first derivative and wrong for the second.
            synchronized=True,
            dtype=self.config.precision,
        )
        _draw_weights(network, discriminator_seed(self.config.seed, stage))
        return network

    def _optimizer(self, spec, variables, old):
        new = precision.make_optimizer(spec, self.config.precision, variables)
        if old is not None and type(precision.inner(old)) is type(precision.inner(new)):
            precision.carry_over(old, new)
        return new

    def optimizers(self):
        """The optimisers there are, by name."""
        pairs = {
            "completion_optimizer": self.completion_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        return {name: optimizer for name, optimizer in pairs.items() if optimizer is not None}

    def loss_scale(self):
        """The smallest loss scale of the optimisers, or None where the loss is not scaled."""
        scales = [precision.loss_scale_variables(o).get("scale") for o in self.optimizers().values()]
        return min((float(s.numpy()) for s in scales if s is not None), default=None)


def discriminator_seed(seed, stage):
    """Seed of the first weights of the D that is built for a stage; they depend on nothing that came before."""
    return seed + 1 + stage.index


def _draw_weights(network, seed):
    for variable in network.variables:
        if not variable.path.startswith("mean_pixel/"):  # no weight, but a measurement
            variable.assign(initial_weights.draw(variable.path, tuple(variable.shape), seed))


def completion_step(state, stage, batch, known_weight):
    """Update C with the completion loss alone (Algorithm 1, t < T_C)."""
    share = _share(stage)
    images, mask = _inputs(batch)
    variables = state.completion.trainable_variables
    with tf.GradientTape() as tape:
        completed = state.completion({"image": images, "mask": mask}, training=True)
        loss, parts = losses.completion_loss(completed, images, mask, known_weight)
        scaled = state.completion_optimizer.scale_loss(share(loss))
    precision.apply_gradients(state.completion_optimizer, tape.gradient(scaled, variables), variables)
    return {"completion_loss": share(parts["hole"]), "known_loss": share(parts["known"])}


def discriminator_step(state, stage, batch, known_weight):
    """Update D alone (Algorithm 1, T_C <= t < T_C + T_D); C and its statistics stand still."""
    del known_weight
    share = _share(stage)
    images, mask = _inputs(batch)
    completed = state.completion({"image": images, "mask": mask}, training=False)
    _, parts = losses.completion_loss(completed, images, mask)
    metrics = _update_discriminator(state, stage, batch, images, geometry.composite(completed, images, mask))
    return {"completion_loss": share(parts["hole"]), **metrics}


def joint_step(state, stage, batch, known_weight):
    """Update D, then C against the D just updated (Algorithm 1, t >= T_C + T_D).

    One forward pass of C serves both updates, as C does not change in between.
    """
    share = _share(stage)
    images, mask = _inputs(batch)
    variables = state.completion.trainable_variables
    with tf.GradientTape() as tape:
        completed = state.completion({"image": images, "mask": mask}, training=True)
        fakes = geometry.composite(completed, images, mask)
        with tape.stop_recording():
            metrics = _update_discriminator(state, stage, batch, images, tf.stop_gradient(fakes))
        loss, parts = losses.completion_loss(completed, images, mask, known_weight)
        logits = _discriminate(state, stage, fakes, batch["patch"])
        adversarial = losses.adversarial_loss(logits, stage.adversarial_form)
        scaled = state.completion_optimizer.scale_loss(share(loss + stage.adversarial_weight * adversarial))
    precision.apply_gradients(state.completion_optimizer, tape.gradient(scaled, variables), variables)
    return {
        "completion_loss": share(parts["hole"]),
        "known_loss": share(parts["known"]),
        "adversarial_loss": share(adversarial),
        **metrics,
    }


STEPS = {"completion": completion_step, "discriminator": discriminator_step, "joint": joint_step}


def _inputs(batch):
    """Images in [0, 1] and masks, both in Keras' float type: float32, or float64 where a test wants no rounding."""
    dtype = keras.config.floatx()
    return tf.cast(batch["image"], dtype) / 255.0, tf.cast(batch["mask"], dtype)


def _share(stage):
    """Per-example values, [examples of this replica] -> their share of the mean over the global batch."""
    return lambda values: tf.reduce_sum(values) / stage.batch_size


def _discriminate(state, stage, images, origin, with_gradients=False):
    """Logits of D, [batch, 1], for whole images and the patches at `origin`. Batch statistics, as D is only trained.

    `with_gradients`: return the logits and those of their sum with respect to D's inputs, a list, as R1 needs them.
    """
    inputs = {"image": images, "patch": geometry.local_patch(images, origin, stage.patch_size)}
    inputs = {i.name: inputs[i.name] for i in state.discriminator.inputs}
    if not with_gradients:
        return state.discriminator(inputs, training=True)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        logits = state.discriminator(inputs, training=True)
        total = tf.reduce_sum(logits)
    return logits, list(tape.gradient(total, inputs).values())


def _update_discriminator(state, stage, batch, images, fakes):
    share = _share(stage)
    variables = state.discriminator.trainable_variables
    with tf.GradientTape() as tape:
        fake_logits = _discriminate(state, stage, fakes, batch["patch"])
        if stage.r1_gamma:
            real_logits, gradients = _discriminate(state, stage, images, batch["real_patch"], with_gradients=True)
            penalty = losses.r1_penalty(gradients)
        else:
            real_logits = _discriminate(state, stage, images, batch["real_patch"])
            penalty = tf.zeros_like(real_logits[:, 0])
        loss, _ = losses.discriminator_loss(real_logits, fake_logits)
        loss += stage.r1_gamma / 2 * penalty
        scaled = state.discriminator_optimizer.scale_loss(share(loss))
    precision.apply_gradients(state.discriminator_optimizer, tape.gradient(scaled, variables), variables)
    correct = tf.cast(real_logits > 0, loss.dtype) + tf.cast(fake_logits <= 0, loss.dtype)
    return {
        "discriminator_loss": share(loss),
        "r1_penalty": share(penalty),
        "d_real": share(tf.sigmoid(real_logits)),
        "d_fake": share(tf.sigmoid(fake_logits)),
        "d_accuracy": share(correct / 2),
    }


def make_loop(state, stage, jit_compile=False, time_input=True):
    """Make the looped tf.function of a stage: `loop(iterator, n)` runs n steps (an int32 tensor) on the strategy.

    It returns a dict of float32 scalars: the means over the n steps of METRICS[phase]; `waited`, float64, seconds spent
    waiting for input (0 unless `time_input`: TensorFlow refuses to read a clock when its ops are to be deterministic);
    and `bad_step`, int64, the run's first step whose loss was not finite, -1 if there was none.
    """
    strategy, advance, start = state.strategy, *make_advance(state, stage, jit_compile)

    def now(after):
        with tf.control_dependencies(after):
            return tf.timestamp() if time_input else tf.constant(0.0, tf.float64)

    def one_step(iterator, waited, results):
        begin = now(tf.nest.flatten(results)[:1])  # not before the last step is done
        with tf.control_dependencies([begin]):
            batch = iterator.get_next()
        waited += now(tf.nest.flatten(strategy.experimental_local_results(batch))) - begin
        return waited, advance(batch, results)

    # The loop is spelled out, as AutoGraph cannot make one of a Python loop on every version of Python.
    @tf.function(autograph=False)
    def loop(iterator, n):
        _, (waited, results) = tf.while_loop(
            lambda i, _: i < n,
            lambda i, carried: (i + 1, one_step(iterator, *carried)),
            (tf.constant(0), (tf.constant(0.0, tf.float64), start())),
            parallel_iterations=1,
        )
        return means(results, n) | {"waited": waited}

    return loop


def make_advance(state, stage, jit_compile=False):
    """Make the two parts of a loop over a stage's steps: `advance(batch, results) -> results` and `start() -> results`.

    `advance` does one step on the strategy, with all that changes from step to step. Results are the sums of
    METRICS[phase] over the steps so far and the bad step, see `make_loop`; `means` makes a dict of them.
    """
    strategy, names = state.strategy, METRICS[stage.phase]

    def replica_step(batch, known_weight):
        return STEPS[stage.phase](state, stage, batch, known_weight)

    if jit_compile:
        replica_step = tf.function(replica_step, jit_compile=True, autograph=False)

    def known_weight():
        progress = tf.cast(state.step - stage.start, keras.config.floatx()) / max(stage.steps, 1)
        return stage.known_weight + progress * (stage.known_weight_end - stage.known_weight)

    def set_learning_rates():
        specs = {"completion_optimizer": stage.optimizer, "discriminator_optimizer": stage.discriminator_optimizer}
        for name, optimizer in state.optimizers().items():
            if name == "completion_optimizer" and stage.phase == "discriminator":
                continue
            rate = precision.learning_rate(specs[name], state.step - stage.start, stage.steps)
            precision.inner(optimizer).learning_rate.assign(rate)

    def advance(batch, results):
        totals, bad_step = results
        set_learning_rates()
        parts = strategy.run(replica_step, args=(batch, known_weight()))
        parts = {name: strategy.reduce(tf.distribute.ReduceOp.SUM, parts[name], axis=None) for name in names}
        parts = {name: tf.cast(value, tf.float32) for name, value in parts.items()}
        finite = tf.reduce_all([tf.math.is_finite(value) for value in parts.values()])
        bad_step = tf.where(tf.logical_and(bad_step < 0, tf.logical_not(finite)), state.step, bad_step)
        state.step.assign_add(1)
        return {name: totals[name] + parts[name] for name in names}, bad_step

    def start():
        return {name: tf.constant(0.0) for name in names}, tf.constant(-1, tf.int64)

    return advance, start


def means(results, n):
    """Return the results of n steps as a dict: means of the metrics, and `bad_step`."""
    totals, bad_step = results
    return {name: total / tf.cast(n, tf.float32) for name, total in totals.items()} | {"bad_step": bad_step}
