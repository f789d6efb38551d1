"""The Context Encoder through the same training as GLCIC's networks."""

import json
import shutil

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.apps.portable.export_bundle import export
from glcic_tf.common.errors import UserError
from glcic_tf.configs import centre, context_encoder, default
from glcic_tf.networks import model_file
from glcic_tf.training import loop, network_kinds, settings, steps, train_state
from glcic_tf.training.checkpoints import Checkpoints
from glcic_tf.training.stages import contradictions, resolve, to_dict


def make_config(joint_steps=4, **changes):
    config = context_encoder.get_config()
    config.width = config.discriminator.width = 1 / 32
    config.precision = "float32"
    config.deterministic = True
    config.batch_size = 4
    config.stages.joint.steps = joint_steps
    config.data.validation_photos = 2
    config.checkpoint_every_steps = config.steps_per_loop = 2
    config.log_every_steps = 1
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(8):
        coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (170, 136), interpolation=cv2.INTER_CUBIC))
    return folder


def make_state(**changes):
    config = make_config(**changes)
    (stage,) = resolve(config)
    state = train_state.TrainState(config, (0.4, 0.5, 0.6), tf.distribute.get_strategy())
    state.enter(stage)
    return state, stage


def make_batch():
    rng = np.random.default_rng(0)
    mask = np.zeros((4, 128, 128, 1), np.float32)
    mask[:, 32:96, 32:96] = 1
    coarse = rng.integers(0, 256, (4, 4, 4, 3), dtype=np.uint8)
    corner = tf.fill([4, 2], 32)
    image = np.stack([cv2.resize(photo, (128, 128)) for photo in coarse])
    return {"image": tf.constant(image), "mask": tf.constant(mask), "patch": corner, "real_patch": corner}


def values(network):
    return [np.float64(v.numpy()) for v in network.trainable_variables]


def test_the_loss_is_the_papers():
    """0.999 times the squared error over [-1, 1] plus 0.001 times the cross-entropy, but for the factor 3.996."""
    state, stage = make_state()
    batch = make_batch()
    image = batch["image"].numpy() / 255
    inputs = {"image": tf.constant(image, tf.float32), "mask": batch["mask"]}
    middle = np.s_[:, 32:96, 32:96]
    with tf.GradientTape() as tape:
        completed = state.completion(inputs, training=True)
        fake = completed[:, 32:96, 32:96]
        logits = state.discriminator({"patch": fake}, training=True)
        squared = tf.reduce_mean((2 * fake - 2 * image[middle].astype(np.float32)) ** 2)
        loss = 0.999 * squared + 0.001 * tf.reduce_mean(tf.nn.softplus(-logits))
    expected = tape.gradient(loss, state.completion.trainable_variables)

    forward = steps._forward(state, batch, adversarial=True)
    gradients, metrics = steps._completion_gradients(state, stage, batch, forward, 0.0)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert tf.norm(ours * 3.996 - theirs) <= 1e-4 * tf.norm(theirs) + 1e-9
    p = 1 / (1 + np.exp(-np.float64(logits)))
    found = completed.numpy()
    error = np.mean((2 * (found - image)[middle]) ** 2)
    in_numpy = 0.999 * error - 0.001 * np.mean(np.log(p))
    total = metrics["completion_loss"] + stage.adversarial_weight * metrics["adversarial_loss"]
    np.testing.assert_allclose(3.996 * total, in_numpy, rtol=1e-5)


def test_steps_change_both_networks_and_lower_the_error():
    state, stage = make_state()
    before = values(state.completion), values(state.discriminator)
    first = steps.joint_step(state, stage, make_batch(), 0.0)
    assert set(first) == set(steps.METRICS["joint"])
    for _ in range(15):
        last = steps.joint_step(state, stage, make_batch(), 0.0)
    assert last["completion_loss"] < 0.9 * first["completion_loss"]
    for old, network in zip(before, (state.completion, state.discriminator), strict=True):
        assert all((a != b).any() for a, b in zip(old, values(network), strict=True))


def variables(workdir):
    reader = tf.train.load_checkpoint(Checkpoints(workdir / "checkpoints").latest()[0])
    names = [name for name in reader.get_variable_to_shape_map() if name.split("/")[0] not in ("meta", "save_counter")]
    return {name: reader.get_tensor(name) for name in names if not name.startswith("_CHECKPOINTABLE")}


