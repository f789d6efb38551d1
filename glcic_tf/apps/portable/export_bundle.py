"""Write the bundle of a run: its compiled steps, its state and a manifest. Needs TensorFlow."""

import hashlib
import logging
import re

import keras
import numpy as np
import tensorflow as tf

from glcic_tf.apps.portable import bundle, state_files
from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.data import sources
from glcic_tf.networks import training_layers
from glcic_tf.training import checkpoints, steps, train_state
from glcic_tf.training.optimizers import inner
from glcic_tf.training.run import Run
from glcic_tf.training.settings import AUTO_POLICY
from glcic_tf.training.stages import resolve

_logger = logging.getLogger(__name__)
# The first line of an HLO module says which result takes the memory of which parameter.
_ALIAS = re.compile(r"\{(\d+)\}: \((\d+), \{\}, m(?:ay|ust)-alias\)")


def export(
    config,
    data_dir,
    workdir,
    output,
    val_dir=None,
    phase="all",
    steps_per_call=10,
    parts="all",
    bits=32,
    overwrite=False,
):
    """Write the bundle of a run, from its newest checkpoint if it has one.

    Args:
        config, data_dir, workdir, val_dir, phase: as for `loop.train`. The photos are counted and, if the run is
            new, their mean pixel is measured.
        output: folder to write.
        steps_per_call: optimiser steps that a program does in one call.
        parts, bits: what is kept of the state, see `state_files.save`.
        overwrite: replace a bundle that is there.

    Raises:
        UserError: as `loop.train`, the phase is over, or the folder cannot be written.
    """
    if config.discriminator.init_from:
        raise UserError("config.discriminator.init_from: works with `glcic train` only; leave it empty.")
    if config.network != "glcic":
        raise UserError(f"config.network={config.network}: works with `glcic train` only; a bundle holds glcic.")
    stages = resolve(config)
    if config.precision == AUTO_POLICY:  # not what suits this machine, where it is not trained
        config = config.copy_and_resolve_references()
        config.precision = "mixed_bfloat16"
    run = Run(config, stages, tf.distribute.get_strategy(), workdir)
    todo = run.stages_to_do(phase)
    if not todo:
        raise UserError(f"--workdir={workdir}: there is nothing left to train: step {run.step} of {stages[-1].end}.")
    photos, _ = sources.find(config, data_dir, val_dir, max(stage.batch_size for stage in todo))
    run.prepare(photos, todo[0])
    state, entered = run.state, run.latest and run.latest[1]["stage"]
    begun = bool(run.latest or config.init_from)
    position = {"step": run.step, "stage": entered if run.latest else None, "completion_stage": state.completion_stage}
    position["phase"] = run.latest[1]["phase"] if run.latest else None

    with files.replacing_folder(output, overwrite, "a bundle", bundle.MANIFEST, bundle.MEMBERS) as folder:
        (folder / "programs").mkdir()
        if begun:
            arrays = {name: variable.numpy() for name, variable in _flat(state).items()}
            del arrays["step"]
            state_files.save(folder / "state", arrays, position | run.saver.meta, parts, bits)
        entries = []
        for stage in todo:
            fresh = []
            if stage.index != entered or not run.latest:
                before = _parts_by_identity(state)
                state.enter(stage)
                fresh = _fresh(before, state)
            entries.append(_entry(state, stage, fresh, steps_per_call, folder))
            _logger.info("stage %s: %d variables", stage.name, len(entries[-1]["variables"]))
        bundle.write_manifest(
            folder,
            {
                "format": bundle.FORMAT,
                "made_with": {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__},
                **run.saver.meta,
                "validation": "folder" if val_dir else "held_out",
                "steps_per_call": steps_per_call,
                "state": position if begun else None,
                "stages": entries,
            },
        )


