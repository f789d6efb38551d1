"""On paper: how long a config's training takes on N accelerators, and what is the limit.

    python -m benchmarks.estimate [--config=configs/places2.py] [--peak_tflops=989] [--utilisation=0.4]

FLOPs, parameters and the number of synchronised statistics are read off the graph of our steps. The rest are
assumptions, to be given: what of the accelerator's peak is reached, links, latency, and input per core (see
`python -m benchmarks.input`). A step takes as long as the slower of two, the input and the rest:

    rest = FLOPs / (N x peak x utilisation) + 2 (N - 1) / N x gradients / link + reductions x latency
    input = images / (N x cores x images per second and core)

where gradients are float32, and a reduction is the sum of a batch normalisation's statistics over the replicas, forward
or backward: small, one after the other. N = 1 has no links. A batch that N does not divide is rounded up.
"""

import contextlib
import math
import os

from absl import flags
from ml_collections import config_flags

from glcic_tf import scripts
from glcic_tf.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", "configs/places2.py", "the run")
_ACCELERATORS = flags.DEFINE_multi_integer("accelerators", [1, 8, 64], "give it several times for several")
_PEAK = flags.DEFINE_float(
    "peak_tflops", 989.0, "of an accelerator, in the run's precision; an H100's is the default", 0.01
)
_UTILISATION = flags.DEFINE_multi_float("utilisation", [0.2, 0.4], "share of the peak that is reached", 0.001, 1.0)
_LINK = flags.DEFINE_multi_float("link_gb_s", [1, 450, 50], "GB/s of an accelerator's link, for each of --accelerators")
_LATENCY = flags.DEFINE_float("latency_us", 30.0, "of one small reduction over the replicas", 0.0)
_CORES = flags.DEFINE_integer("cores", 12, "CPU cores that read input, for each accelerator", 1)
_INPUT = flags.DEFINE_float("images_per_core", 490.0, "examples per second that one core reads", 0.1)
_BYTES = flags.DEFINE_float("photo_kb", 45.0, "of a photo in the shards", 0.1)


def describe(config, stage):
    """Return {"flops" per image, "bytes" of gradients, "reductions"} of a step of a stage."""
    import keras

    from benchmarks import training_competitors
    from glcic_tf import devices, train_state

    images = 2
    with config.unlocked():
        config.batch_size, config.accumulate_steps = images, 1
    state = train_state.TrainState(config, (0.5, 0.5, 0.5), devices.make_strategy("cpu"))
    state.enter(stage)
    flops = training_competitors.graph_flops(state, stage, training_competitors.ready_batch(stage)) / images

    def norms(network):
        return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)

    trained = {"completion": [state.completion], "discriminator": [state.discriminator]}
    trained = trained.get(stage.phase) or [state.completion, state.discriminator]
    # Forward and backward: C once, D at fakes and photos, and in the joint phase once more for C's loss.
    passes = {"completion": [1], "discriminator": [2], "joint": [1, 3]}[stage.phase]
    return {
        "flops": flops,
        "bytes": 4 * sum(v.shape.num_elements() for network in trained for v in network.trainable_variables),
        "reductions": sum(2 * n * norms(network) for n, network in zip(passes, trained, strict=True)),
    }


def step_seconds(found, batch, count, utilisation, link_gb_s):
    """Return {limit: seconds} of one step, by what takes them."""
    rest = {"FLOPs": found["flops"] * batch / (count * _PEAK.value * 1e12 * utilisation)}
    if count > 1:
        rest["gradients"] = 2 * (count - 1) / count * found["bytes"] / (link_gb_s * 1e9)
        rest["statistics"] = found["reductions"] * _LATENCY.value / 1e6
    return rest, batch / (count * _CORES.value * _INPUT.value)


def main():
    if len(_LINK.value) != len(_ACCELERATORS.value):
        raise UserError("--link_gb_s: give one for each of --accelerators.")
    with scripts.quiet_start(), contextlib.redirect_stderr(open(os.devnull, "w")):
        import tensorflow as tf  # noqa: F401

    from glcic_tf import schedule

    config = _CONFIG.value
    batch_size, stages = config.batch_size, schedule.resolve(config)
    found = {}
    print(
        f"{'stage':<18}{'steps':>9}{'TFLOP':>8}{'gradients, MB':>15}{'reductions':>12}   (a step, batch {batch_size})"
    )
    for stage in stages:
        small = config.copy_and_resolve_references()
        small.batch_size = 2
        found[stage.name] = describe(small, schedule.resolve(small)[stage.index])
        row = found[stage.name]
        print(
            f"{stage.name:<18}{stage.steps:>9,}{row['flops'] * batch_size / 1e12:>8.1f}{row['bytes'] / 1e6:>15.0f}"
            f"{row['reductions']:>12}"
        )
    print(f"\npeak {_PEAK.value:g} TFLOP/s, {_LATENCY.value:g} us a reduction, ", end="")
    print(f"{_CORES.value} cores x {_INPUT.value:g} images/s")
    print(f"{'N':>4}{'batch':>7}{'of peak':>9}{'days':>8}{'images/s':>10}{'MB/s read':>11}   ", end="")
    print("time goes to (input alone would need)")
    for count, link in zip(_ACCELERATORS.value, _LINK.value, strict=True):
        batch = math.ceil(batch_size / count) * count
        for utilisation in _UTILISATION.value:
            total, waits, parts = 0.0, 0.0, {}
            for stage in stages:
                rest, read = step_seconds(found[stage.name], batch, count, utilisation, link)
                total += stage.steps * max(sum(rest.values()), read)
                waits += stage.steps * read
                for name, seconds in rest.items():
                    parts[name] = parts.get(name, 0.0) + stage.steps * seconds
            images = batch * sum(stage.steps for stage in stages)
            shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in parts.items())
            print(
                f"{count:>4}{batch:>7}{utilisation:>9.0%}{total / 86400:>8.2f}{images / total:>10,.0f}"
                f"{images / total * _BYTES.value / 1e3:>11,.0f}   {shares} ({waits / total:.0%})"
            )


if __name__ == "__main__":
    scripts.run(main)
