"""The flags of `export` and `import`."""

import sys

import absl.logging
from absl import flags
from ml_collections import config_flags

from glcic_tf.common import cli, config_file
from glcic_tf.common.errors import UserError


def main(command, argv):
    """Parse the flags of a command and do it; argv[0] is the command."""
    sys.argv = [f"portable {command}", *argv[1:]]
    if command == "export":
        _define_export()
        try:
            config_file.check(sys.argv)
        except UserError as error:
            cli.say(error)
            sys.exit(1)
    else:
        flags.DEFINE_string("state", None, "Folder that run saved, or its --output.", required=True)
        flags.DEFINE_string("workdir", None, "Folder of the run to take it into.", required=True)
    cli.run({"export": _export, "import": _import}[command])


def _define_export():
    config_flags.DEFINE_config_file("config", None, "Config file; --config.batch_size=8 sets one of its fields.")
    flags.DEFINE_string("data_dir", None, "Folder of the photos to train on.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the run; a bundle goes on from its checkpoint.", required=True)
    flags.DEFINE_string("output", None, "Folder to write the bundle to.", required=True)
    flags.DEFINE_string("val_dir", None, "Folder of photos to watch training on. By default some are held out.")
    flags.DEFINE_enum("phase", "all", ["completion", "discriminator", "joint", "all"], "Phase to export.")
    flags.DEFINE_integer("steps_per_call", 10, "Steps that the device does in one go; take 1 for a CPU.", 1)
    flags.DEFINE_enum("parts", "all", ["all", "networks", "completion"], "What of the state goes along.")
    flags.DEFINE_enum("bits", "32", ["32", "16"], "How exactly the state goes along.")
    flags.DEFINE_bool("overwrite", False, "Replace a bundle that exists.")
    flags.mark_flag_as_required("config")


def _export():
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


def _import():
    cli.log_to_stderr()
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow notes its internals there
    with cli.quiet_start():
        from glcic_tf.apps.portable.restore import restore
    step = restore(flags.FLAGS.state, flags.FLAGS.workdir)
    print(f"{flags.FLAGS.workdir}: is at step {step}")
