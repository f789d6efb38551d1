"""What each training step changes, and what it must leave alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.training import optimizers, steps, train_state
from glcic_tf.training.patches import composite, local_patch
from glcic_tf.training.stages import PHASES, resolve

SIZE, PATCH, BATCH = 16, 8, 4


@pytest.fixture(scope="module")
def stages(small_config):
    config = small_config(BATCH)
    return config, {stage.phase: stage for stage in resolve(config)}


def make_state(stages, phase):
    config, by_phase = stages
    state = train_state.TrainState(config, (0.4, 0.5, 0.6), tf.distribute.get_strategy())
    state.enter(by_phase[phase])
    return state, by_phase[phase]


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    mask = np.zeros((BATCH, SIZE, SIZE, 1), np.float32)
    mask[:, 5:10, 3:9] = 1
    return {
        "image": tf.constant(rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)),
        "mask": tf.constant(mask),
        "patch": tf.fill([BATCH, 2], 3),
        "real_patch": tf.constant(rng.integers(0, SIZE - PATCH + 1, (BATCH, 2), dtype=np.int32)),
    }


def values(network):
    return {variable.path: variable.numpy() for variable in network.variables}


def changed(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_completion_step_changes_all_of_c_but_its_mean_pixel(stages):
    state, stage = make_state(stages, "completion")
    before = values(state.completion)
    metrics = steps.completion_step(state, stage, make_batch(), 0.0)
    assert set(before) - changed(before, values(state.completion)) == {"mean_pixel/kernel"}
    assert set(metrics) == set(steps.METRICS["completion"])


def test_completion_step_reports_the_mean_squared_error_in_the_hole(stages):
    state, stage = make_state(stages, "completion")
    batch = make_batch()
    images = batch["image"].numpy() / 255
    inputs = {"image": tf.constant(images, tf.float32), "mask": batch["mask"]}
    completed = state.completion(inputs, training=True).numpy()
    hole = batch["mask"].numpy()[..., 0] > 0
    metrics = steps.completion_step(state, stage, batch, 0.0)
    np.testing.assert_allclose(metrics["completion_loss"], np.mean((completed - images)[hole] ** 2), rtol=1e-5)
    np.testing.assert_allclose(metrics["known_loss"], np.mean((completed - images)[~hole] ** 2), rtol=1e-5)


def test_discriminator_step_changes_d_and_leaves_c_and_its_statistics_alone(stages):
    state, stage = make_state(stages, "discriminator")
    c, d = values(state.completion), values(state.discriminator)
    metrics = steps.discriminator_step(state, stage, make_batch(), 0.0)
    assert not changed(c, values(state.completion))
    weights = {v.path for v in state.discriminator.trainable_variables}
    assert weights <= changed(d, values(state.discriminator))
    assert set(metrics) == set(steps.METRICS["discriminator"])


def test_joint_step_changes_both(stages):
    state, stage = make_state(stages, "joint")
    c, d = values(state.completion), values(state.discriminator)
    metrics = steps.joint_step(state, stage, make_batch(), 0.0)
    assert {v.path for v in state.completion.trainable_variables} <= changed(c, values(state.completion))
    assert {v.path for v in state.discriminator.trainable_variables} <= changed(d, values(state.discriminator))
    assert set(metrics) == set(steps.METRICS["joint"])


@pytest.mark.parametrize("form", ["minimax", "non_saturating"])
def test_adversarial_gradient_reaches_c_and_asks_for_images_that_look_real(stages, form):
    """A small step along the adversarial gradient alone makes the completions look more real to D."""
    from dataclasses import replace

    batch = make_batch()
    state, stage = make_state(stages, "joint")
    before = state.completion.get_weights()
    state.completion_optimizer.learning_rate = 0.01
    # With so large a weight the completion loss is next to nothing.
    steps.joint_step(state, replace(stage, adversarial_weight=1e6, adversarial_form=form), batch, 0.0)

    def realness():
        images = tf.cast(batch["image"], tf.float32) / 255
        completed = state.completion({"image": images, "mask": batch["mask"]}, training=True)
        fakes = composite(completed, images, batch["mask"])
        return float(tf.reduce_mean(steps._discriminate(state, stage, fakes, batch["patch"])))

    after = realness()
    state.completion.set_weights(before)  # D is the same: it was updated before C
    assert after > realness()


def test_d_is_updated_without_c_s_loss(stages):
    after = []
    for known_weight in (0.0, 100.0):
        state, stage = make_state(stages, "joint")
        steps.joint_step(state, stage, make_batch(), known_weight)
        after.append({v.path: v.numpy() for v in state.discriminator.trainable_variables})
    assert not changed(*after)


def test_joint_step_updates_d_first_and_uses_one_forward_pass(stages):
    """With C's learning rate at 0, the adversarial loss can be computed again from the updated D."""
    state, stage = make_state(stages, "joint")
    state.completion_optimizer.learning_rate = 0.0
    batch = make_batch()
    metrics = steps.joint_step(state, stage, batch, 0.0)
    images = tf.cast(batch["image"], tf.float32) / 255
    # Batch statistics: the outputs do not depend on the moving ones, which the step did change.
    completed = state.completion({"image": images, "mask": batch["mask"]}, training=True)
    fakes = composite(completed, images, batch["mask"])
    logits = steps._discriminate(state, stage, fakes, batch["patch"]).numpy()
    np.testing.assert_allclose(metrics["adversarial_loss"], np.mean(-np.log1p(np.exp(logits))), rtol=1e-4)


