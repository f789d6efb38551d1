"""On paper: how long a config's training takes on N accelerators, and what is the limit.

    python -m benchmarks.estimate [--config=configs/places2.py] [--peak_tflops=989] [--utilisation=0.2,0.4]

FLOPs, parameters and the number of sums over the replicas are read off our steps. The rest are assumptions, to be
given. A step takes as long as the slower of input and the rest:

    rest = FLOPs / (N x peak x utilisation) + 32 x parameters / memory + overhead
           + 2 (N - 1) / N x 4 x parameters / link + sums x latency
    input = images / (N x cores x images per second and core)

An update reads and writes 8 float32 values per parameter on every replica, whatever N is (Adadelta: weight, gradient
and two averages read, weight and averages written, gradient made). `overhead` is what starting a step's kernels costs
at least. Gradients are float32, and their sum does not overlap with computing. The small sums are those of a batch
normalisation's statistics, one forward and one backward, one after the other. N = 1 has no links. A batch that N does
not divide is rounded up.
"""

import math

from absl import flags
from ml_collections import config_flags

from glcic_tf.common import cli, config_file
from glcic_tf.common.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", str(config_file.find("places2")), "the run")
_ACCELERATORS = flags.DEFINE_list("accelerators", ["1", "8", "64"], "how many")
_PEAK = flags.DEFINE_float("peak_tflops", 989.0, "of an accelerator, dense; by default an H100's in bfloat16", 0.01)
_UTILISATION = flags.DEFINE_list("utilisation", ["0.2", "0.4"], "shares of the peak that are reached")
_MEMORY = flags.DEFINE_float("memory_gb_s", 2500.0, "GB/s of an accelerator's memory", 0.1)
_OVERHEAD = flags.DEFINE_float("overhead_ms", 3.0, "of a step, whatever its batch", 0.0)
_LINK = flags.DEFINE_list("link_gb_s", ["1", "300", "40"], "GB/s of an accelerator's link, for each of --accelerators")
_LATENCY = flags.DEFINE_list("latency_us", ["0", "30", "60"], "of one small sum over the replicas, likewise")
_CORES = flags.DEFINE_integer("cores", 12, "CPU cores that read input, for each accelerator", 1)
_INPUT = flags.DEFINE_float("images_per_core", 210.0, "examples per second that one core reads", 0.1)
_BYTES = flags.DEFINE_float("photo_kb", 70.0, "of a photo in the shards", 0.1)
_UPDATE_BYTES = 32  # per parameter, see above


def describe(config, stage):
    """Return {"flops" of an image, "parameters" that are updated, "sums" over the replicas} of a step of a stage."""
    import keras

    from benchmarks import training_competitors
    from glcic_tf.training import devices, train_state

    state = train_state.TrainState(config, (0.5, 0.5, 0.5), devices.make_strategy("cpu"))
    state.enter(stage)
    flops = training_competitors.graph_flops(state, stage, training_competitors.ready_batch(stage))

    def norms(network):
        return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)

    trained = {"completion": [state.completion], "discriminator": [state.discriminator]}
    trained = trained.get(stage.phase) or [state.completion, state.discriminator]
    # Forward and backward: C once, D at fakes and photos, and in the joint phase once more for C's loss.
    passes = {"completion": [1], "discriminator": [2], "joint": [1, 3]}[stage.phase]
    return {
        "flops": flops / stage.batch_size,
        "parameters": sum(v.shape.num_elements() for network in trained for v in network.trainable_variables),
        "sums": sum(2 * n * norms(network) for n, network in zip(passes, trained, strict=True)),
    }


def step_seconds(found, batch, count, utilisation, link_gb_s, latency_us):
    """Return ({what: seconds} of one step, seconds that its input takes)."""
    rest = {
        "FLOPs": found["flops"] * batch / (count * _PEAK.value * 1e12 * utilisation),
        "update": _UPDATE_BYTES * found["parameters"] / (_MEMORY.value * 1e9),
        "overhead": _OVERHEAD.value / 1e3,
    }
    if count > 1:
        rest["gradients"] = 2 * (count - 1) / count * 4 * found["parameters"] / (link_gb_s * 1e9)
        rest["statistics"] = found["sums"] * latency_us / 1e6
    return rest, batch / (count * _CORES.value * _INPUT.value)


def _small(config):
    """A copy whose steps are quick to trace."""
    small = config.copy_and_resolve_references()
    small.batch_size, small.accumulate_steps = 2, 1
    return small


def main():
    counts, links, latencies = (list(map(float, flag.value)) for flag in (_ACCELERATORS, _LINK, _LATENCY))
    if not len(counts) == len(links) == len(latencies):
        raise UserError("--link_gb_s, --latency_us: give one value for each of --accelerators.")
    with cli.quiet_start():
        import tensorflow as tf  # noqa: F401

    from glcic_tf.training.stages import resolve

    config = _CONFIG.value
    config.precision = "float32"  # what is counted is the same in each
    stages = resolve(config)
    if any(stage.r1_gamma for stage in stages):
        raise UserError("--config: has r1_gamma, whose sums over the replicas are not counted here.")
    small = _small(config)
    found = [describe(small, stage) for stage in resolve(small)]
    print(f"{'stage':<16}{'steps':>9}{'batch':>7}{'TFLOP a step':>14}{'million parameters':>22}{'sums a step':>14}")
    for stage, row in zip(stages, found, strict=True):
        tflop, millions = row["flops"] * stage.batch_size / 1e12, row["parameters"] / 1e6
        print(f"{stage.name:<16}{stage.steps:>9,}{stage.batch_size:>7}{tflop:>14.1f}{millions:>22.1f}{row['sums']:>14}")
    print(f"\npeak {_PEAK.value:g} TFLOP/s, {_CORES.value} cores x {_INPUT.value:g} images/s for each accelerator")
    print(f"{'N':>4}{'of peak':>9}{'days':>8}{'images/s':>10}{'MB/s read':>11}   where the time goes")
    for count, link, latency in zip(counts, links, latencies, strict=True):
        for utilisation in map(float, _UTILISATION.value):
            total, images, parts = 0.0, 0, {}
            for stage, row in zip(stages, found, strict=True):
                batch = math.ceil(stage.batch_size / count) * count
                rest, read = step_seconds(row, batch, count, utilisation, link, latency)
                rest["input"] = max(0.0, read - sum(rest.values()))
                total += stage.steps * sum(rest.values())
                images += stage.steps * batch
                for name, seconds in rest.items():
                    parts[name] = parts.get(name, 0.0) + stage.steps * seconds
            shares = ", ".join(
                f"{name} {seconds / total:.0%}" for name, seconds in parts.items() if seconds / total > 0.005
            )
            rate = images / total
            read_mb = rate * _BYTES.value / 1e3
            print(f"{count:>4.0f}{utilisation:>9.0%}{total / 86400:>8.2f}{rate:>10,.0f}{read_mb:>11,.0f}   {shares}")


if __name__ == "__main__":
    cli.run(main)
