"""What mutation fuzzing is made of: ways to change bytes, plain data and files; and what a target is."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import struct
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PLACE = "fuzzed"  # what errors say
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 10**6, 2**31, -(2**31), 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, "", "x", "u", "batch", "float32", "int64", "zeros", "steps",
    "../x", "/etc/passwd", "\0", "\x1b[2J", "\u202e", "\ud800", "__class__", "NaN", "a" * 300, [], {}, [[]], [1, 2], {"x": 1}, ["x", "x"], [[[[[[]]]]]],
)  # fmt: skip
TOKENS = (b"[", b"]", b"{", b"}", b'"', b",", b":", b"\0", b"\xff", b"\x1b[2J", b"-1", b"1e999", b"NaN", b"Infinity", b"99999999999999999999", b"[" * 3000,
          b'{"a":' * 2000, b"\\ud800", b"\xed\xa0\x80", b"\r\n", b"=", b"'''", b"\"\"\"", b"a." * 3000, b"1" * 5000, b"0x", b"inf", b"nan",
          b"2026-01-01T00:00:00Z", b"#", b"[[a]]\n", b"\xef\xbb\xbf")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """What is read, from what it begins, and a way to mutate that keeps the outside whole, where the bytes have one."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    inside: Callable[[int, random.Random], bytes] | None = None  # (number of the seed) -> a mutated file
    counts: dict[str, int] = dataclasses.field(default_factory=dict)  # of what a target counts itself, such as processes that it began


def mutated_bytes(raw: bytes, rng: random.Random) -> bytes:
    made = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, size = rng.randrange(len(made) + 1), rng.choice((1, 1, 2, 4, 8, 40))
        how = rng.randrange(7)
        if how == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(made):
            made[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif how == 2:
            del made[at : at + size]
        elif how == 3:
            made[at:at] = rng.choice(TOKENS)
        elif how == 4:
            other = rng.randrange(len(made) + 1)
            made[at:at] = made[other : other + size]
        elif how == 5:
            made[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, rng.randrange(2**64))))
        else:
            del made[at:]
    return bytes(made)


def mutated_json(data: Any, rng: random.Random) -> Any:
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = [(data, None)]
        nodes = []
        while places:
            node, _parent = places.pop()
            keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
            for k in keys:
                nodes.append((node, k))
                places.append((node[k], node))
        if not nodes:
            return rng.choice(VALUES)
        (node, key), (other, other_key) = rng.choice(nodes), rng.choice(nodes)
        how = rng.randrange(6)
        if how == 0:
            node[key] = copy.deepcopy(rng.choice(VALUES))
        elif how == 1:
            del node[key]
        elif how == 2:
            node[key] = copy.deepcopy(other[other_key])
        elif how == 3 and isinstance(node, dict):
            node[rng.choice(("x", "", "extra", "../up", "\x1b", "file"))] = copy.deepcopy(rng.choice(VALUES))
        elif how == 4 and isinstance(node, dict):
            node[str(other_key)] = node.pop(key)
        elif isinstance(node[key], int | float):
            node[key] = rng.choice((node[key] + 1, -node[key], node[key] * 2**40, 0))
        else:
            node[key] = [copy.deepcopy(node[key])] * rng.choice((1, 2, 100))
    return data


def as_json(seeds: tuple[bytes, ...]) -> Callable[[int, random.Random], bytes]:
    plain = [json.loads(raw) for raw in seeds]
    return lambda which, rng: json.dumps(mutated_json(plain[which], rng)).encode("utf-8", "surrogatepass")


class File:
    """Bytes as a file that is there, in memory where the system has such a folder."""

    def __init__(self, suffix: str, stack: ExitStack) -> None:
        memory = Path("/dev/shm")
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)))
        self.path = self.folder / f"m{suffix}"

    def of(self, raw: bytes) -> Path:
        self.path.write_bytes(raw)
        return self.path