def test_r1_takes_d_s_gradient_at_real_images(stages):
    """Its norm is the difference quotient of D's logits along it; image and patch are inputs of their own."""
    state, stage = make_state(stages, "discriminator")
    batch = make_batch()
    images = tf.cast(batch["image"], tf.float32) / 255
    inputs = {"image": images, "patch": local_patch(images, batch["real_patch"], PATCH)}
    _, gradients = steps._discriminate(state, stage, images, batch["real_patch"], with_gradients=True)
    for name, gradient in zip(sorted(inputs), gradients, strict=True):
        step = 1e-2 * gradient / tf.norm(gradient)
        ends = [state.discriminator({**inputs, name: inputs[name] + s * step}, training=True) for s in (1, -1)]
        quotient = float(tf.reduce_sum(ends[0] - ends[1])) / 2e-2
        np.testing.assert_allclose(tf.norm(gradient), quotient, rtol=0.02)


def test_r1_makes_d_smoother_and_is_logged(stages):
    from dataclasses import replace

    penalties = {}
    for gamma in (0.0, 100.0):
        state, stage = make_state(stages, "discriminator")
        for i in range(4):
            metrics = steps.discriminator_step(state, replace(stage, r1_gamma=gamma), make_batch(i), 0.0)
        images = tf.cast(make_batch()["image"], tf.float32) / 255
        _, gradients = steps._discriminate(state, stage, images, make_batch()["real_patch"], with_gradients=True)
        penalties[gamma] = sum(float(tf.reduce_sum(tf.square(g))) for g in gradients)
        assert (float(metrics["r1_penalty"]) > 0) == (gamma > 0)
    assert penalties[100.0] < penalties[0.0] / 2


def test_d_sees_the_original_where_pixels_are_known(stages, monkeypatch):
    state, stage = make_state(stages, "joint")
    batch = make_batch()
    seen = []
    discriminate = steps._discriminate
    monkeypatch.setattr(
        steps, "_discriminate", lambda s, g, images, origin: seen.append(images) or discriminate(s, g, images, origin)
    )
    steps.joint_step(state, stage, batch, 0.0)
    original = tf.cast(batch["image"], tf.float32).numpy() / np.float32(255)
    known = batch["mask"].numpy()[..., 0] == 0
    fake_for_d, real, fake_for_c = (images.numpy() for images in seen)
    assert np.array_equal(fake_for_d[known], original[known]) and not np.array_equal(fake_for_d, original)
    assert np.array_equal(real, original)
    assert np.array_equal(fake_for_c, fake_for_d)


