"""An ONNX file looked through on its bytes, before protobuf parses it: counts, nesting, and every text in it."""

from __future__ import annotations

from typing import Any

from edgekit import limits
from edgekit.errors import Broken, EdgekitError
from edgekit.plain_text import is_odd, shown

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # of protobuf; 3 and 4 are groups, which ONNX has none of
FREE_TEXT = frozenset({"doc_string", "value"})  # of people and tools: may have lines; never printed
TYPE_STRING, TYPE_MESSAGE = 9, 11
ONCE = frozenset({"graph", "data_type", "data_location", "raw_data", "op_type"})  # a second one would be merged or win

Plan = dict[int, tuple[str, int, Any]]  # field number -> (name, type, the message's own descriptor)


class _Cut(Exception):  # noqa: N818
    """The bytes end in the middle of a field."""


def check_wire(raw: bytes, where: str) -> None:
    """Raise EdgekitError unless these bytes may be parsed: within the limits, no text with control characters, no half field."""
    import onnx

    try:
        _walk(memoryview(raw), onnx.ModelProto.DESCRIPTOR, where)
    except _Cut:
        raise Broken(f"{where} is no ONNX file, or not all of one ({len(raw)} bytes are here); get it again") from None


def _walk(raw: memoryview, root: Any, where: str) -> None:  # noqa: PLR0912 - a call for each field would cost as much as the field
    plans: dict[str, Plan] = {}
    fields = 0
    pending: list[tuple[int, int, Any, int]] = [(0, len(raw), root, 1)]
    while pending:
        at, end, descriptor, depth = pending.pop()
        if depth > limits.MOST_NESTING:
            raise Broken(f"{where} nests messages more than {limits.MOST_NESTING} deep, which no model needs; refused")
        plan = plans.get(descriptor.full_name) or plans.setdefault(descriptor.full_name, _plan(descriptor))
        seen: set[int] = set()
        while at < end:
            fields += 1
            if fields > limits.MOST_FIELDS:
                raise EdgekitError(f"{where} has more than {limits.MOST_FIELDS:,} fields, which would fill the memory once parsed; refused")
            tag = raw[at]  # nearly always one byte
            tag, at = (tag, at + 1) if tag < 128 else _varint(raw, at, end)
            number, wire = tag >> 3, tag & 7
            if number in seen:
                raise Broken(f"{where} says '{plan[number][0]}' twice in one {descriptor.name}: readers differ on which one counts; refused")
            if wire == BYTES:
                if at >= end:
                    raise _Cut
                length = raw[at]
                length, at = (length, at + 1) if length < 128 else _varint(raw, at, end)
                if length > end - at:
                    raise _Cut
                name, kind, inner = plan.get(number, ("", 0, None))
                if name in ONCE:
                    seen.add(number)
                if kind == TYPE_MESSAGE:
                    pending.append((at, at + length, inner, depth + 1))
                elif kind == TYPE_STRING:
                    _check_text(raw[at : at + length], name, descriptor.name, where)
                at += length
            elif wire == VARINT:
                _, at = _varint(raw, at, end)
                if plan.get(number, ("",))[0] in ONCE:
                    seen.add(number)
            elif wire in (FIXED64, FIXED32):
                at += 8 if wire == FIXED64 else 4
            else:
                raise _Cut
            if at > end or not number:
                raise _Cut


def _plan(descriptor: Any) -> Plan:
    return {f.number: (f.name, f.type, f.message_type) for f in descriptor.fields}


def _varint(raw: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise _Cut


def _check_text(raw: memoryview, field: str, message: str, where: str) -> None:
    free = field in FREE_TEXT
    most = limits.MOST_TEXT_CHARS if free else limits.MOST_NAME_CHARS
    if len(raw) > most:
        raise Broken(f"{where} has a {field} of {len(raw):,} characters in a {message}, {most:,} are taken; refused")
    try:
        text = bytes(raw).decode()
    except UnicodeDecodeError:
        found = shown(bytes(raw[:40]))
        raise Broken(f"{where} is no ONNX file, or a broken one: a {field} in a {message} is no UTF-8 text ({found}); get it again") from None
    if not free and is_odd(text):
        raise Broken(f"{where} has a {field} in a {message} with control characters: '{shown(text)}'; refused")
