"""`glcic portable export`, `run`, `compile` and `import`: their flags, and the calls that they make.

`export` and `import` need what `glcic train` needs; `run` needs JAX, NumPy, what reads photos, and absl-py; `compile`
libtpu besides.
"""

import absl.logging
from absl import flags

from glcic_tf.common import cli
from glcic_tf.training.stages import PHASES

_PARTS = ["all", "networks", "completion"]
_BITS = ["32", "16"]


def define_export_flags():
    """Define the flags of `glcic portable export`."""
    from glcic_tf.common import config_file  # wants ml_collections

    config_file.define_flag()
    flags.DEFINE_string("data_dir", None, "Folder of the photos to train on.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the run; a bundle goes on from its checkpoint.", required=True)
    flags.DEFINE_string("output", None, "Folder to write the bundle to.", required=True)
    flags.DEFINE_string("val_dir", None, "Folder of photos to watch training on. By default some are held out.")
    flags.DEFINE_enum("phase", "all", [*PHASES, "all"], "Phase to export.")
    flags.DEFINE_integer("steps_per_call", 10, "Steps that the device does in one go; take 1 for a CPU.", 1)
    flags.DEFINE_enum("parts", "all", _PARTS, "What of the state goes along.")
    flags.DEFINE_enum("bits", "32", _BITS, "How exactly the state goes along.")
    flags.DEFINE_bool("overwrite", False, "Replace a bundle that exists.")


def define_run_flags():
    """Define the flags of `glcic portable run`."""
    flags.DEFINE_string("bundle", None, "Folder that export wrote.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder of photos, or a tar of it.", required=True)
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the state and stats.jsonl; one that holds a state goes on with it.",
        required=True,
    )
    flags.DEFINE_enum("phase", "all", [*PHASES, "all"], "Phase to train; all: whatever is left.")
    flags.DEFINE_float("minutes", None, "Stop after so many minutes.", 0)
    flags.DEFINE_integer("steps", None, "Stop after so many steps.", 0)
    flags.DEFINE_string(
        "state", None, "Folder of a state to begin with instead of the bundle's; what it lacks begins anew."
    )
    flags.DEFINE_enum("parts", "all", _PARTS, "What of the state is saved.")
    flags.DEFINE_enum("bits", "32", _BITS, "How exactly the state is saved.")
    flags.DEFINE_float("save_minutes", 5.0, "How often the state is saved.", 0)
    flags.DEFINE_integer("log_every_steps", 50, "How often a line is logged.", 1)
    flags.DEFINE_integer("threads", 0, "Threads that make examples; 0: one for each core.", 0)
    flags.DEFINE_float("cache_gb", 8.0, "Memory for decoded photos, GB.", 0)
    flags.DEFINE_float("peak_tflops", None, "The device's peak, to log the share of it that is used.", 0)


def define_compile_flags():
    """Define the flags of `glcic portable compile`."""
    flags.DEFINE_string("bundle", None, "Folder that export wrote.", required=True)
    flags.DEFINE_string("target", "tpu:v5e:2x2", "tpu:CHIP:TOPOLOGY (one chip of it), gpu:a100 or gpu:h100.")
    flags.DEFINE_enum("phase", "all", [*PHASES, "all"], "Phase to compile.")


def define_import_flags():
    """Define the flags of `glcic portable import`."""
    flags.DEFINE_string("state", None, "Folder that run saved, or its --output.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the run to take it into.", required=True)


def run_export():
    """Write a training run as a bundle, which `glcic portable run` trains where TensorFlow does not run.

    glcic portable export --config places2 --data_dir photos/ --workdir run/ --output bundle/
    """
    args = flags.FLAGS
    cli.log_to_stderr()
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow notes its internals there
    with cli.quiet_start():  # from here on it takes seconds
        from glcic_tf.apps.portable.export_bundle import export
    export(
        args.config,
        args.data_dir,
        args.workdir,
        args.output,
        args.val_dir,
        args.phase,
        args.steps_per_call,
        args.parts,
        int(args.bits),
        args.overwrite,
    )


def run_run():
    """Train a bundle with JAX, without TensorFlow.

      glcic portable run --bundle bundle/ --data_dir photos.tar --output out/ --minutes 30

    A run that was stopped goes on when the same command is given again.
    """
    from glcic_tf.apps.portable.run_bundle import run

    args = flags.FLAGS
    run(
        args.bundle,
        args.data_dir,
        args.output,
        args.phase,
        minutes=args.minutes,
        steps=args.steps,
        state=args.state,
        parts=args.parts,
        bits=int(args.bits),
        save_minutes=args.save_minutes,
        log_every_steps=args.log_every_steps,
        threads=args.threads,
        cache_gb=args.cache_gb,
        peak_tflops=args.peak_tflops,
    )


def run_compile():
    """Compile the programs of a bundle for a TPU or GPU that is not there, and say what a step would take on it.

      glcic portable compile --bundle bundle/ --target=tpu:v5e:2x2
      glcic portable compile --bundle bundle/ --target=gpu:h100

    A line for each stage: operations, bytes accessed and memory as the compiler counts them, whether that fits, and the
    least time that a step can take at the chip's peak. It needs JAX and the device's compiler; nothing is run.
    """
    from glcic_tf.apps.portable import compile_bundle

    args = flags.FLAGS
    for i, report in enumerate(compile_bundle.compile_bundle(args.bundle, args.target, args.phase)):
        if i == 0:
            print(compile_bundle.HEADER)
        print(compile_bundle.row(report), flush=True)


def run_import():
    """Take a state that `glcic portable run` saved back into the folder of the run.

    glcic portable import --state out/ --workdir run/
    """
    args = flags.FLAGS
    cli.log_to_stderr()
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow notes its internals there
    with cli.quiet_start():
        from glcic_tf.apps.portable.restore import restore
    step = restore(args.state, args.workdir)
    print(f"{args.workdir}: is at step {step}")
