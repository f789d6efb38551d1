"""`glcic convert`: its flags, and the call that they make."""

from absl import flags

from glcic_tf.convert import SOURCES


def define_convert_flags():
    """Define the command's flags."""
    flags.DEFINE_string("input", None, "Weight file: .t7, or a PyTorch checkpoint.", required=True)
    flags.DEFINE_string("output", None, "Model file to write (.keras).", required=True)
    flags.DEFINE_enum("source", None, list(SOURCES), "Whose weights they are; recognised if left out.")
    flags.DEFINE_enum("network", None, ["completion", "discriminator"], "Network to take from a file that holds both.")
    flags.DEFINE_string("config", None, "config.json beside GLCIC-PyTorch's weights, which holds the mean pixel.")
    flags.DEFINE_bool("overwrite", False, "Replace an output that exists.")


def run_convert():
    """Turn published weights of the paper's networks into model files for all other commands.

      glcic convert --input completionnet_places2.t7 --output places2.keras
      glcic convert --input model_cn --config config.json --output celeba.keras
      glcic convert --input gl_256x256_8x12_places.pth --output gl_places.keras

    It reads the authors' Torch7 files and those of GLCIC-PyTorch (otenim) and MMagic (OpenMMLab), without PyTorch.
    """
    from glcic_tf.convert import conversion

    args = flags.FLAGS
    lines = conversion.convert(args.input, args.output, args.source, args.config, args.network, args.overwrite)
    print("\n".join(lines))
