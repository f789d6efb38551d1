"""Train where TensorFlow does not run.

  python -m glcic_tf.apps.portable export --config configs/places2.py --data_dir photos/ --workdir run/ --output bundle/
  python -m glcic_tf.apps.portable run --bundle bundle/ --data_dir photos.tar --output out/ --minutes 30
  python -m glcic_tf.apps.portable import --state out/ --workdir run/

`export` and `import` need what train.py needs; `run` needs JAX, NumPy and OpenCV.
"""

import argparse
import sys

from glcic_tf.common.errors import UserError

COMMANDS = ("export", "run", "import")


def main(argv):
    """Do the command that argv names, and exit."""
    command = argv[1] if len(argv) > 1 else None
    if command not in COMMANDS:
        sys.exit(f"portable: expected {', '.join(COMMANDS)}, found {command}; see the top of {__file__}")
    if command == "run":
        sys.exit(_run(argv[2:]))
    from glcic_tf.apps.portable import commands  # wants absl and ml_collections

    commands.main(command, argv[1:])


def _run(argv):
    parser = argparse.ArgumentParser(prog="portable run", description="Train a bundle with JAX, without TensorFlow.")
    add = parser.add_argument
    add("--bundle", required=True, help="folder that export wrote")
    add("--data_dir", required=True, help="folder of photos, or a tar of it")
    add("--output", required=True, help="folder for the state and stats.jsonl; one that holds a state goes on with it")
    add("--phase", default="all", choices=["completion", "discriminator", "joint", "all"])
    add("--minutes", type=float, help="stop after so many minutes")
    add("--steps", type=int, help="stop after so many steps")
    add("--state", help="folder of a state to begin with instead of the bundle's; what it lacks begins anew")
    add("--parts", default="all", choices=["all", "networks", "completion"], help="what of the state is saved")
    add("--bits", type=int, default=32, choices=[32, 16], help="how exactly the state is saved")
    add("--save_minutes", type=float, default=5.0, help="how often the state is saved")
    add("--log_every_steps", type=int, default=50)
    add("--threads", type=int, default=0, help="threads that make examples; 0: one for each core")
    add("--cache_gb", type=float, default=8.0, help="memory for decoded photos, GB")
    add("--peak_tflops", type=float, help="the device's peak, to log the share of it that is used")
    args = parser.parse_args(argv)
    try:
        from glcic_tf.apps.portable.run_bundle import run

        run(**vars(args))
    except (UserError, ImportError) as error:  # OpenCV may be missing
        print(f"portable run: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("portable run: stopped by Ctrl-C", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    main(sys.argv)