def test_d_is_kept_at_one_size_and_built_anew_at_another(stages):
    from dataclasses import replace

    state, stage = make_state(stages, "discriminator")
    steps.discriminator_step(state, stage, make_batch(), 0.0)
    network, slots = state.discriminator, [v.numpy() for v in state.discriminator_optimizer.variables]
    state.enter(replace(stage, phase="joint"))
    assert state.discriminator is network
    for old, new in zip(slots, state.discriminator_optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    state.enter(replace(stage, image_size=32, patch_size=16))
    assert state.discriminator is not network
    assert int(optimizers.inner(state.discriminator_optimizer).iterations) == 0


def test_loop_counts_steps_averages_and_names_a_step_that_is_no_number(stages):
    from dataclasses import replace

    state, stage = make_state(stages, "completion")
    stage = replace(stage, start=0, known_weight=1.0, known_weight_end=0.0)
    batches = [make_batch(i) for i in range(5)]
    batches[3]["mask"] = batches[3]["mask"] * np.nan

    def dataset(chosen):
        return tf.data.Dataset.from_tensor_slices({k: tf.stack([b[k] for b in chosen]) for k in chosen[0]})

    loop = steps.make_loop(state, stage)
    result = loop(iter(dataset(batches[:3])), tf.constant(3))
    assert int(state.step) == 3 and int(result["bad_step"]) == -1 and float(result["waited"]) >= 0

    again, _ = make_state(stages, "completion")
    losses = [
        float(steps.completion_step(again, stage, b, 1 - i / stage.steps)["completion_loss"])
        for i, b in enumerate(batches[:3])
    ]
    np.testing.assert_allclose(result["completion_loss"], np.mean(losses), rtol=1e-4)
    assert int(loop(iter(dataset(batches[2:5])), tf.constant(3))["bad_step"]) == 4


def in_parts(batch, count):
    size = BATCH // count
    return [{name: value[i * size : (i + 1) * size] for name, value in batch.items()} for i in range(count)]


def accumulated_by_hand(state, stage, batch, count, known_weight):
    """Algorithm 1 from its text, part by part: D's update, then C's against the new D, each from summed gradients."""

    def completions(part):
        images, mask = tf.cast(part["image"], tf.float64) / 255, tf.cast(part["mask"], tf.float64)
        return images, mask, state.completion({"image": images, "mask": mask}, training=stage.phase != "discriminator")

    def seen_by_d(images, origin):
        patches = [image[y : y + PATCH, x : x + PATCH] for image, (y, x) in zip(images, origin.numpy(), strict=True)]
        return {"image": images, "patch": tf.stack(patches)}

    def entropy(images, origin, label):
        logits = state.discriminator(seen_by_d(images, origin), training=True)[:, 0]
        return tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(logits.shape, tf.cast(label, tf.float64)), logits)

    def features_apart(images, fakes, origin):
        d = state.discriminator
        convolutions = [layer.name for layer in d.layers if isinstance(layer, keras.layers.Conv2D)]
        names = [name.replace("conv", "relu") for name in convolutions]
        looking = keras.Model(d.input, [d.get_layer(name).output for name in names])
        pairs = zip(*(looking(seen_by_d(x, origin), training=True) for x in (images, fakes)), strict=True)
        return sum(tf.reduce_mean(tf.abs(a - b), [1, 2, 3]) for a, b in pairs) / len(names)

    def update(network, optimizer, loss_of_part, clip_norm):
        totals = [np.zeros(v.shape) for v in network.trainable_variables]
        for part in in_parts(batch, count):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(loss_of_part(part)) / BATCH
            gradients = tape.gradient(loss, network.trainable_variables)
            totals = [total + g.numpy() for total, g in zip(totals, gradients, strict=True)]
        norm = np.sqrt(sum(np.sum(total**2) for total in totals))
        assert norm > clip_norm > 0
        totals = [total * clip_norm / norm for total in totals]
        optimizer.apply([tf.constant(total) for total in totals], network.trainable_variables)

    def loss_of_d(part):
        kept = state.completion.get_weights()
        images, mask, completed = completions(part)
        state.completion.set_weights(kept)
        fakes = tf.where(mask > 0, completed, images)
        return entropy(fakes, part["patch"], 0) + entropy(images, part["real_patch"], 1)

    def loss_of_c(part):
        images, mask, completed = completions(part)
        error = tf.reduce_mean((completed - images) ** 2, -1, keepdims=True)
        sums = [
            tf.reduce_sum(error * region, [1, 2, 3]) / tf.reduce_sum(region, [1, 2, 3]) for region in (mask, 1 - mask)
        ]
        loss = sums[0] + known_weight * sums[1]
        if stage.phase == "joint":  # minimax: log(1 - D) is the cross-entropy of the label 0, with a minus
            fakes = tf.where(mask > 0, completed, images)
            kept = state.discriminator.get_weights()  # D sees the fakes once, for its logits and its features
            loss -= stage.adversarial_weight * entropy(fakes, part["patch"], 0)
            state.discriminator.set_weights(kept)
            loss += stage.feature_matching_weight * features_apart(images, fakes, part["patch"])
        return loss

    if stage.phase != "completion":
        clip_norm = stage.discriminator_optimizer.clip_norm
        update(state.discriminator, state.discriminator_optimizer, loss_of_d, clip_norm)
    if stage.phase != "discriminator":
        update(state.completion, state.completion_optimizer, loss_of_c, stage.optimizer.clip_norm)


