"""The small files of a device that somebody here wants to read: fetched by asking, so that no list of them is kept.

Whoever reads a machine's state (edgekit/conditions.py, meters, targets) runs against what is known of the device so far. What it
looked for and did not find is fetched, all in one command, and it runs again; after a few rounds nothing new is asked.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable
from pathlib import PurePosixPath

from edgekit import limits
from edgekit.errors import EdgekitError
from edgekit.remote.ssh import LOOK, Misbehaved, Shell
from edgekit.sysfs import Snapshot

MOST_BYTES = 1 << 20  # of a file: /proc/cpuinfo of hundreds of cores
ROUNDS = 12
PLACES = ("sys", "proc", "etc", "var", "run")  # where state of a machine is read; nothing else is fetched
# "$1" is a word that no file holds; then paths or patterns, which the shell expands: IFS is empty, so that none is split.
FETCH = """mark=$1; shift; IFS=
for pattern in "$@"; do for path in $pattern; do
  [ -f "$path" ] || continue
  printf '%s %s\\n' "$mark" "$path"
  code=1
  if [ -r "$path" ]; then head -c LIMIT "$path" 2>/dev/null; code=$?; fi
  printf '\\n%s %s\\n' "$mark" "$code"
done; done""".replace("LIMIT", str(MOST_BYTES))
RUN = """mark=$1; shift
command -v "$1" >/dev/null || exit 0
printf '%s %s\\n' "$mark" "$*"; "$@" </dev/null 2>&1; printf '\\n%s %s\\n' "$mark" "$?" """


class Asked(Snapshot):
    """A snapshot that notes what it was asked for and does not know. A "path" that does not begin with / is a command."""

    def __init__(self) -> None:
        super().__init__({})
        self.wanted: set[str] = set()  # paths, patterns and commands of this round
        self._looked: set[str] = set()

    def read(self, path: str) -> str:
        if path not in self.texts:
            self._note(path)
        return super().read(path)

    def find(self, pattern: str) -> list[str]:
        self._note(pattern)
        return super().find(pattern)

    def _note(self, what: str) -> None:
        if what not in self._looked:
            self.wanted.add(what)

    def take(self, texts: dict[str, str | None]) -> None:
        """What the device answered; all that was wanted has now been looked for."""
        self._looked |= self.wanted
        self.wanted = set()
        self.texts.update(texts)


async def snapshot(shell: Shell, ask: Callable[[Asked], object]) -> Snapshot:
    """What `ask` reads of the device, as it was when it was first asked for. `ask` may be called a dozen times."""
    tree = Asked()
    for _ in range(ROUNDS):
        ask(tree)
        if not tree.wanted:
            break
        if len(tree.wanted) > limits.DEVICE_STATE_ASKED:
            raise Misbehaved(f"what {shell.device.name} tells of itself raises {len(tree.wanted):,} more questions; {LOOK}")
        paths = sorted(w for w in tree.wanted if w.startswith("/"))
        commands = sorted(w for w in tree.wanted if not w.startswith("/"))
        if strange := [p for p in paths if PurePosixPath(p).parts[1:2] not in {(place,) for place in PLACES} or ".." in p]:
            raise EdgekitError(f"a part asks for {strange[0]} of a device; only files in /{', /'.join(PLACES)} are fetched")
        texts: dict[str, str | None] = {}
        if paths:
            texts |= _wanted(await _said(shell, FETCH, *paths), paths)
        for command in commands:
            texts |= _wanted(await _said(shell, RUN, *shlex.split(command)), [command])
        tree.take(texts)
    return Snapshot(tree.texts)


async def _said(shell: Shell, script: str, *words: str) -> dict[str, str | None]:
    mark = f"=={secrets.token_hex(8)}"
    answer = await shell.run(script, mark, *words, most_bytes=limits.DEVICE_STATE_BYTES)
    return parts_of(answer.text, mark, shell.device.name)


def parts_of(text: str, mark: str, name: str) -> dict[str, str | None]:
    """What stands between "MARK PATH" and "MARK CODE", by path; None where the code is not 0. It takes time by the length of the text,
    whatever a device writes there."""
    found: dict[str, str | None] = {}
    path, begin = "", -1
    for line in re.finditer(rf"^{mark} ([^\n]*)$", text, re.MULTILINE):
        if begin < 0:
            path, begin = line[1], line.end() + 1
            continue
        if len(found) >= limits.DEVICE_STATE_FILES:
            raise Misbehaved(f"{name} has more than {limits.DEVICE_STATE_FILES:,} small files that say how it is; {LOOK}")
        found[path] = text[begin : line.start() - 1] if line[1] == "0" else None
        begin = -1
    return found


def _wanted(texts: dict[str, str | None], asked: list[str]) -> dict[str, str | None]:
    """Those that were asked for, by name or by pattern: a device that tells more is not heard."""
    patterns = Snapshot(texts)
    named = {path for what in asked for path in (patterns.find(what) if set(what) & set("*?[") else [what])}
    return {path: text for path, text in texts.items() if path in named}
