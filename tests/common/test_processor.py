"""What the processor can do, from the lines of /proc/cpuinfo."""

import pytest

from glcic_tf.common import processor

ZEN_5 = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni"
SAPPHIRE_RAPIDS = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f amx_bf16 avx512_bf16 amx_tile"
SKYLAKE = "flags\t\t: fpu avx2 avx512f avx512_vnni"
ZEN_3 = "flags\t\t: fpu vme avx2 bmi2"
AMX_HIDDEN = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512_bf16"


@pytest.fixture
def gains_by_bfloat16(tmp_path, monkeypatch):
    """A function of the text of /proc/cpuinfo; None: there is none."""

    def ask(text):
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(processor, "_CPUINFO", path)
        return processor.gains_by_bfloat16.__wrapped__()

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [(ZEN_5, True), (SAPPHIRE_RAPIDS, True), (AMX_HIDDEN, False), (SKYLAKE, False), (ZEN_3, False)],
)
def test_bfloat16_is_read_off_the_flags(gains_by_bfloat16, line, expected):
    core = f"processor\t: 0\nmodel name\t: a CPU with avx512_bf16 in its name\n{line}\nbugs\t\t: spectre\n\n"
    assert gains_by_bfloat16(core * 2) is expected


@pytest.mark.parametrize("text", [None, "", "Features\t: fp asimd bf16\n"])
def test_elsewhere_it_counts_as_missing(gains_by_bfloat16, text):
    assert gains_by_bfloat16(text) is False