@pytest.mark.parametrize("phase", PHASES)
def test_accumulated_step_is_one_update_from_the_gradients_of_all_parts(stages, phase):
    """The statistics too: batch normalisation sees one part at a time, and each part moves C's moving statistics once.

    With feature matching, and with gradients that are clipped once all parts are summed.
    """
    from dataclasses import replace

    keras.config.set_floatx("float64")
    config, by_phase = stages
    config = config.copy_and_resolve_references()
    config.precision = "float64"
    stage = by_phase[phase]
    stage = replace(
        stage,
        adversarial_weight=0.5,  # so much that nobody can overlook it
        feature_matching_weight=0.7,
        optimizer=replace(stage.optimizer, clip_norm=1e-3),
        discriminator_optimizer=replace(stage.discriminator_optimizer, clip_norm=1e-3),
    )
    ours, theirs = (make_state((config, {phase: stage}), phase)[0] for _ in range(2))
    metrics = steps.STEPS[phase](ours, stage, make_batch(), 0.3, accumulate_steps=2)
    accumulated_by_hand(theirs, stage, make_batch(), 2, 0.3)
    assert set(metrics) == set(steps.METRICS[phase])
    for name in ("completion", "discriminator") if phase != "completion" else ("completion",):
        pairs = (values(getattr(state, name)) for state in (ours, theirs))
        for (path, value), expected in zip(next(pairs).items(), next(pairs).values(), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11, err_msg=f"{name} {path}")


def test_metrics_of_a_step_in_parts_are_means_over_the_batch(stages):
    """D's and C's losses of half a batch, with half a batch's statistics, averaged."""
    batch = make_batch()
    expected = []
    for part in in_parts(batch, 2):
        state, stage = make_state(stages, "completion")
        doubled = {name: tf.concat([value, value], 0) for name, value in part.items()}  # has the same statistics
        expected.append(float(steps.completion_step(state, stage, doubled, 0.0)["completion_loss"]))
    state, stage = make_state(stages, "completion")
    found = steps.completion_step(state, stage, batch, 0.0, accumulate_steps=2)
    np.testing.assert_allclose(found["completion_loss"], np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("phase", PHASES)
def test_a_step_can_be_compiled_for_a_tpu(stages, phase):
    """Every shape is known, and nothing in it calls back into Python on the host."""
    state, stage = make_state(stages, phase)
    specs = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in make_batch().items()}
    advance, start = steps.make_advance(state, stage)
    graph = tf.function(advance, autograph=False).get_concrete_function(specs, start()).graph
    nodes = list(graph.as_graph_def().node) + [n for f in graph.as_graph_def().library.function for n in f.node_def]
    assert len(nodes) > 200
    assert not {node.op for node in nodes if "Py" in node.op or "Print" in node.op}
    # The last output of a fused norm is scratch for a GPU's library, of no shape; XLA makes nothing of it.
    scratch = {op.outputs[-1].ref() for op in graph.get_operations() if op.type == "FusedBatchNormV3"}
    for operation in graph.get_operations():
        if operation.type == "ZerosLike" and operation.inputs[0].ref() in scratch:
            continue  # its gradient, which nothing reads
        for tensor in operation.outputs:
            known = tensor.dtype in (tf.resource, tf.variant) or tensor.shape.is_fully_defined()
            assert known or tensor.ref() in scratch, tensor
