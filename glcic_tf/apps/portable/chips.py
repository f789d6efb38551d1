"""Chips that programs are compiled for without having one: what their makers say that they can do."""

import typing


class Chip(typing.NamedTuple):
    """A chip at its best.

    Attributes:
        tflops: peak speed of bfloat16 matrix products, 10^12 / s.
        gb_per_s: bandwidth of its memory, 10^9 bytes / s.
        gib: its memory, 2^30 bytes.
        gpu: what XLA has to know of a GPU to compile for it; None: not a GPU.
    """

    tflops: float
    gb_per_s: float
    gib: float
    gpu: "Gpu | None" = None


class Gpu(typing.NamedTuple):
    """NVIDIA's figures of a GPU.

    Attributes:
        name: what the driver calls it.
        capability: CUDA's compute capability, (major, minor).
        cores: multiprocessors.
        ghz: their clock.
        cache_bytes: second-level cache.
        shared_bytes: shared memory of a multiprocessor, of which a block may have all but 1 KiB.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    ghz: float
    cache_bytes: int
    shared_bytes: int


CHIPS = {
    "tpu": {"v5e": Chip(197, 819, 16)},
    "gpu": {
        "a100": Chip(312, 1555, 40, Gpu("NVIDIA A100-SXM4-40GB", (8, 0), 108, 1.41, 40 * 2**20, 164 * 2**10)),
        "h100": Chip(989, 3352, 80, Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 50 * 2**20, 228 * 2**10)),
    },
}
# The versions of CUDA and cuDNN that JAX's own packages bring along.
_SOFTWARE = "dnn_version_info { major: 9 minor: 10 } runtime_version { major: 13 }"


def description(chip):
    """Return a GPU as XLA's GpuTargetConfig, in protobuf's text format, for a machine without one."""
    gpu = chip.gpu
    return f"""
    platform_name: "CUDA" device_description_str: "{gpu.name}" {_SOFTWARE}
    gpu_device_info {{
      cuda_compute_capability {{ major: {gpu.capability[0]} minor: {gpu.capability[1]} }}
      core_count: {gpu.cores} fpus_per_core: {64 if gpu.capability == (8, 0) else 128} clock_rate_ghz: {gpu.ghz}
      memory_bandwidth: {int(chip.gb_per_s * 1e9)} device_memory_size: {int(chip.gib * 2**30)}
      l2_cache_size: {gpu.cache_bytes}
      shared_memory_per_core: {gpu.shared_bytes} shared_memory_per_block: 49152
      shared_memory_per_block_optin: {gpu.shared_bytes - 1024}
      threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
      registers_per_core_limit: 65536 registers_per_block_limit: 65536
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
    }}
    """
