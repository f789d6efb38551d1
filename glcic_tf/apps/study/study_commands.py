"""`glcic study prepare`, `serve` and `report`: their flags, and the calls that they make."""

from absl import flags

from glcic_tf.apps import listening
from glcic_tf.completion import postprocesses
from glcic_tf.convert import model_names
from glcic_tf.evaluation import baselines, protocols


def define_prepare_flags():
    """Define the flags of `glcic study prepare`."""
    flags.DEFINE_string("images", None, "Folder of photos (any depth).", required=True)
    flags.DEFINE_string("output", None, "Folder of the study.", required=True)
    flags.DEFINE_list("models", ["package"], model_names.MODELS)
    flags.DEFINE_list("methods", [], f"Other methods, some of {', '.join(baselines.METHODS)}.")
    text = f"Each model is shown with each. {postprocesses.described()}"
    flags.DEFINE_list("postprocess", ["none"], text)
    flags.DEFINE_enum("preset", "places", list(protocols.PRESETS), "Crop and hole.")
    flags.DEFINE_integer("items", None, "Pictures that count, half of them real. By default 60, or what photos allow.")
    flags.DEFINE_integer("practice", 4, "Pictures to practise on beforehand.", 0)
    flags.DEFINE_integer("seed", 0, "Decides which photos are shown, how, and in what orders.", 0)
    flags.DEFINE_bool("overwrite", False, "Replace a study that exists and that nobody has answered.")
    flags.register_validator("postprocess", postprocesses.are_known, postprocesses.EXPECTED)


def define_serve_flags():
    """Define the flags of `glcic study serve`."""
    flags.DEFINE_string("study", None, "Folder that prepare wrote.", required=True)
    listening.define_flags(8000, "take part")
    flags.DEFINE_integer("display_ms", 0, "Hide each picture after so many milliseconds; 0: leave it.", 0, 60_000)


def define_report_flags():
    """Define the flags of `glcic study report`."""
    flags.DEFINE_string("study", None, "Folder that prepare wrote.", required=True)
    flags.DEFINE_string("output", None, "Folder of the report.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace a report that exists.")


def run_prepare():
    """Choose the pictures of a study that asks people whether completed pictures look natural.

    glcic study prepare --images photos/ --models package,run/joint.keras --methods=telea --output study/
    """
    from glcic_tf.apps.study.picture_set import prepare

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


def run_serve():
    """Show the pictures of a study to participants, and take their answers.

    glcic study serve --study study/
    """
    from glcic_tf.apps.study.study_server import serve

    args = flags.FLAGS
    serve(args.study, args.host, args.port, args.display_ms, args.allowed_hosts, args.root_path, args.token)


def run_report():
    """Say what came out of a study, as a page.

    glcic study report --study study/ --output report/
    """
    from glcic_tf.apps.study.study_report import report

    report(flags.FLAGS.study, flags.FLAGS.output, flags.FLAGS.overwrite)
