"""Ask people whether completed pictures look natural.

python -m glcic_tf.study prepare --images photos/ --models package,run/joint.keras --methods=telea --output study/
python -m glcic_tf.study serve --study study/
python -m glcic_tf.study report --study study/ --output report/
"""

import sys

from absl import flags

from glcic_tf import baselines, protocols, scripts

COMMANDS = ("prepare", "serve", "report")


def main(argv):
    """Do the command that argv names, and exit."""
    command = argv[1] if len(argv) > 1 else None
    if command not in COMMANDS:
        sys.exit(f"study: expected {', '.join(COMMANDS)}, found {command}; see the top of {__file__}")
    sys.argv = [f"study {command}", *argv[2:]]
    {"prepare": _define_prepare, "serve": _define_serve, "report": _define_report}[command]()
    scripts.run({"prepare": _prepare, "serve": _serve, "report": _report}[command])


def _define_prepare():
    flags.DEFINE_string("images", None, "Folder of photos (any depth).", required=True)
    flags.DEFINE_string("output", None, "Folder of the study.", required=True)
    flags.DEFINE_list("models", ["package"], "Model files (.keras) and SavedModel folders; package: the weights here.")
    flags.DEFINE_list("methods", [], f"Other methods, some of {', '.join(baselines.METHODS)}.")
    flags.DEFINE_list("postprocess", ["none"], "Some of none, poisson, texture, auto: each model is shown with each.")
    flags.DEFINE_string("preset", "places", f"Crop and hole: {', '.join(protocols.PRESETS)}.")
    flags.DEFINE_integer("items", None, "Pictures that count, half of them real. By default 60, or what photos allow.")
    flags.DEFINE_integer("practice", 4, "Pictures to practise on beforehand.", 0)
    flags.DEFINE_integer("seed", 0, "Decides which photos are shown, how, and in what orders.", 0)
    flags.DEFINE_bool("overwrite", False, "Replace a study that exists and that nobody has answered.")
    flags.register_validator(
        "postprocess",
        lambda names: len(names) > 0 and set(names) <= {"none", "poisson", "texture", "auto"},
        "expected some of none, poisson, texture, auto",
    )


def _define_serve():
    flags.DEFINE_string("study", None, "Folder that prepare wrote.", required=True)
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: let other machines take part.")
    flags.DEFINE_integer("port", 8000, "Port to listen on; 0: any that is free.", 0, 65535)
    flags.DEFINE_integer("display_ms", 0, "Hide each picture after so many milliseconds; 0: leave it.", 0, 60_000)


def _define_report():
    flags.DEFINE_string("study", None, "Folder that prepare wrote.", required=True)
    flags.DEFINE_string("output", None, "Folder of the report.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace a report that exists.")


def _prepare():
    from glcic_tf.study.prepare import prepare

    args = flags.FLAGS
    prepare(
        args.images,
        args.output,
        protocols.protocol_from(args.preset),
        models=[None if name == "package" else name for name in args.models],
        methods=args.methods,
        postprocess=args.postprocess,
        items=args.items,
        practice=args.practice,
        seed=args.seed,
        overwrite=args.overwrite,
    )


def _serve():
    from glcic_tf.study.server import serve

    serve(flags.FLAGS.study, flags.FLAGS.host, flags.FLAGS.port, flags.FLAGS.display_ms)


def _report():
    from glcic_tf.study.report import report

    report(flags.FLAGS.study, flags.FLAGS.output, flags.FLAGS.overwrite)


if __name__ == "__main__":
    main(sys.argv)
