"""The three steps of Algorithm 1 and the looped tf.function that runs them.

A step sees one replica's share of a batch and returns each metric as this share's part of the global mean, so that sums
over the replicas are means over the batch. To need less memory it may take its share in several parts, one after the
other (`accumulate_steps`): gradients are summed over the parts, and each network is still updated once.
"""

import collections
import contextlib

import keras
import tensorflow as tf

from glcic_tf.networks.discriminator import with_features
from glcic_tf.training import losses, optimizers, patches

METRICS = {
    "completion": ("completion_loss", "known_loss"),
    "discriminator": ("completion_loss", "discriminator_loss", "r1_penalty", "d_real", "d_fake", "d_accuracy"),
    "joint": (
        "completion_loss",
        "known_loss",
        "adversarial_loss",
        "feature_matching_loss",
        "discriminator_loss",
        "r1_penalty",
        "d_real",
        "d_fake",
        "d_accuracy",
    ),
}


def completion_step(state, stage, batch, known_weight, accumulate_steps=1):
    """Update C with the completion loss alone (Algorithm 1, t < T_C)."""
    sums = _Sums()
    for part in sums.parts(batch, accumulate_steps):
        sums.add(*_completion_gradients(state, stage, part, _forward(state, part), known_weight))
    _update_completion(state, stage, sums.gradients)
    return sums.metrics


def discriminator_step(state, stage, batch, known_weight, accumulate_steps=1):
    """Update D alone (Algorithm 1, T_C <= t < T_C + T_D); C and its statistics stand still."""
    del known_weight
    share, sums = _share(stage), _Sums()
    for part in sums.parts(batch, accumulate_steps):
        images, mask = _inputs(part)
        completed = state.completion({"image": images, "mask": mask}, training=False)
        _, values = losses.completion_loss(completed, images, mask, mean=stage.loss_mean)
        fakes = patches.composite(completed, images, mask)
        gradients, metrics = _discriminator_gradients(state, stage, part, images, fakes)
        sums.add(gradients, {"completion_loss": share(values["hole"]), **metrics})
    _update_discriminator(state, stage, sums.gradients)
    return sums.metrics


def joint_step(state, stage, batch, known_weight, accumulate_steps=1):
    """Update D, then C against the D just updated (Algorithm 1, t >= T_C + T_D).

    If the batch is in one part, one forward pass of C serves both updates, as C does not change in between. Otherwise
    the activations of all parts would have to be kept until D is updated; so each part goes through C twice instead.
    C's moving statistics stand still the first time, so that each part moves them once.
    """
    one_pass = accumulate_steps == 1
    of_d, of_c = _Sums(), _Sums()
    for part in of_d.parts(batch, accumulate_steps):
        with contextlib.nullcontext() if one_pass else keras.StatelessScope():  # this scope drops what C assigns
            forward = _forward(state, part, adversarial=True)
        of_d.add(*_discriminator_gradients(state, stage, part, forward.images, tf.stop_gradient(forward.fakes)))
    _update_discriminator(state, stage, of_d.gradients)
    for part in of_c.parts(batch, accumulate_steps, after=of_d):
        if not one_pass:
            forward = _forward(state, part, adversarial=True)
        of_c.add(*_completion_gradients(state, stage, part, forward, known_weight))
    _update_completion(state, stage, of_c.gradients)
    return of_c.metrics | of_d.metrics


STEPS = {"completion": completion_step, "discriminator": discriminator_step, "joint": joint_step}


def _update_completion(state, stage, gradients):
    variables = state.completion.trainable_variables
    optimizers.apply_gradients(state.completion_optimizer, gradients, variables, stage.optimizer.clip_norm)


def _update_discriminator(state, stage, gradients):
    variables, clip_norm = state.discriminator.trainable_variables, stage.discriminator_optimizer.clip_norm
    optimizers.apply_gradients(state.discriminator_optimizer, gradients, variables, clip_norm)


class _Sums:
    """Gradients and metrics, summed over the parts of a batch."""

    def __init__(self):
        self.gradients, self.metrics = [], {}

    def parts(self, batch, count, after=None):
        """Yield a batch's `count` equal parts, each for the caller to `add` its gradients and metrics.

        A part waits until those before it are added, and the first one for the sums `after`: otherwise TensorFlow would
        work on several at once, and hold the activations of all.
        """
        if count == 1:
            yield batch
            return
        split = {name: tf.split(value, count) for name, value in batch.items()}
        for i in range(count):
            before = self if self.gradients else after
            with tf.control_dependencies([*before.gradients, *before.metrics.values()] if before else []):
                part = {name: tf.identity(values[i]) for name, values in split.items()}
            yield part

    def add(self, gradients, metrics):
        """Add the results of one part: tensors in the order of the network's variables, and scalars by name."""
        if self.gradients:
            gradients = [total + gradient for total, gradient in zip(self.gradients, gradients, strict=True)]
            metrics = {name: self.metrics[name] + value for name, value in metrics.items()}
        self.gradients, self.metrics = gradients, metrics


_Forward = collections.namedtuple("_Forward", "tape images mask completed fakes")


