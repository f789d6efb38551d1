"""`glcic evaluate`: its flags, the call that they make, and the table that it prints."""

from absl import flags

from glcic_tf.common import cli, ray_cluster
from glcic_tf.completion import device_choice, postprocesses
from glcic_tf.convert import model_names
from glcic_tf.evaluation import baselines, metrics, protocols


def define_evaluate_flags():
    """Define the command's flags."""
    flags.DEFINE_string("images", None, "Folder of photos (any depth), or its URL.", required=True)
    flags.DEFINE_string("output", None, "Folder of the report, or its URL.", required=True)
    flags.DEFINE_list("models", ["package"], model_names.MODELS)
    flags.DEFINE_list("methods", list(baselines.METHODS), "Other methods to compare with.")
    text = f"Post-processes; each model is measured with each of them. {postprocesses.described()}"
    flags.DEFINE_list("postprocess", ["none"], text)
    cli.define_scale("1", "As `--scale` of `glcic complete`, for the models: auto, or a number in (0, 1].")
    flags.DEFINE_enum("preset", "places", list(protocols.PRESETS), "Crop and hole.")
    flags.DEFINE_enum("holes", None, protocols.KINDS, "Kind of hole instead of the preset's.")
    flags.DEFINE_string("masks", None, "Folder of masks, white = hole, for --holes=files, or its URL.")
    flags.DEFINE_integer("size", None, "Side of the crop in px instead of the preset's.", 1)
    flags.DEFINE_integer("hole_min", None, "Smallest side of the hole in px instead of the preset's.", 1)
    flags.DEFINE_integer("hole_max", None, "Largest side of the hole in px instead of the preset's.", 1)
    flags.DEFINE_integer("workers", 0, "Processes for the other methods; 0: one for each core.", 0)
    flags.DEFINE_integer("gallery", 48, "Number of photos in the gallery.", 0)
    flags.DEFINE_integer("limit", None, "Number of photos to measure, evenly spread; by default all.", 1)
    flags.DEFINE_bool("lpips", False, "Measure LPIPS as published too; needs VGG16's weights (528 MB) and its heads.")
    flags.DEFINE_string("vgg_weights", None, "Measure LPIPS with this file of these weights instead of PyTorch's copy.")
    flags.DEFINE_bool("fid", False, "Measure FID too; downloads InceptionV3's weights (95 MB).")
    flags.DEFINE_string("fid_weights", None, "Measure FID with this file of these weights (.h5).")
    flags.DEFINE_bool("overwrite", False, "Replace a report that exists.")
    device_choice.define_flag()
    ray_cluster.define_flags("copy of the networks")
    flags.register_validator("postprocess", postprocesses.are_known, postprocesses.EXPECTED)


def run_evaluate():
    """Compare completion networks with other ways to fill a hole, on a folder of photos, and write a report.

      glcic evaluate --images photos/ --output report/
      glcic evaluate --images photos/ --models run/a.keras,run/b.keras --methods=telea,shift_map --output report/
      glcic evaluate --images photos/ --masks masks/ --holes=files --output report/
      glcic evaluate --images /net/photos/ --output report/ --cluster=ray://head:10001

    The report is a page (index.html) with tables, plots and a gallery, metrics.json and metrics.csv.
    """
    args = flags.FLAGS
    protocol = protocols.protocol_from(args.preset, args.holes, args.size, args.hole_min, args.hole_max, args.masks)
    device_choice.choose(args.device, args.cluster)
    with ray_cluster.from_flags() as cluster:
        means = _evaluate(args, protocol, cluster)
    columns = [name for name in metrics.METRICS if any(name in values for values in means.values())]
    print(f"{'method':<24}" + "".join(f"{name:>11}" for name in columns) + f"{'photos':>8}")
    for method, values in means.items():
        figures = [f"{values[name].mean:>11.3f}" if name in values else f"{'-':>11}" for name in columns]
        print(f"{method:<24}" + "".join(figures) + f"{values['l1'].n:>8}")


def _evaluate(args, protocol, cluster):
    from glcic_tf.evaluation.evaluate import evaluate

    return evaluate(
        args.images,
        args.output,
        protocol,
        models=[None if name == "package" else name for name in args.models],
        methods=args.methods,
        postprocess=args.postprocess,
        scale=args.scale,
        workers=args.workers,
        gallery=args.gallery,
        limit=args.limit,
        lpips_weights=args.vgg_weights or ("cache" if args.lpips else None),
        fid_weights=args.fid_weights or ("imagenet" if args.fid else None),
        overwrite=args.overwrite,
        cluster=cluster,
    )
