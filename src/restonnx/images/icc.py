"""ICC profiles of RGB spaces: three primaries and one curve, a few hundred bytes (ICC.1:2010, version 4.3)."""

import struct
from collections.abc import Sequence

COPYRIGHT = "No copyright, use freely"


def matrix_profile(title: str, primaries: Sequence[Sequence[float]], curve: tuple[float, float, float, float]) -> bytes:
    """A display profile.

    primaries: XYZ of red, green and blue, adapted to D50.
    curve: (gamma, offset, slope, threshold) of the transfer function y = (1 + offset) x^(1/gamma) - offset for x of
        linear light above the threshold, and slope x below it.
    """
    names = _text(title)
    tags = {
        b"desc": names,
        b"cprt": _text(COPYRIGHT),
        b"wtpt": _xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": _xyz(primaries[0]),
        b"gXYZ": _xyz(primaries[1]),
        b"bXYZ": _xyz(primaries[2]),
        b"rTRC": _curve(*curve),
    }
    order = [*tags, b"gTRC", b"bTRC"]
    tags |= {b"gTRC": tags[b"rTRC"], b"bTRC": tags[b"rTRC"]}
    position, places, body = 128 + 4 + 12 * len(order), dict[bytes, int](), b""
    table = struct.pack(">I", len(order))
    for name in order:
        content = tags[name]
        if content not in places:  # the three curves are one
            places[content] = position + len(body)
            body += content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", places[content], len(content))
    return _header(position + len(body)) + table + body


def _header(size: int) -> bytes:
    start = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    date = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    rest = b"acsp" + bytes(28) + b"".join(_fixed(v) for v in (0.9642, 1.0, 0.8249))
    return (start + date + rest).ljust(128, b"\0")


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _text(text: str) -> bytes:
    content = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(content), 28) + content


def _curve(gamma: float, offset: float, slope: float, threshold: float) -> bytes:
    """From the device's value to linear light: (a y + b)^g from d on, c y below it."""
    if not slope:
        return b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + _fixed(gamma)
    values = (gamma, 1 / (1 + offset), offset / (1 + offset), 1 / slope, slope * threshold)
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, values))