def test_a_run_that_was_stopped_ends_with_the_same_bits(photos, tmp_path):
    assert loop.train(make_config(), photos, tmp_path / "whole", val_dir=photos)
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    for file in (tmp_path / "resumed" / "checkpoints").glob("ckpt-4*"):
        file.unlink()
    assert Checkpoints(tmp_path / "resumed" / "checkpoints").latest()[1]["step"] == 2
    assert loop.train(make_config(), photos, tmp_path / "resumed", val_dir=photos)
    whole, resumed = variables(tmp_path / "whole"), variables(tmp_path / "resumed")
    assert whole.keys() == resumed.keys() and any(name.startswith("discriminator/") for name in whole)
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)

    # What the run leaves: the model file, and no SavedModel, which would promise photos of any size.
    model = model_file.load(tmp_path / "whole" / "joint.keras")
    assert model.name == "context_encoder" and not (tmp_path / "whole" / "savedmodel").exists()
    assert model_file.read_metadata(tmp_path / "whole" / "joint.keras")["hole_kind"] == "centre"
    lines = [json.loads(line) for line in (tmp_path / "whole" / "stats.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "completion_loss" in line] == [1, 2, 3, 4]
    assert lines[-1]["phase"] == "joint" and (tmp_path / "whole" / "samples" / "0000004.png").is_file()

    # Another run begins with that file's network and weights.
    config = make_config(1, **{"init_from": str(tmp_path / "whole" / "joint.keras"), "width": 1.0})
    assert loop.train(config, photos, tmp_path / "tuned")
    assert model_file.load(tmp_path / "tuned" / "joint.keras").get_layer("conv4").filters == 8
    config.network = "glcic"
    config.update(default.size(128) | dict(hole=dict(kind="rectangle")))
    config.stages = default.stages(config, completion=default.stage("completion", steps=1))
    with pytest.raises(UserError, match="lacks layers of config.network=glcic"):
        loop.train(config, photos, tmp_path / "other")


def test_two_replicas_in_float16_with_an_average_and_a_completion_stage(photos, tmp_path):
    config = make_config(1, precision="mixed_float16", accumulate_steps=2, average_decay=0.9, equal_phases=True)
    config.deterministic = False
    config.stages = default.stages(
        config, completion=default.stage("completion", steps=1), joint=default.stage("joint", steps=1)
    )
    assert loop.train(config, photos, tmp_path, strategy="mirrored")
    model = model_file.load(tmp_path / "joint.keras")
    assert all(layer.compute_dtype == "float32" for layer in model.layers)
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "unet"}, "config.network is 'unet'; expected one of glcic, context_encoder"),
        ({"image_size": 160, "short_edge_min_px": 160}, "stage joint: image_size is 160; .* only takes 128"),
        ({"patch_size": 96}, "stage joint: patch_size is 96; config.network=context_encoder only takes 64"),
        ({"hole.kind": "rectangle"}, "stage joint: hole.kind is 'rectangle'; .* only takes 'centre'"),
        ({"hole.min_px": 32}, "stage joint: hole.min_px is 32; .* only takes 64"),
        ({"feature_matching_weight": 1.0}, "stage joint: feature_matching_weight is 1.0; .* only takes 0"),
        ({"discriminator.use_local": False}, "config.discriminator.use_local: .* does not use it; leave it at True"),
        ({"discriminator.init_from": "d.keras"}, "config.discriminator.init_from: .* does not use it"),
        ({"network": "glcic"}, "stage joint: the joint phase needs a trained completion network"),
    ],
)
def test_what_it_cannot_be_trained_on_is_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        resolve(make_config(**changes))
    assert "\n" not in str(error.value)


def test_both_networks_are_given_the_same_examples():
    """But for the stage that begins with half of their size."""
    ours, (small, *theirs) = resolve(context_encoder.get_config()), resolve(centre.get_config())
    assert (small.image_size, small.hole.min_px, small.hole.max_px) == (64, 32, 32)
    for name in ("image_size", "short_edge_min_px", "short_edge_max_px", "batch_size", "hole"):
        assert {getattr(stage, name) for stage in ours} == {getattr(stage, name) for stage in theirs}
    assert context_encoder.get_config().data == centre.get_config().data


def test_kinds_are_those_that_a_config_may_name():
    assert set(network_kinds.KINDS) == set(settings.NETWORKS)


def test_a_run_from_before_there_was_a_choice_goes_on_as_glcic():
    then = to_dict(centre.get_config())
    del then["network"]
    assert contradictions(then, to_dict(centre.get_config()), 1) == []
    ours = to_dict(context_encoder.get_config())
    assert ("network", "glcic", "context_encoder") in contradictions(then, ours, 1)


def test_it_has_no_bundle(photos, tmp_path):
    with pytest.raises(UserError, match="config.network=context_encoder: works with `glcic train` only"):
        export(make_config(), photos, tmp_path / "run", tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
