"""ICC profiles made of what files say about their colours in other words: gamma and primaries, or code points.

A profile here is of version 2, as small as can be: it says where the primaries are, adapted to the profile's white
(D50), and gives the curve as a power or a table. Sources: ICC.1:2001-04; primaries and curves by number: ITU-T H.273.
"""

import struct

import numpy as np

_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D65_XY = (0.3127, 0.3290)
_SRGB_XY = [_D65_XY, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060)]  # white, red, green, blue
# By the number in H.273: white, red, green, blue.
_PRIMARIES = {
    1: _SRGB_XY,
    5: [_D65_XY, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)],
    6: [_D65_XY, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)],
    9: [_D65_XY, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)],
    12: [_D65_XY, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)],  # Display P3
}
_POWERS = {4: 2.2, 5: 2.8, 8: 1.0}
_SRGB_TRANSFERS = (1, 6, 13, 14, 15)  # video's curves too, as browsers show pictures that name them
_HDR_TRANSFERS = (16, 18)  # PQ, HLG: no profile can say it
_SRGB_GAMMA = 0.45455
_MAX_OFF = 0.001  # of a gamma and of primaries that are those of sRGB


def of_gamma(gamma, places=None, grey=False):
    """Return a profile for samples that were encoded as a power.

    Args:
        gamma: exponent of the encoding: 0.45455 for a display's 2.2.
        places: (x, y) of white, red, green and blue; None for those of sRGB.
        grey: for a grey image.

    Returns:
        bytes; None if that is sRGB near enough, or if no colours are like that.
    """
    places = places or _SRGB_XY
    if not 0.05 <= gamma <= 20:
        return None
    near = np.abs(np.subtract(places, _SRGB_XY)).max() <= _MAX_OFF
    return None if near and abs(gamma - _SRGB_GAMMA) <= _MAX_OFF else _profile(places, [1 / gamma], grey)


def of_code_points(primaries, transfer, grey=False):
    """Return what is handed on of colour primaries and transfer characteristics by H.273's numbers.

    Returns:
        dict: `icc`, bytes of a profile, or None if that is sRGB, unknown, or HDR; and with HDR `cicp`, see Metadata.
    """
    found = {"icc": None}
    places = _PRIMARIES.get(primaries)
    if transfer in _HDR_TRANSFERS:
        found["cicp"] = bytes([primaries % 256, transfer, 0, 1])  # of RGB, of full range
    elif places is not None and transfer in _POWERS:
        found["icc"] = _profile(places, [_POWERS[transfer]], grey)
    elif places is not None and transfer in _SRGB_TRANSFERS and primaries != 1:
        found["icc"] = _profile(places, _srgb_curve(), grey)
    return found


def _srgb_curve():
    values = np.linspace(0, 1, 1024)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.rint(linear * 65535).astype(int).tolist()


def _profile(places, curve, grey):
    """Return a profile of a curve: an exponent, or a table of 0 to 65535; None if there is no such curve."""
    if any(not 0 < y <= 1 or not 0 <= x <= 1 for x, y in places):
        return None
    white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in places)
    if len(curve) == 1:
        if curve[0] >= 255:
            return None
        trc = struct.pack(">IH", 1, round(curve[0] * 256))
    else:
        trc = struct.pack(f">I{len(curve)}H", len(curve), *curve)
    trc = b"curv\0\0\0\0" + trc
    tags = {b"desc": _description(), b"cprt": b"text\0\0\0\0no copyright\0", b"wtpt": _xyz(_D50)}
    if grey:
        tags |= {b"kTRC": trc}
    else:
        columns = np.stack(primaries, axis=1)
        if abs(np.linalg.det(columns)) < 1e-3:
            return None
        adapted = _adaptation(white) @ (columns * np.linalg.solve(columns, white))
        if np.abs(adapted).max() > 10:
            return None
        tags |= {name: _xyz(adapted[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
        tags |= {name: trc for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _assembled(tags, b"GRAY" if grey else b"RGB ")


def _adaptation(white):
    """Matrix that takes colours under one white to those under D50 (Bradford)."""
    ratio = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    return np.linalg.solve(_BRADFORD, ratio[:, None] * _BRADFORD)


def _xyz(values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _description():
    name = b"as the file says\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(4 + 4 + 2 + 1 + 67)


def _assembled(tags, space):
    table, content, places = b"", b"", {}
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        if value not in places:
            places[value] = start + len(content)
            content += value + bytes(-len(value) % 4)
        table += name + struct.pack(">II", places[value], len(value))
    head = struct.pack(">I4sI4s4s4s", start + len(content), b"", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + content
