"""TFRecords of tf.train.Example, byte for byte as TensorFlow reads them, without TensorFlow.

Which order TensorFlow itself gives to an Example's features may change with its version; here it is fixed, and the JPEG
is the last, so that it ends where the record's own checksum begins.
"""

import functools
import struct

import numpy as np

FOOTER_BYTES = 4  # checksum of the content, after it
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_LANE_BYTES = 32


def record(name, jpeg, height, width):
    """Make the TFRecord of a photo; the last bytes before FOOTER_BYTES are the JPEG.

    Args:
        name: bytes, its path in the folder.
        jpeg: bytes of a whole file.
        height, width: px.

    Returns:
        bytes: length, its checksum, tf.train.Example with the features `image/filename`, `image/format`,
        `image/height`, `image/width` and `image/encoded`, its checksum.
    """
    features = {
        b"image/filename": _bytes_feature(name),
        b"image/format": _bytes_feature(b"jpeg"),
        b"image/height": _integer_feature(height),
        b"image/width": _integer_feature(width),
        b"image/encoded": _bytes_feature(jpeg),
    }
    entries = [_field(1, _field(1, key) + _field(2, feature)) for key, feature in features.items()]
    content = _field(1, b"".join(entries))
    length = struct.pack("<Q", len(content))
    return b"".join([length, _masked(length), content, _masked(content)])


def crc32c(data):
    """CRC-32C (Castagnoli) of at least four bytes, as an int.

    The bytes are cut into lanes of equal length, whose CRCs are computed side by side and then put together two by two:
    a CRC is linear, and that of a lane with n bytes behind it is a linear function of that of the lane alone.
    """
    values = np.frombuffer(data, np.uint8)
    lanes = -(-len(values) // _LANE_BYTES)
    # Zeros in front of a message change nothing where the register starts at 0. It has to start with all bits set,
    # which is the same as inverting the first four bytes.
    block = np.zeros(lanes * _LANE_BYTES, np.uint8)
    message = block[len(block) - len(values) :]
    message[:] = values
    message[:4] ^= 0xFF
    table = _table()
    state = np.zeros(lanes, np.uint32)
    for column in block.reshape(lanes, _LANE_BYTES).T.astype(np.uint32):
        state = table[(state ^ column) & 0xFF] ^ (state >> 8)
    level = 0
    while len(state) > 1:
        if len(state) % 2:
            state = np.concatenate([np.zeros(1, np.uint32), state])
        state = _apply(_shift(level), state[::2]) ^ state[1::2]
        level += 1
    return int(state[0]) ^ 0xFFFFFFFF


@functools.cache
def _table():
    """CRC of each byte, uint32 [256]."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(_POLYNOMIAL), values >> 1)
    return values


@functools.cache
def _shift(level):
    """What _LANE_BYTES * 2**level zero bytes behind a message do to its CRC: uint32 [4, 256], to be XORed by byte."""
    shift = np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    if level:
        return _apply(_shift(level - 1), _apply(_shift(level - 1), shift))
    table = _table()
    for _ in range(_LANE_BYTES):
        shift = table[shift & 0xFF] ^ (shift >> 8)
    return shift


def _apply(shift, state):
    return shift[0][state & 0xFF] ^ shift[1][state >> 8 & 0xFF] ^ shift[2][state >> 16 & 0xFF] ^ shift[3][state >> 24]


def _masked(data):
    """Checksum as TFRecords store it, 4 bytes."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _bytes_feature(value):
    return _field(1, _field(1, value))


def _integer_feature(value):
    return _field(3, _field(1, _varint(value)))


def _field(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
