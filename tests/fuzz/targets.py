"""What the campaigns read: a table of targets, each with sound files, a way to spoil them, and what reads them."""

import dataclasses
import sys
import typing
from pathlib import Path

import image_targets
import run_targets
import shard_targets
import study_targets
import weight_targets
from mutators import spoil, spoil_zip
from requests_to_pages import Servers, send_request, spoil_request

# What sound files are made of stands in the folders of other tests.
sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("convert", "imaging", "apps")]

MEGABYTE = 10**6


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of files.

    Attributes:
        name: in the table.
        make: function of a folder that need not exist -> whatever `spoil` takes.
        spoil: function of that, an empty folder and a random.Random -> what `read` takes.
        read: reads it; raises UserError for what it refuses.
        small: how many inputs `make test` does.
        max_bytes: memory that one input may take.
        close: function of what `make` returned, when the campaign ends.
        processes: function of what `make` returned -> those whose memory and time count, as /proc names them.
    """

    name: str
    make: typing.Callable
    spoil: typing.Callable
    read: typing.Callable
    small: int
    max_bytes: int = 400 * MEGABYTE
    close: typing.Callable = lambda made: None
    processes: typing.Callable = lambda made: ("self",)


def _one_file(spoiler):
    """Spoil one of several (name, bytes), and write it."""

    def spoil_one(made, folder, rng):
        name, data = rng.choice(made)
        path = folder / name
        path.write_bytes(spoiler(data, rng))
        return path

    return spoil_one


def _make_servers(folder):
    return Servers(folder, study_targets.make_study(folder))


TARGETS = {
    target.name: target
    for target in (
        Target(
            "images",
            image_targets.make_images,
            _one_file(spoil),
            image_targets.read_image,
            250,
            16 * image_targets.MAX_PIXELS + 100 * MEGABYTE,
        ),
        Target("models", weight_targets.make_model, _one_file(spoil_zip), weight_targets.read_model, 8),
        Target("torch7", weight_targets.make_torch7, _one_file(spoil), weight_targets.read_weights, 40),
        Target("torch", weight_targets.make_torch, weight_targets.spoil_torch, weight_targets.read_weights, 40),
        Target("shards", shard_targets.make_shards, shard_targets.spoil_shards, shard_targets.read_shards, 40),
        Target("parts", shard_targets.make_shards, shard_targets.spoil_parts, shard_targets.read_parts, 40),
        Target(
            "checkpoints", run_targets.make_checkpoints, run_targets.spoil_checkpoints, run_targets.read_checkpoints, 15
        ),
        Target("portable", run_targets.make_portable, run_targets.spoil_portable, run_targets.read_portable, 20),
        Target("study", study_targets.make_study, study_targets.spoil_study, study_targets.read_study, 20),
        Target("curves", run_targets.make_curves, run_targets.spoil_curves, run_targets.read_curves, 10),
        Target(
            *("requests", _make_servers, spoil_request, send_request, 150),
            close=Servers.close,
            processes=lambda servers: [process.pid for process in servers.processes],
        ),
    )
}
