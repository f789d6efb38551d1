"""Several replicas train as one does, on two virtual CPUs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from glcic_tf.common.errors import UserError
from glcic_tf.data import examples
from glcic_tf.data.dataset import batches
from glcic_tf.training import checkpoints, devices, optimizers, steps, train_state
from glcic_tf.training.settings import OptimizerSpec
from glcic_tf.training.stages import resolve

SIZE, PATCH, BATCH = 16, 8, 8


@pytest.fixture(scope="module")
def config(small_config):
    return small_config(BATCH)


def mirrored():
    strategy = devices.make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    return strategy


def make_batches(count):
    rng = np.random.default_rng(0)
    mask = np.zeros((count, BATCH, SIZE, SIZE, 1), np.float32)
    mask[:, :, 5:10, 3:9] = 1
    mask[:, BATCH // 2 :, 2:4, 2:4] = 1  # the replicas' holes differ in size
    return (
        tf.data.Dataset.from_tensor_slices(
            {
                "image": rng.integers(0, 256, (count, BATCH, SIZE, SIZE, 3), dtype=np.uint8),
                "mask": mask,
                "patch": rng.integers(0, SIZE - PATCH + 1, (count, BATCH, 2), dtype=np.int32),
                "real_patch": rng.integers(0, SIZE - PATCH + 1, (count, BATCH, 2), dtype=np.int32),
            }
        )
        .unbatch()
        .batch(BATCH)
    )


def run(state, stage, n):
    iterator = iter(state.strategy.experimental_distribute_dataset(make_batches(n)))
    return {k: float(v) for k, v in steps.make_loop(state, stage)(iterator, tf.constant(n)).items() if k != "waited"}


def networks_of(state):
    found = {f"C/{v.path}": v.numpy() for v in state.completion.variables}
    if state.average is not None:
        found |= {f"average/{v.path}": v.numpy() for v in state.average.variables}
    if state.discriminator is not None:
        found |= {f"D/{v.path}": v.numpy() for v in state.discriminator.variables}
    return found


def assert_close(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], atol=tolerance, rtol=tolerance, err_msg=name)


def with_extras(config):
    """Everything that the paper's configs leave off, with gradients clipped so low that every step is affected."""
    config = config.copy_and_resolve_references()
    config.r1_gamma, config.feature_matching_weight, config.average_decay = 1.0, 0.5, 0.5
    config.optimizer.clip_norm = config.discriminator_optimizer.clip_norm = 1e-3
    config.equal_phases = True
    return config


def assert_equal_phases(state, tolerance):
    kernels = [v.numpy() for v in state.completion.variables if v.path.startswith("deconv") and "kernel" in v.path]
    assert kernels
    for kernel in kernels:
        sums = np.stack([kernel[row::2, column::2].sum((0, 1)) for row in (0, 1) for column in (0, 1)])
        np.testing.assert_allclose(sums, np.broadcast_to(sums[0], sums.shape), atol=tolerance)


@pytest.fixture
def double_precision():
    """In float32 a ReLU whose input rounds to the other side of 0 moves this small network's weights by 1e-4."""
    keras.config.set_floatx("float64")


@pytest.mark.usefixtures("double_precision")
def test_two_replicas_of_four_equal_one_of_eight_in_every_phase_and_share_checkpoints(config, tmp_path):
    config = with_extras(config)
    stages = resolve(config)
    config.precision = "float64"
    states = [train_state.TrainState(config, (0.4, 0.5, 0.6), s) for s in (devices.make_strategy("cpu"), mirrored())]
    assert_close(*(networks_of(s) for s in states), 0)
    for stage in stages:
        metrics = []
        for state in states:
            state.enter(stage)
            metrics.append(run(state, stage, 3))
            assert_equal_phases(state, 1e-12 if stage.phase != "completion" else 1e-7)
        assert_close(*(networks_of(s) for s in states), 1e-9)
        assert_close(*metrics, 1e-6)  # these are float32

    # Checkpoints of one replica load on two and vice versa, and training goes on in the same way.
    for i, (saved, other) in enumerate([states, states[::-1]]):
        folder = checkpoints.Checkpoints(tmp_path / str(i))
        path = folder.save(saved, {"i": i})
        loaded = train_state.TrainState(config, (0.0, 0.0, 0.0), other.strategy)
        loaded.enter(stage)
        folder.restore(path, loaded)
        for name, value in networks_of(saved).items():
            np.testing.assert_array_equal(value, networks_of(loaded)[name], err_msg=name)
        for name, optimizer in saved.optimizers().items():
            for ours, theirs in zip(optimizer.variables, loaded.optimizers()[name].variables, strict=True):
                np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
        assert int(loaded.step.numpy()) == int(saved.step.numpy()) == 9


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, [20, 28, 3], np.uint8)).save(tmp_path / f"{i}.png")
    return examples.Photos(sorted(tmp_path.iterdir()))


@pytest.mark.usefixtures("double_precision")
def test_steps_in_two_parts_are_the_same_on_two_replicas_as_on_one(config, photos):
    """Examples of a part, over all replicas, are also normalised together."""
    config = with_extras(config)
    config.discriminator.use_global, config.accumulate_steps = False, 2
    stage = resolve(config)[-1]
    config.precision = "float64"
    found = []
    for strategy in (devices.make_strategy("cpu"), mirrored()):
        state = train_state.TrainState(config, (0.4, 0.5, 0.6), strategy)
        state.enter(stage)
        state.step.assign(stage.start)
        dataset = strategy.distribute_datasets_from_function(
            lambda context: batches(photos, stage, 0, stage.start, context=context, accumulate_steps=2)
        )
        metrics = steps.make_loop(state, stage)(iter(dataset), tf.constant(3))
        found.append((networks_of(state), {name: float(metrics[name]) for name in steps.METRICS["joint"]}))
    (ours, our_metrics), (theirs, their_metrics) = found
    assert_close(ours, theirs, 1e-9)
    assert_close(our_metrics, their_metrics, 1e-6)  # these are float32


