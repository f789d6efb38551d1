"""The competitors of `benchmarks.training`, each in a process of its own: our training step, and PyTorch's.

A case is a dict of JSON values: `phase`, `dtype`, `procedure` (of PyTorch), `data_dir` (None: a batch that lies ready),
`threads`, and those of the program's flags that say what is computed. Ours may also have `strategy` (by default the
`device`), `replicas` (logical CPUs to make) and `accumulate_steps`.
"""

import time

import numpy as np

from benchmarks import workers
from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.configs import default
from glcic_tf.data import examples
from glcic_tf.training import stages

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_MEAN_PIXEL = (0.45, 0.45, 0.4)


def config_and_stage(case):
    """Return the paper's config at a case's settings, and its stage of the case's phase."""
    config = default.get_config()
    config.update(default.size(case["size"]))
    config.batch_size, config.width, config.precision = case["batch"], case["width"], POLICIES[case["dtype"]]
    config.discriminator.width = case["width"]
    config.data.validation_photos = 0
    config.jit_compile, config.accumulate_steps = case["jit_compile"], case.get("accumulate_steps", 1)
    if case["optimizer"] == "adam":
        config.optimizer = config.discriminator_optimizer = default.adam(1e-4, schedule="constant")
    return config, next(stage for stage in stages.resolve(config) if stage.phase == case["phase"])


class _Noise:
    """Stands for examples.Photos where nobody looks at the photos."""

    def __init__(self, count):
        self.paths = range(count)

    def crop(self, index, short_edge, size, position, short_edge_max=None):
        del short_edge, position
        return np.random.default_rng(int(index)).integers(0, 256, (size, size, 3), np.uint8)


def ready_batch(stage):
    """The batch that all train on, as `examples.batch` makes it."""
    return examples.batch(_Noise(stage.batch_size), stage, seed=0, step=stage.start)


def serve_tensorflow(case):
    """Answer as our training step."""
    with cli.quiet_start():
        import tensorflow as tf

    from glcic_tf.data import sources
    from glcic_tf.data.dataset import batches
    from glcic_tf.training import devices, steps, train_state

    tf.config.threading.set_intra_op_parallelism_threads(case["threads"])
    for gpu in tf.config.list_physical_devices("GPU"):  # the others need some of its memory too
        tf.config.experimental.set_memory_growth(gpu, True)
    if case.get("replicas", 1) > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        each = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [each] * case["replicas"])
    config, stage = config_and_stage(case)
    strategy = devices.make_strategy(case.get("strategy", case["device"]))
    state = train_state.TrainState(config, _MEAN_PIXEL, strategy)
    state.enter(stage)
    loop = steps.make_loop(state, stage, config.jit_compile)
    batch = ready_batch(stage)
    if case["data_dir"]:
        photos, _ = sources.find(config, case["data_dir"], None, stage.batch_size)
        dataset = batches(photos, stage, seed=0, start=stage.start)
    else:
        dataset = tf.data.Dataset.from_tensors(batch).repeat()
    dataset = strategy.experimental_distribute_dataset(dataset)
    iterator = iter(dataset)
    start_mb = workers.memory_mb()[0]

    def run(n):
        nonlocal iterator
        if case["data_dir"]:  # what was read ahead while others had their turn would be a present
            iterator = iter(dataset)
            loop(iterator, tf.constant(1))["waited"].numpy()
        begin = time.perf_counter()
        result = {name: float(value) for name, value in loop(iterator, tf.constant(n)).items()}
        return {"seconds": (time.perf_counter() - begin) / n, **result}

    def describe():
        return {
            "parameters": sum(int(tf.size(v)) for network in networks() for v in network.trainable_variables),
            "flops": graph_flops(state, stage, batch),
        }

    def networks():
        return filter(None, [state.completion, state.discriminator])

    def memory():
        if case["device"] == "gpu":
            return {"peak_mb": tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20, "start_mb": 0}
        return {"peak_mb": workers.memory_mb()[1], "start_mb": start_mb}

    def save(path):
        arrays = [{"/".join(v.path.split("/")[-2:]): v.numpy() for v in network.variables} for network in networks()]
        for i, of_network in enumerate(arrays):
            np.savez(f"{path}{i}.npz", **of_network)
        return len(arrays)

    workers.serve({"run": run, "describe": describe, "memory": memory, "save": save})


def graph_flops(state, stage, batch):
    """FLOPs of convolutions and matrix products in our step: multiplications and additions."""
    import tensorflow as tf

    from glcic_tf.training import steps

    def step(batch):
        return state.strategy.run(lambda batch: steps.STEPS[stage.phase](state, stage, batch, 0.0), args=(batch,))

    specs = {name: tf.TensorSpec(array.shape, array.dtype) for name, array in batch.items()}
    graph = tf.function(step, autograph=False).get_concrete_function(specs).graph  # traced and never run
    todo, seen, flops = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs), set(), 0
    while todo:  # from the results back, since the gradients of what does not train are traced too, and then cut off
        operation = todo.pop()
        if operation in seen:
            continue
        seen.add(operation)
        todo += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
        kind, inputs = operation.type, operation.inputs
        if kind == "MatMul":
            length = inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
            flops += 2 * length * operation.outputs[0].shape.num_elements()
        elif kind in ("Conv2D", "Conv2DBackpropInput"):
            made = (operation.outputs if kind == "Conv2D" else inputs[2:])[0]
            flops += 2 * inputs[1].shape[:3].num_elements() * made.shape.num_elements()
        elif kind == "Conv2DBackpropFilter":
            flops += 2 * operation.outputs[0].shape[:3].num_elements() * inputs[2].shape.num_elements()
        elif kind.endswith("PartitionedCall") or kind in ("While", "StatelessWhile", "If", "StatelessIf"):
            raise ValueError(f"FLOPs of {operation.name} cannot be counted: it calls another function")
    return flops


def serve_pytorch(case):
    """Answer as one of PyTorch's procedures."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks import torch_networks, torch_steps

    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    _, stage = config_and_stage(case)
    device, bfloat16 = "cuda" if case["device"] == "gpu" else "cpu", case["dtype"] == "bfloat16"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device=gpu: PyTorch sees none; install its build for this GPU, or use --device=cpu.")
    training = torch_steps.Training(
        stage,
        case["width"],
        case["procedure"],
        bfloat16,
        device,
        case["channels_last"],
        case["torch_compile"],
        _MEAN_PIXEL,
    )
    batch = training.put(ready_batch(stage))
    networks = [network for network in (training.completion, training.discriminator) if network]
    start_mb = workers.memory_mb()[0]

    def run(n):
        begin = time.perf_counter()
        totals = {}
        for _ in range(n):
            for name, loss in training.step(batch).items():
                totals[name] = totals.get(name, 0) + loss / n
        result = {name: float(loss) for name, loss in totals.items()}  # waits for the device
        return {"seconds": (time.perf_counter() - begin) / n, **result}

    def describe():
        with FlopCounterMode(display=False) as counter:
            training.step(batch)
        return {
            "parameters": sum(p.numel() for network in networks for p in network.parameters()),
            "flops": counter.get_total_flops(),
        }

    def memory():
        if device == "cuda":
            return {"peak_mb": torch.cuda.max_memory_allocated() / 2**20, "start_mb": 0}
        return {"peak_mb": workers.memory_mb()[1], "start_mb": start_mb}

    def load(path):
        for i, network in enumerate(networks):
            with np.load(f"{path}{i}.npz") as arrays:
                torch_networks.copy_weights(arrays, network)
        return len(networks)

    workers.serve({"run": run, "describe": describe, "memory": memory, "load": load})
