"""Ways to spoil a file: bytes at random, members of a zip, values in JSON; each is drawn from a generator."""

import io
import json
import zipfile

_EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
)
_MAX_BYTES = 2**22  # of what comes out, so that a campaign measures the reader and not the disk
_VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    -1e-308,
    float("inf"),
    float("nan"),
    "",
    "\0",
    "../x",
)
_VALUES += ("é" * 50, [], {}, [[]], {"": {}}, 0.5, 1e4, 200, "float16", [1, 2, 3])


sound = False  # whether nothing is spoilt: to try the target itself


def spoil(data, rng):
    """Return bytes that were spoilt in one to four ways.

    Args:
        data: bytes.
        rng: random.Random.
    """
    if sound:
        return data
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_WAYS)(data, rng) if data else bytearray(rng.randbytes(rng.randrange(1, 64)))
    return bytes(data[:_MAX_BYTES])


def spoil_zip(data, rng):
    """Spoil a zip as a file, or one of its members and pack it anew, so that the reader gets further."""
    if sound or rng.random() < 0.3:
        return spoil(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    members[name] = spoil_json(members[name], rng) if name.endswith(".json") else spoil(members[name], rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def spoil_json(data, rng):
    """Spoil a JSON file as bytes, or some of its values, so that it stays JSON."""
    way = rng.random()
    if sound or way < 0.2:
        return spoil(data, rng)
    if way < 0.25:
        depth = rng.choice((500, 100_000))
        return rng.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth, b"9" * 5000, b"-1e999"))
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # it was spoilt before
        return spoil(data, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _replaced(value, rng)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _replaced(value, rng):
    """A JSON value in which one value, anywhere, is another."""
    places = list(_places(value, ()))
    if not places:
        return rng.choice(_VALUES)
    path = rng.choice(places)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    way = rng.random()
    if way < 0.15:
        del holder[key]
    elif way < 0.3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = holder[key] * rng.choice((-1, 2, 1000, 0.5)) + rng.choice((0, 1, -1))
    elif way < 0.4:
        holder[key] = _at(value, rng.choice(places))  # of somewhere else
    else:
        holder[key] = rng.choice(_VALUES)
    return json.loads(json.dumps(value))  # nothing stands in two places


def _at(value, path):
    for key in path:
        value = value[key]
    return json.loads(json.dumps(value))


def _places(value, path):
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _flip(data, rng):
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def _set(data, rng):
    data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
    return data


def _number(data, rng):
    """An extreme number where one may stand."""
    size, order, place = rng.choice((2, 4, 4, 8)), rng.choice(("little", "big")), _place(data, rng)
    data[place : place + size] = (rng.choice(_EXTREMES) % 256**size).to_bytes(size, order)
    return data


def _cut(data, rng):
    return data[: _place(data, rng)]


def _remove(data, rng):
    place = _place(data, rng)
    del data[place : place + rng.choice((1, 2, 4, 16, 200))]
    return data


def _repeat(data, rng):
    place, length = _place(data, rng), rng.choice((1, 4, 16, 300))
    return data[:place] + data[place : place + length] * rng.choice((2, 2, 50)) + data[place + length :]


def _insert(data, rng):
    place = _place(data, rng)
    return data[:place] + rng.randbytes(rng.choice((1, 2, 8, 100))) + data[place:]


def _zero(data, rng):
    place = _place(data, rng)
    end = min(place + rng.choice((4, 64, 10**6)), len(data))
    data[place:end] = bytes(end - place)
    return data


def _move(data, rng):
    source, target, length = _place(data, rng), _place(data, rng), rng.choice((2, 8, 64))
    data[target : target + length] = data[source : source + length]
    return data


def _place(data, rng):
    """Headers are where readers decide: half of the places are among the first bytes."""
    return rng.randrange(min(len(data), 400)) if rng.random() < 0.5 else rng.randrange(len(data))


_WAYS = (_flip, _flip, _set, _set, _number, _number, _cut, _remove, _repeat, _insert, _zero, _move)
