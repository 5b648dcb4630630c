"""Files on a device, in folders named by hash: pushed into NAME.part from where a broken push stopped, verified there, renamed."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgekit import files
from edgekit.errors import Broken, EdgekitError
from edgekit.measurement import Progress
from edgekit.plain_text import shown
from edgekit.remote.ssh import CHUNK, Answer, Shell

LEAST_S = 60  # for any of it
SLOWEST_BYTES_PER_S = 20_000  # a push that is slower than this, and a minute, is given up
SLOWEST_HASH_BYTES_PER_S = 2_000_000
SIZE = re.compile(r"[0-9]{1,15}")
SPARE_BYTES = 20 << 20  # left free on the device

# A line a file: "SHA256 SIZE", or "- SIZE" where it is not there. Names are handed over as they are.
HASHES = """cd "$1" 2>/dev/null || { shift; for name in "$@"; do echo "- 0"; done; exit 0; }
shift
for name in "$@"; do
  if [ -f "./$name" ]; then echo "$(sha256sum <"./$name" | cut -c 1-64) $(wc -c <"./$name")"; else echo "- 0"; fi
done"""
BEGIN = """umask 077
[ -d "$1" ] && [ ! -d "$1.part" ] && mv "$1" "$1.part"  # damaged: mended in place of the part
rm -rf "$1"; mkdir -p "$1.part" """
APPEND = """umask 077
cd "$1" && mkdir -p "./$2" && cat >>"./$3" """
END = """cd "$1.part" && for name in $2; do chmod 700 "./$name" || exit 1; done
mv "$1.part" "$1" """


@dataclass(frozen=True)
class Parcel:
    """A folder for the device. `place`: below the work folder, the last part names its content ("bundles/<sha256>")."""

    place: str
    files: Mapping[str, Path | bytes]
    what: str  # as a person calls it
    programs: tuple[str, ...] = ()  # file names (plain ones) that are to be executable

    @cached_property
    def expected(self) -> dict[str, tuple[str, int]]:
        """Name -> (SHA-256, size in bytes)."""
        found = {}
        for name, source in self.files.items():
            if isinstance(source, bytes):
                found[name] = hashlib.sha256(source).hexdigest(), len(source)
            else:
                found[name] = files.sha256_of(source), source.stat().st_size
        return found

    def pieces(self, name: str, offset: int, told: Callable[[int], None]) -> Iterator[bytes]:
        """A file from `offset` on; `told` hears of every piece's bytes."""
        source = self.files[name]
        if isinstance(source, bytes):
            told(len(source) - offset)
            yield source[offset:]
            return
        with source.open("rb") as file:
            file.seek(offset)
            while piece := file.read(CHUNK):
                told(len(piece))
                yield piece


async def push(shell: Shell, work: str, parcel: Parcel, progress: Progress, free_bytes: int | None = None) -> str:
    """Bring a parcel to the device unless it is there whole; its folder there. Broken when it arrives damaged twice."""
    place = f"{work}/{parcel.place}"
    if not await _wrong(shell, place, parcel):
        await shell.run('touch "$1"', place)
        return place
    _check(await shell.run(BEGIN, place), shell, place)
    part = f"{place}.part"
    wrong = await _wrong(shell, part, parcel)
    for _ in range(2):  # what was cut off is completed; if it is wrong then, the part before was, and it begins anew
        if wrong:
            await _send(shell, part, parcel, wrong, progress, free_bytes)
            wrong = await _wrong(shell, part, parcel)
    if wrong:
        raise Broken(f"{parcel.what}: {next(iter(wrong))!r} arrives damaged on {shell.device.name}; is its disk full or failing?")
    _check(await shell.run(END, place, " ".join(parcel.programs)), shell, place)
    return place


async def _wrong(shell: Shell, folder: str, parcel: Parcel) -> dict[str, int]:
    """Files that are not what they must be -> how many bytes of them are there."""
    wanted = parcel.expected
    limit_s = LEAST_S + sum(size for _, size in wanted.values()) / SLOWEST_HASH_BYTES_PER_S
    answer = await shell.run(HASHES, folder, *wanted, limit_s=limit_s)
    lines = [line.split() for line in answer.text.splitlines()]
    if len(lines) != len(wanted) or any(len(line) != 2 or not SIZE.fullmatch(line[1]) for line in lines):
        raise EdgekitError(f"{shell.device.name} cannot hash the files in {folder}: {shown(answer.error or answer.text.strip(), 300)}")
    found = {name: (sha256, int(size)) for name, (sha256, size) in zip(wanted, lines, strict=True)}
    return {name: size for name, (sha256, size) in found.items() if sha256 != wanted[name][0]}


async def _send(
    shell: Shell, part: str, parcel: Parcel, wrong: Mapping[str, int], progress: Progress, free_bytes: int | None
) -> None:  # fmt: skip
    """Append what is missing of each file; one that is too long already begins anew."""
    total = sum(parcel.expected[name][1] for name in wrong)
    missing = total - sum(n for n in wrong.values())
    if free_bytes is not None and missing + SPARE_BYTES > free_bytes:
        raise EdgekitError(
            f"{shell.device.name} has {free_bytes >> 20} MiB free for {parcel.what}, which needs {(missing + SPARE_BYTES) >> 20} MiB: "
            f"free space there, or give the device another work_dir"
        )
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        progress(f"push {parcel.what} to {shell.device.name}", done, max(1, total))

    for name, there in wrong.items():
        size = parcel.expected[name][1]
        offset = there if there < size else 0
        if there >= size and there:
            await shell.run('cd "$1" && rm -f "./$2"', part, name)
        told(offset)
        answer = await shell.send(
            APPEND, part, posixpath.dirname(name) or ".", name, data=parcel.pieces(name, offset, told),
            limit_s=LEAST_S + size / SLOWEST_BYTES_PER_S,
        )  # fmt: skip
        _check(answer, shell, part)


def _check(answer: Answer, shell: Shell, place: str) -> None:
    if answer.code:
        raise EdgekitError(f"{shell.device.name} cannot write to {place}: {answer.error or f'exit code {answer.code}'}")
