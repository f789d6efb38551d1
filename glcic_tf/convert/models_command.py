"""`glcic models`: its flags, and the list that it prints."""

from absl import flags

from glcic_tf.common.errors import UsageError
from glcic_tf.convert import model_downloads, model_names


def define_models_flags():
    """Define the command's flags."""
    flags.DEFINE_list("download", [], "Names of networks to download now.")
    flags.DEFINE_list("remove", [], "Names of downloaded networks to delete.")
    flags.DEFINE_string(
        "mirror",
        None,
        "URL of a folder that has the files and is tried first; other commands take it from the environment variable "
        f"{model_downloads.MIRROR}.",
    )


def run_models():
    """List the networks that have a name, which commands take in place of a model file; download or delete them.

      glcic models
      glcic models --download places2,celeba
      glcic models --remove celeba

    A command that is given the name of a network downloads it once, and keeps it in the user's cache folder. Nothing
    else is ever downloaded.
    """
    args = flags.FLAGS
    if args.download and args.remove:
        raise UsageError("--download and --remove: do one after the other.")
    if args.mirror and not args.download:
        raise UsageError("--mirror: is only used with --download; say what to download.")
    for name in args.remove:
        print(f"{name}: removed, {model_names.remove(name) / 1e6:.0f} MB")
    for name in args.download:
        print(f"{name}: {model_names.path_of(name, '--download', args.mirror)}")
    if not args.remove and not args.download:
        print("\n".join(_listed()))


def _listed():
    """The lines of the list: every name, where the network is, its size, what it is, and its licence."""
    kept = model_downloads.cached()
    networks = model_names.networks()
    yield f"{'name':<18}{'where':<14}{'MB':>4}"
    for name, network in networks.items():
        path = model_names.weights(network) if network.ships else kept.get(name)
        where = "package" if network.ships else "downloaded" if path else "on the web"
        megabytes = round(path.stat().st_size / 1e6) if path else network.megabytes or "?"
        yield f"{name:<18}{where:<14}{megabytes:>4}  {network.about}; {network.licence}"
    for name in sorted(kept.keys() - networks.keys()):
        yield f"{name:<18}{'downloaded':<14}{round(kept[name].stat().st_size / 1e6):>4}  from a mirror"
