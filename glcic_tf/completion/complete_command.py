"""`glcic complete`: its flags, and the call that they make."""

from absl import flags

from glcic_tf.common import cli, ray_cluster
from glcic_tf.common.errors import UsageError
from glcic_tf.completion import device_choice, engines, postprocesses, uncropping
from glcic_tf.convert import model_names
from glcic_tf.imaging import image_formats


def define_complete_flags():
    """Define the command's flags."""
    flags.DEFINE_string(
        "image", None, "Photo to complete, or folder of photos (any depth), or a URL of either.", required=True
    )
    flags.DEFINE_string(
        "mask",
        "alpha",
        "Mask, white = hole, or folder of masks named as the photos, or a URL of either, or alpha: the hole is "
        "where the photo is more transparent than opaque.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "File to write; its suffix (jpg, png, bmp, webp) names the format. All but jpg keep the known pixels exactly. "
        "With folders, the folder to write to. Either may be a URL.",
        required=True,
    )
    model_names.define_flag()
    flags.DEFINE_enum(
        "dtype",
        "float32",
        list(engines.DTYPES),
        "What the network computes in. bfloat16: half the time on CPUs that have it, some grey levels apart.",
    )
    flags.DEFINE_enum(
        "engine",
        engines.DEFAULT,
        list(engines.ENGINES),
        "What the network runs in. onnxruntime starts in a fraction of TensorFlow's time, and its results are within 1 "
        "grey level; auto: that where it is installed.",
    )
    flags.DEFINE_bool(
        "overwrite", False, "Replace outputs that exist. Without it they are left alone and count as failures."
    )
    flags.DEFINE_bool("skip_existing", False, "Leave out photos whose output exists: a run that was stopped goes on.")
    flags.DEFINE_string("report", None, "File to add a line of JSON to for each photo: what was done, or its error.")
    flags.DEFINE_string(
        "save_mask",
        None,
        "PNG file for the mask that was used, white = hole, at the output's size; with folders, the folder for the "
        "masks. Given as --mask, it gives the same result again.",
    )
    flags.DEFINE_bool("invert_mask", False, "Black is the hole in the mask, instead of white.")
    flags.DEFINE_bool("resize_mask", False, "Bring a mask of another size to the photo's, instead of refusing it.")
    flags.DEFINE_integer("mask_dilate", 0, "Grow the hole by so many px, if the mask is drawn tightly.", 0, 1024)
    flags.DEFINE_list(
        "uncrop",
        None,
        "Extend the canvas by so many px at left,top,right,bottom, and complete what is added; no --mask is "
        "needed then.",
    )
    cli.define_scale(
        "auto",
        "1: complete at full resolution. Smaller: reduce the surroundings of a hole by this factor, complete them, and "
        "paste the hole, enlarged. auto: do so for holes much larger than those of the training.",
    )
    known = list(postprocesses.POSTPROCESSES)
    flags.DEFINE_enum("postprocess", postprocesses.DEFAULT, known, postprocesses.described())
    flags.DEFINE_integer("jpeg_quality", image_formats.JPEG_QUALITY, "Quality of .jpg outputs.", 1, 100)
    flags.DEFINE_float(
        "max_megapixels", image_formats.MAX_PIXELS / 1e6, "Refuse larger photos and masks before decoding them.", 0
    )
    device_choice.define_flag()
    ray_cluster.define_flags("copy of the network")


def run_complete():
    """Complete the holes of a photo, or of all photos in a folder.

      glcic complete --image photo.jpg --mask mask.png --output out.png
      glcic complete --image photos/ --mask masks/ --output done/
      glcic complete --image photos/ --mask masks/ --output done/ --skip_existing
      glcic complete --image cut_out.png --output out.png
      glcic complete --image s3://bucket/photos --mask s3://bucket/masks --output s3://bucket/done
      glcic complete --image cut_out.png --output out.png --save_mask hole.png
      glcic complete --image photo.jpg --uncrop=200,0,200,0 --output wide.png
      glcic complete --image /net/photos/ --mask /net/masks/ --output /net/done/ --cluster=ray://head:10001

    In the mask, white is the hole; without one, the hole is where the photo is transparent. With folders, a photo takes
    the mask at the same place with the same name up to the suffix, or else the mask of that name right in the folder of
    masks; one mask file serves all photos. Outputs keep the photos' names and subfolders.
    """
    from glcic_tf.completion.folder import infer

    args = flags.FLAGS
    options = {
        "scale": args.scale,
        "postprocess": args.postprocess,
        "invert_mask": args.invert_mask,
        "resize_mask": args.resize_mask,
        "mask_dilate": args.mask_dilate,
        "uncrop": _uncrop(args.uncrop),
        "max_pixels": round(args.max_megapixels * 1e6),
        "jpeg_quality": args.jpeg_quality,
        "skip_existing": args.skip_existing,
        "report": args.report,
        "save_mask": args.save_mask,
        "engine": args.engine,
    }
    device_choice.choose(args.device, args.cluster, args.engine)
    with ray_cluster.from_flags() as cluster:
        given = (args.image, args.mask, args.output, args.model, args.overwrite, args.dtype, cluster)
        return 1 if infer(*given, **options) else 0


def _uncrop(values):
    try:
        return values and uncropping.margins(values)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