@pytest.mark.parametrize(
    ("workers", "replicas", "parts"), [(1, 1, 4), (1, 2, 1), (2, 2, 1), (2, 4, 1), (2, 2, 4), (2, 4, 2)]
)
def test_workers_make_their_replicas_shares_of_the_batches(config, photos, workers, replicas, parts):
    stage = resolve(config)[0]
    share, first = BATCH // replicas, 7
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, replicas)
        dataset = batches(photos, stage, 3, first, context=context, accumulate_steps=parts)
        made = dataset.take(2 * replicas // workers).as_numpy_iterator()
        for step in (first, first + 1):
            whole = examples.batch(photos, stage, 3, step)
            for local in range(replicas // workers):
                replica = worker * replicas // workers + local
                own = [
                    part * BATCH // parts + replica * share // parts + i
                    for part in range(parts)
                    for i in range(share // parts)
                ]
                assert parts > 1 or own == list(range(replica * share, (replica + 1) * share))
                for name, value in next(made).items():
                    np.testing.assert_array_equal(value, whole[name][own], err_msg=name)


def test_replicas_of_one_worker_get_the_batch_in_its_order(config, photos):
    stage, strategy = resolve(config)[0], mirrored()
    dataset = strategy.distribute_datasets_from_function(lambda c: batches(photos, stage, 3, 7, context=c))
    for step, batch in zip((7, 8), dataset, strict=False):
        for name, value in examples.batch(photos, stage, 3, step).items():
            parts = [part.numpy() for part in strategy.experimental_local_results(batch[name])]
            assert len(parts) == 2
            np.testing.assert_array_equal(np.concatenate(parts), value, err_msg=name)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_norm_that_is_clipped_is_that_of_the_sum_over_the_replicas(policy):
    """Replicas whose gradients nearly cancel: each alone is far above the norm, their sum below or just above."""
    strategy, spec = mirrored(), OptimizerSpec(clip_norm=1e-3)
    with strategy.scope():
        variable = keras.Variable(np.ones(2, np.float32), name="w")
        optimizer = optimizers.make_optimizer(spec, policy, [variable])

    @tf.function(autograph=False)
    def step(gradients):
        def replica():
            mine = gradients[tf.distribute.get_replica_context().replica_id_in_sync_group]
            optimizers.apply_gradients(optimizer, [optimizer.scale_loss(mine)], [variable], spec.clip_norm)

        strategy.run(replica)

    expected, accumulated, updates = np.ones(2), 0.0, 0.0
    for total in ([3e-4, -4e-4], [3e-2, 4e-2]):
        first = np.array([0.5, 0.25])
        step(tf.constant(np.stack([first, np.array(total) - first]), tf.float32))
        gradient = np.array(total) * min(1, 1e-3 / np.hypot(*total))
        accumulated = 0.95 * accumulated + 0.05 * gradient**2  # Zeiler's ADADELTA
        update = -np.sqrt(updates + 1e-6) / np.sqrt(accumulated + 1e-6) * gradient
        updates = 0.95 * updates + 0.05 * update**2
        expected = expected + update
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(copy.numpy(), expected, rtol=2e-7)


def test_an_overflow_on_one_replica_skips_the_step_on_both():
    strategy = mirrored()
    with strategy.scope():
        variable = keras.Variable(np.ones(3, np.float32), name="w")
        optimizer = optimizers.make_optimizer(OptimizerSpec(), "mixed_float16", [variable])

    @tf.function(autograph=False)
    def step(bad_replica):
        def replica():
            replica_id = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradient = tf.where(replica_id == bad_replica, np.float32(np.inf), 1.0) * tf.ones(3)
            optimizers.apply_gradients(optimizer, [gradient], [variable])

        strategy.run(replica)

    scale = optimizers.loss_scale_variables(optimizer)["scale"]
    for bad_replica in (0, 1):
        before = float(scale.numpy())
        step(tf.constant(bad_replica))
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_array_equal(copy.numpy(), np.ones(3))
        assert float(scale.numpy()) == before / 2
    step(tf.constant(-1))
    for copy in strategy.experimental_local_results(variable.value):
        assert np.all(copy.numpy() < 1) and np.all(np.isfinite(copy.numpy()))


def test_checkpoints_with_and_without_loss_scale_load_into_each_other(config, tmp_path):
    stage = resolve(config)[0]
    for i, (first, second) in enumerate([("float32", "mixed_float16"), ("mixed_float16", "float32")]):
        config = config.copy_and_resolve_references()
        pair = []
        for policy in (first, second):
            config.precision = policy
            state = train_state.TrainState(
                config.copy_and_resolve_references(), (0.1, 0.2, 0.3), tf.distribute.get_strategy()
            )
            state.enter(stage)
            pair.append(state)
        for variable in pair[0].completion.trainable_variables:
            variable.assign(variable + 1.0)
        folder = checkpoints.Checkpoints(tmp_path / str(i))
        folder.restore(folder.save(pair[0], {}), pair[1])
        for name, value in networks_of(pair[0]).items():
            np.testing.assert_array_equal(value, networks_of(pair[1])[name])


def test_wrong_strategies_are_told():
    with pytest.raises(UserError, match="--strategy=gpu.*no GPU"):
        devices.make_strategy("gpu")
    with pytest.raises(UserError, match="--strategy=pod: expected one of"):
        devices.make_strategy("pod")
