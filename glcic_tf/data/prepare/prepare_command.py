"""`glcic prepare`: its flags, and what they ask for."""

import re

from absl import flags

from glcic_tf.common import cli, ray_cluster, storage
from glcic_tf.common.errors import UsageError
from glcic_tf.imaging import image_formats


class _PartParser(flags.ArgumentParser):
    """Reads i/n with 1 <= i <= n <= 9999."""

    def parse(self, argument):
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", argument)
        part = tuple(map(int, found.groups())) if found else None
        if not part or not 1 <= part[0] <= part[1]:
            raise ValueError("expected i/n with 1 <= i <= n <= 9999, such as 2/8")
        return part


def define_prepare_flags():
    """Define the command's flags."""
    flags.DEFINE_string("input", None, "Folder of photos (any depth), or its URL.")
    flags.DEFINE_string("output", None, "Folder of shards.", required=True)
    flags.DEFINE_integer("short_side", 384, "Shrink photos whose shorter edge is longer, px.", 16, 65535)
    flags.DEFINE_integer("quality", 95, "Quality of the JPEGs that are written.", 1, 100)
    flags.DEFINE_bool("keep_progressive", False, "Keep small progressive JPEGs as they are: equal, slower to decode.")
    flags.DEFINE_float("shard_mb", 256.0, "Longest that a shard may be, MB.", 0.001, 100_000)
    flags.DEFINE(_PartParser(), "part", None, "i/n: do part i of n, on one of n machines. By default 1/1.")
    flags.DEFINE_integer("parts", 0, "Parts that --cluster makes; 0: four for each task at once.", 0, 9999)
    ray_cluster.define_flags("part")
    flags.DEFINE_integer("processes", 0, "Processes that decode; 0: one for each core.", 0)
    flags.DEFINE_integer("max_megapixels", image_formats.MAX_PIXELS // 10**6, "Skip photos that are larger.", 1)
    flags.DEFINE_bool("merge", False, "Write the index of parts that other machines made; needs no --input.")
    flags.DEFINE_bool("verify", False, "Read all shards and compare them with their checksums; needs no --input.")


def run_prepare():
    """Write a folder of photos as shards: a few large files that training reads as it reads the folder.

      glcic prepare --input photos/ --output shards/
      glcic prepare --input photos/ --output shards/ --part=2/8
      glcic prepare --input photos/ --output shards/ --cluster=ray://head:10001
      glcic prepare --output shards/ --merge
      glcic prepare --output shards/ --verify

    A run that was stopped goes on when the same command is given again.
    """
    from glcic_tf.data.prepare import entry, merge, prepare_folder

    args = flags.FLAGS
    if args.part and args.cluster:
        raise UsageError("--part, --cluster: give one of them; a cluster makes all parts.")
    if args.merge and args.verify:
        raise UsageError("--merge and --verify: give one of them.")
    storage.check_local("--output", args.output, "copy the shards when they are done")
    if args.verify:
        done = merge.verify(args.output)
    elif args.merge:
        done = merge.merge(args.output)
    elif args.input is None:
        raise UsageError("--input: is missing; name the folder of photos.")
    else:
        settings = entry.Settings(args.short_side, args.quality, args.keep_progressive, args.max_megapixels * 10**6)
        given = (args.input, args.output, settings, args.shard_mb)
        if args.cluster:
            done = _on_cluster(given)
        else:
            done = prepare_folder.prepare(*given, args.part or (1, 1), args.processes)
    if done:
        size = sum(shard["bytes"] for shard in done["shards"])
        print(
            f"{args.output}: {cli.counted(done['photos'], 'photo')} in {cli.counted(len(done['shards']), 'shard')} of "
            f"{size / 1e6:.1f} MB; left out: {done['skipped']} that cannot be used, "
            f"{cli.counted(done['duplicates'], 'duplicate')}"
        )


def _on_cluster(given):
    from glcic_tf.data.prepare import prepare_cluster

    with ray_cluster.from_flags() as cluster:
        return prepare_cluster.prepare(cluster, *given, flags.FLAGS.parts, flags.FLAGS.processes)
