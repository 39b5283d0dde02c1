"""Protobuf's wire format: fields of a message found and written without parsing it.

https://protobuf.dev/programming-guides/encoding/
"""

import mmap
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # Wire types.


def fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: (number, start, start of the value, end), as offsets."""
    position = start
    while position < end:
        field_start = position
        key, position = _read_varint(content, position, end)
        number, wire = key >> 3, key & 7
        body = position
        if wire == _VARINT:
            _, position = _read_varint(content, position, end)
        elif wire == _BYTES:
            length, body = _read_varint(content, position, end)
            position = body + length
        elif wire in (_FIXED32, _FIXED64):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {field_start}")
        if number == 0 or position > end:
            raise ValueError(f"broken or truncated field at byte {field_start}")
        yield number, field_start, body, position


def _read_varint(content: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError(f"truncated at byte {position}")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"number too long at byte {position}")


def varint(value: int) -> bytes:
    """A number in as few bytes as it needs, seven bits a byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int) -> bytes:
    """What begins a field of bytes."""
    return varint(number << 3 | _BYTES)
