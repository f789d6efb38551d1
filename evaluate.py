"""Compare completion networks with other ways to fill a hole, on a folder of photos, and write a report.

  evaluate.py --images photos/ --output report/
  evaluate.py --images photos/ --models run/a.keras,run/b.keras --methods=telea,shift_map --output report/
  evaluate.py --images photos/ --masks masks/ --holes=files --output report/

The report is a page (index.html) with tables, plots and a gallery, metrics.json and metrics.csv.
"""

import sys

from absl import flags

try:
    from glcic_tf import baselines, protocols, scripts
    from glcic_tf.evaluation import evaluate
except ImportError as error:  # another Keras backend is asked for, or a package is missing
    sys.exit(f"evaluate.py: {error}")


def main():
    args = flags.FLAGS
    protocol = protocols.protocol_from(args.preset, args.holes, args.size, args.hole_min, args.hole_max, args.masks)
    means = evaluate(
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
        fid_weights=args.fid_weights or ("imagenet" if args.fid else None),
        overwrite=args.overwrite,
    )
    columns = ["l1", "psnr_hole", "psnr", "ssim", "seam", "sharpness", "seconds"]
    print(f"{'method':<24}" + "".join(f"{name:>11}" for name in columns) + f"{'photos':>8}")
    for method, values in means.items():
        print(f"{method:<24}" + "".join(f"{values[name].mean:>11.3f}" for name in columns) + f"{values['l1'].n:>8}")


if __name__ == "__main__":
    flags.DEFINE_string("images", None, "Folder of photos (any depth).", required=True)
    flags.DEFINE_string("output", None, "Folder of the report.", required=True)
    flags.DEFINE_list("models", ["package"], "Model files (.keras) and SavedModel folders; package: the weights here.")
    flags.DEFINE_list("methods", list(baselines.METHODS), "Other methods.")
    flags.DEFINE_list("postprocess", ["none"], "Some of none, poisson, texture, auto; each model with each.")
    scripts.define_scale("1", "Of infer.py, for the models: auto, or a number in (0, 1].")
    flags.DEFINE_string("preset", "places", f"Crop and hole: {', '.join(protocols.PRESETS)}.")
    flags.DEFINE_string("holes", None, f"Kind of hole instead of the preset's: {', '.join(protocols.KINDS)}.")
    flags.DEFINE_string("masks", None, "Folder of masks, white = hole, for --holes=files.")
    flags.DEFINE_integer("size", None, "Side of the crop in px instead of the preset's.", 1)
    flags.DEFINE_integer("hole_min", None, "Smallest side of the hole in px instead of the preset's.", 1)
    flags.DEFINE_integer("hole_max", None, "Largest side of the hole in px instead of the preset's.", 1)
    flags.DEFINE_integer("workers", 0, "Processes for the other methods; 0: one for each core.", 0)
    flags.DEFINE_integer("gallery", 48, "Photos in the gallery.", 0)
    flags.DEFINE_integer("limit", None, "Measure only so many of the photos, evenly spread.", 1)
    flags.DEFINE_bool("fid", False, "Measure FID too; downloads InceptionV3's weights (95 MB).")
    flags.DEFINE_string("fid_weights", None, "Measure FID with this file of these weights (.h5).")
    flags.DEFINE_bool("overwrite", False, "Replace a report that exists.")
    flags.register_validator(
        "postprocess",
        lambda names: len(names) > 0 and set(names) <= {"none", "poisson", "texture", "auto"},
        "expected some of none, poisson, texture, auto",
    )
    scripts.run(main)