def make_program(state, stage, steps_per_call):
    """Make a stage's steps as one self-contained program: no iterator, no host, one replica.

    Returns:
        (program, arguments): a tf.function that XLA compiles, and the list of tf.TensorSpec of its arguments: `image`,
        `mask`, `patch` and `real_patch`, as `examples.batch` makes them but with an axis of `steps_per_call` batches in
        front, and `n`, int32, how many of these to use. It returns what the loop of `steps.make_loop` does, but for
        `waited`.
    """
    advance, start = steps.make_advance(state, stage)
    sizes = [steps_per_call, stage.batch_size, stage.image_size, stage.image_size]
    arguments = [
        tf.TensorSpec([*sizes, 3], tf.uint8, "image"),
        tf.TensorSpec([*sizes, 1], tf.uint8, "mask"),
        tf.TensorSpec([*sizes[:2], 2], tf.int32, "patch"),
        tf.TensorSpec([*sizes[:2], 2], tf.int32, "real_patch"),
        tf.TensorSpec([], tf.int32, "n"),
    ]

    def do_steps(batches, n):
        if steps_per_call == 1:  # without a loop: XLA's convolutions on the CPU are many times slower inside one
            return steps.means(advance({name: values[0] for name, values in batches.items()}, start()), 1)
        _, results = tf.while_loop(
            lambda i, _: i < n,
            lambda i, results: (i + 1, advance({name: values[i] for name, values in batches.items()}, results)),
            (tf.constant(0), start()),
            parallel_iterations=1,
        )
        return steps.means(results, n)

    @tf.function(jit_compile=True, autograph=False)
    def program(image, mask, patch, real_patch, n):
        with training_layers.traced_for_xla():
            return do_steps({"image": image, "mask": mask, "patch": patch, "real_patch": real_patch}, n)

    return program, arguments


def _entry(state, stage, fresh, steps_per_call, folder):
    """Compile the program of a stage that the state was made for, write it, and describe it for the manifest."""
    program, arguments = make_program(state, stage, steps_per_call)
    compiled = program.experimental_get_compiler_ir(*arguments)
    content = compiled(stage="hlo_serialized")
    aliases = _ALIAS.findall(compiled(stage="hlo").split("\n", 1)[0])

    # A program's parameters are its arguments, then the variables that it captured, in this order.
    concrete = program.get_concrete_function(*arguments)
    variables = _flat(state)
    name_of = {id(variable.handle): name for name, variable in variables.items()}
    names = [name_of[id(captured)] for captured in concrete.captured_inputs]
    file = f"{stage.index}_{stage.name}.hlo"
    (folder / "programs" / file).write_bytes(content)
    return {
        "stage": bundle.stage_fields(stage),
        "program": {"file": file, "sha256": hashlib.sha256(content).hexdigest()},
        "arguments": [spec.name for spec in arguments],
        "variables": [_describe(name, variables[name], state, stage) for name in names],
        "results": sorted(concrete.structured_outputs),  # as TensorFlow orders a dict
        "replaces": [[int(result), int(parameter)] for result, parameter in aliases],
        "fresh": fresh,
    }


def _describe(name, variable, state, stage):
    """Name, shape and dtype of a variable, and what it begins with where no state has it."""
    part, path = name.split("/", 1) if "/" in name else (name, "")
    if path.startswith("mean_pixel/"):
        first = {"values": variable.numpy().ravel().tolist()}
    elif part in ("completion", "average"):
        first = {"draw": state.config.seed}
    elif part == "discriminator":
        first = {"draw": train_state.discriminator_seed(state.config.seed, stage)}
    elif path == "learning_rate":
        first = {"constant": 0.0}  # set anew in every step
    elif part.endswith("_loss_scale") and path == "scale":
        first = {"constant": float(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()).initial_scale)}
    else:
        first = {"constant": 0}  # counters and running averages
    return {"name": name, "shape": list(variable.shape), "dtype": variable.dtype.name, "first": first}


def _flat(state):
    """All of the state: tf.Variables by `<part>/<variable>`, and `step`."""
    flat = {}
    for part, variables in checkpoints.parts(state).items():
        if part == "step":
            flat["step"] = variables
        else:
            flat |= {f"{part}/{name}": variable for name, variable in variables.items()}
    return flat


def _parts_by_identity(state):
    optimizers = {name: type(inner(optimizer)) for name, optimizer in state.optimizers().items()}
    return {"discriminator": state.discriminator, **optimizers}


def _fresh(before, state):
    """Parts of the state that `TrainState.enter` began anew: they were not there, or it did not carry them over."""
    after = _parts_by_identity(state)
    fresh = [part for part, value in after.items() if value is not before.get(part)]
    if "discriminator" in fresh and "discriminator_optimizer" in after:
        fresh.append("discriminator_optimizer")
    fresh += [f"{part}_loss_scale" for part in fresh if part.endswith("optimizer")]
    return sorted(set(fresh))