def _forward(state, batch, adversarial=False):
    """C's completions in training mode, their composites if D is to see them, and the tape, which may be re-entered."""
    images, mask = _inputs(batch)
    with tf.GradientTape() as tape:
        completed = state.completion({"image": images, "mask": mask}, training=True)
        fakes = patches.composite(completed, images, mask) if adversarial else None
    return _Forward(tape, images, mask, completed, fakes)


def _completion_gradients(state, stage, batch, forward, known_weight):
    """Gradients of C's loss, scaled where the optimiser asks for it, and its metrics."""
    share = _share(stage)
    with forward.tape:
        given = (forward.completed, forward.images, forward.mask, known_weight, stage.loss_mean)
        loss, parts = losses.completion_loss(*given)
        metrics = {"completion_loss": share(parts["hole"]), "known_loss": share(parts["known"])}
        if forward.fakes is not None:
            logits, distance = _discriminate_fakes(state, stage, batch, forward)
            deceived = losses.adversarial_loss(logits, stage.adversarial_form)
            metrics |= {"adversarial_loss": share(deceived), "feature_matching_loss": share(distance)}
            loss += stage.adversarial_weight * deceived + stage.feature_matching_weight * distance
        scaled = state.completion_optimizer.scale_loss(share(loss))
    return forward.tape.gradient(scaled, state.completion.trainable_variables), metrics


def _discriminate_fakes(state, stage, batch, forward):
    """Logits of D for the composites, [batch, 1], and how far its features are from those of the photos, [batch]."""
    if not stage.feature_matching_weight:
        logits = _discriminate(state, stage, forward.fakes, batch["patch"])
        return logits, tf.zeros_like(logits[:, 0])
    network = with_features(state.discriminator)
    with forward.tape.stop_recording():
        real = network(_discriminator_inputs(state, stage, forward.images, batch["patch"]), training=True)
    fake = network(_discriminator_inputs(state, stage, forward.fakes, batch["patch"]), training=True)
    return fake["logit"], losses.feature_matching_loss(real["features"], fake["features"])


def _discriminator_gradients(state, stage, batch, images, fakes):
    """Gradients of D's loss, scaled where the optimiser asks for it, and its metrics."""
    share = _share(stage)
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
    correct = tf.cast(real_logits > 0, loss.dtype) + tf.cast(fake_logits <= 0, loss.dtype)
    return tape.gradient(scaled, state.discriminator.trainable_variables), {
        "discriminator_loss": share(loss),
        "r1_penalty": share(penalty),
        "d_real": share(tf.sigmoid(real_logits)),
        "d_fake": share(tf.sigmoid(fake_logits)),
        "d_accuracy": share(correct / 2),
    }


def _inputs(batch):
    """Images in [0, 1] and masks, both in Keras' float type: float32, or float64 in tests that need its precision."""
    dtype = keras.config.floatx()
    return tf.cast(batch["image"], dtype) / 255.0, tf.cast(batch["mask"], dtype)


def _share(stage):
    """Per-example values, [examples of this replica] -> their share of the mean over the global batch."""
    return lambda values: tf.reduce_sum(values) / stage.batch_size


def _discriminate(state, stage, images, origin, with_gradients=False):
    """Logits of D, [batch, 1], for whole images and the patches at `origin`; D always normalises by the batch.

    `with_gradients`: return the logits, and the list of gradients of their sum with respect to D's inputs, for R1.
    """
    inputs = _discriminator_inputs(state, stage, images, origin)
    if not with_gradients:
        return state.discriminator(inputs, training=True)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        logits = state.discriminator(inputs, training=True)
        total = tf.reduce_sum(logits)
    return logits, list(tape.gradient(total, inputs).values())


def _discriminator_inputs(state, stage, images, origin):
    inputs = {"image": images, "patch": patches.local_patch(images, origin, stage.patch_size)}
    return {i.name: inputs[i.name] for i in state.discriminator.inputs}


def make_loop(state, stage, jit_compile=False, time_input=True):
    """Make the looped tf.function of a stage: `loop(iterator, n)` runs n steps (an int32 tensor) on the strategy.

    It returns a dict of scalars: the means over the n steps of METRICS[phase], float32; `waited`, float64, the seconds
    spent waiting for input (0 unless `time_input`: TensorFlow refuses to read a clock if its ops are deterministic);
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

    # The loop is spelled out, as AutoGraph cannot convert a Python loop on every version of Python.
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

    `advance` does one step on the strategy, and sets the learning rates and weights that change from step to step.
    Results are the sums of METRICS[phase] over the steps so far, and the bad step, see `make_loop`; `means` turns them
    into a dict.
    """
    strategy, names = state.strategy, METRICS[stage.phase]

    def replica_step(batch, known_weight):
        return STEPS[stage.phase](state, stage, batch, known_weight, state.config.accumulate_steps)

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
            rate = optimizers.learning_rate(specs[name], state.step - stage.start, stage.steps)
            optimizers.inner(optimizer).learning_rate.assign(rate)

    def advance(batch, results):
        totals, bad_step = results
        set_learning_rates()
        parts = strategy.run(replica_step, args=(batch, known_weight()))
        parts = {name: strategy.reduce(tf.distribute.ReduceOp.SUM, parts[name], axis=None) for name in names}
        parts = {name: tf.cast(value, tf.float32) for name, value in parts.items()}
        if stage.phase != "discriminator":
            state.finish_update()
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
