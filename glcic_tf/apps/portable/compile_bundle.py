"""Compile the programs of a bundle for a chip that is not there, and say what their steps would take on it."""

import typing

from glcic_tf.apps.portable import pjrt
from glcic_tf.apps.portable.bundle import Bundle
from glcic_tf.apps.portable.chips import CHIPS, Chip, description
from glcic_tf.common.errors import UsageError


class Report(typing.NamedTuple):
    """What one step of a stage takes, as the compiler counts it.

    Attributes:
        stage, phase, batch: whose step it is, and how many images that has.
        flops, bytes_accessed: what one step takes; the compiler for GPUs does not count the bytes (None).
        temporaries, arguments: memory of a call in bytes; the state is among the arguments.
        memory: all of a call, bytes.
        chip: Chip.
        problem: why there is no program, and then no figures either; else None.
    """

    stage: str
    phase: str
    batch: int
    flops: float
    bytes_accessed: float | None
    temporaries: int
    arguments: int
    memory: int
    chip: Chip
    problem: str | None = None

    @property
    def fits(self):
        """Whether a call has room in the chip's memory."""
        return self.problem is None and self.memory <= self.chip.gib * 2**30

    @property
    def roofline_s(self):
        """The least that a step can take, seconds: all operations, or all accesses, at the chip's peak."""
        return max(self.flops / self.chip.tflops / 1e12, (self.bytes_accessed or 0) / self.chip.gb_per_s / 1e9)

    @property
    def images_per_s(self):
        """The most images that it can train on in a second."""
        return self.batch / self.roofline_s


def compile_bundle(bundle, target, phase="all"):
    """Compile the programs of a bundle, one after the other; each takes minutes at the paper's width.

    Args:
        bundle: folder that `export` wrote.
        target: "tpu:CHIP:TOPOLOGY", such as "tpu:v5e:2x2", or "gpu:CHIP". A program runs on one chip of these.
        phase: `completion`, `discriminator`, `joint`, or `all`.

    Yields:
        Report of each stage of the phase.

    Raises:
        UsageError: the target is none, or the bundle has no such phase.
        UserError: the bundle is missing or damaged, the compiler is missing, or it refuses a program.
    """
    platform, _, topology = target.partition(":")
    name = topology.partition(":")[0] if platform == "tpu" else topology
    chip = CHIPS.get(platform, {}).get(name)
    if chip is None:
        raise UsageError(
            f"--target={target}: expected tpu:CHIP:TOPOLOGY, such as tpu:v5e:2x2, or gpu:CHIP, CHIP one of "
            f"{', '.join(CHIPS['gpu'])}."
        )
    opened = Bundle(bundle)
    entries = [entry for entry in opened.manifest["stages"] if phase in ("all", entry["stage"]["phase"])]
    if not entries:
        raise UsageError(f"--phase={phase}: {bundle} has no stage of it; export it anew, or choose another.")
    device = pjrt.absent_gpu(target, description(chip)) if chip.gpu else pjrt.absent_tpu(topology)
    for entry in entries:
        stage = entry["stage"]
        of = (stage["name"], stage["phase"], stage["batch_size"])
        try:
            program = pjrt.AbsentProgram(opened.program(entry), f"stage {stage['name']}", device)
        except MemoryError as error:
            yield Report(*of, 0, 0, 0, 0, 0, chip, str(error))
            continue
        stats = program.memory
        yield Report(
            *of,
            program.flops or 0,
            program.bytes_accessed,
            stats.temp_size_in_bytes,
            stats.argument_size_in_bytes,
            program.memory_bytes,
            chip,
        )


_COLUMNS = (
    ("TFLOP", lambda r: f"{r.flops / 1e12:.4g}"),
    ("GB accessed", lambda r: "?" if r.bytes_accessed is None else f"{r.bytes_accessed / 1e9:.4g}"),
    ("temporaries, GiB", lambda r: f"{r.temporaries / 2**30:.2f}"),
    ("arguments, GiB", lambda r: f"{r.arguments / 2**30:.2f}"),
    ("fits", lambda r: f"{'yes' if r.fits else 'no'}, {r.memory / 2**30:.1f} of {r.chip.gib:g}"),
    ("least time, s", lambda r: f"{r.roofline_s:.4f}"),
    ("images/s at most", lambda r: f"{r.images_per_s:.0f}"),
)
HEADER = " | ".join(["stage", "phase", "batch", *(title for title, _ in _COLUMNS)])


def row(report):
    """A line of the table below HEADER, for one step of a stage."""
    first = [report.stage, report.phase, str(report.batch)]
    if report.problem:
        return " | ".join([*first, f"does not fit: {report.problem}"])
    return " | ".join([*first, *(f"{text(report):>{len(title)}}" for title, text in _COLUMNS)])
