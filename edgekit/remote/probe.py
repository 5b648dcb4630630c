"""What a device is, read by one command: its processor, C library, tools, free disk, clock, and the edgekit installed there."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edgekit import __version__
from edgekit.errors import EdgekitError
from edgekit.plain_text import shown
from edgekit.remote.ssh import LOOK, Misbehaved, Shell
from edgekit.remote.tree import Asked
from edgekit.sysfs import Tree

NEEDED = ("timeout", "setsid", "flock", "sha256sum", "head", "tail", "readlink", "find", "cut", "wc", "date")
SAYS = ("home", "system", "architecture", "kernel", "glibc", "now", "lacking", "disk")  # at least
MOST_CORES = 1e5
MOST_SAID = 2_000  # characters of each
PACKAGES = "coreutils, util-linux and findutils, or a BusyBox that has them"
# "$1": the work folder, ~ for the home; "$2": the Python to ask, empty for none; "$3": a library of the device's own.
SCRIPT = f"""umask 077
say() {{ printf '%s=%s\\n' "$1" "$2"; }}
case $1 in "~/"*) work=$HOME/${{1#??}};; *) work=$1;; esac
say home "$HOME"
if mkdir -p "$work"; then say work "$(cd "$work" && pwd -P)"; else work=/dev/null; fi 2>/dev/null
say system "$(uname -s)"
say architecture "$(uname -m)"
say kernel "$(uname -r)"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
say now "$(date +%s)"
lacking=
for tool in {" ".join(NEEDED)}; do command -v "$tool" >/dev/null || lacking="$lacking $tool"; done
timeout 5 sh -c : 2>/dev/null || lacking="$lacking timeout"  # of an old BusyBox: other options
setsid sh -c : 2>/dev/null || lacking="$lacking setsid"
(flock -n -s 9) 9>>"$work/probe" 2>/dev/null || lacking="$lacking flock"
rm -f "$work/probe"
say lacking "$lacking"
say disk "$(df -Pk "$work" 2>/dev/null | tail -n 1)"
[ -z "$2" ] || say python "$("$2" -c 'import edgekit; print(edgekit.__version__)' </dev/null 2>/dev/null)"
[ -z "$3" ] || say library "$(ls -d "$3" 2>/dev/null)"
say end 1"""


@dataclass(frozen=True)
class Facts:
    """What the device said. Empty or None: it does not say."""

    work: str  # folder of edgekit, absolute, without symbolic links
    architecture: str  # "aarch64"
    kernel: str
    glibc: tuple[int, int] | None  # None: another C library
    free_bytes: int | None
    clock_offset_s: float  # the device's clock less this machine's, right within the time of one answer
    edgekit: str  # version that its Python has; empty: none was asked for or found
    library: bool  # whether device.library is there


async def probe(shell: Shell, ask_python: bool) -> Facts:
    """Look at the device. EdgekitError for one on which nothing can be measured, with what is lacking."""
    device = shell.device
    words = (device.work_dir or "~/.cache/edgekit", device.python if ask_python else "", device.library)
    start = time.time()
    answer = await shell.run(SCRIPT, *words, bounded=False)
    middle = (start + time.time()) / 2
    said = {key: value[:MOST_SAID] for key, value in re.findall(r"^(\w+)=(.*)$", answer.text, re.MULTILINE)}
    if "end" not in said:
        told = (answer.error or answer.text).strip().splitlines()
        raise EdgekitError(f"{device.name} runs no POSIX shell commands: it answered '{shown((told or ['nothing'])[-1], 200)}'")
    absent = [key for key in SAYS if key not in said]
    if absent or not re.fullmatch(r"[0-9]{1,12}", said["now"]) or not re.fullmatch(r"(/[^\x00-\x1f\x7f]*)?", said.get("work", "")):
        raise Misbehaved(f"{device.name} was asked what it is and told neither {' nor '.join(absent or ['the time and a folder'])}; {LOOK}")
    if said["system"] != "Linux":
        raise EdgekitError(f"{device.name} runs {shown(said['system'])}; edgekit measures on Linux")
    if not said.get("work"):
        home = said["home"] or "no home folder"
        raise EdgekitError(f"{device.name} cannot make {words[0]} in {shown(home)}: give the device a work_dir that it can write to")
    if said["lacking"].strip():
        lacking = ", ".join(dict.fromkeys(said["lacking"].split()))
        raise EdgekitError(f"{device.name} has no usable {shown(lacking)}; they are in {PACKAGES}")
    glibc = re.fullmatch(r"glibc ([0-9]{1,4})\.([0-9]{1,4}).*", said["glibc"])
    disk = re.search(r"\s([0-9]{1,15})\s+[0-9]{1,3}%\s", said["disk"])
    return Facts(
        said["work"], shown(said["architecture"]), shown(said["kernel"]), (int(glibc[1]), int(glibc[2])) if glibc else None,
        int(disk[1]) * 1024 if disk else None, int(said["now"]) + 0.5 - middle, shown(said.get("python", "")), bool(said.get("library")),
    )  # fmt: skip


def uses_python(shell: Shell, facts: Facts, needs_python: str = "") -> bool:
    """Whether edgekit's own Python on the device measures. needs_python: why the C++ runner cannot; EdgekitError when neither can."""
    device = shell.device
    same = facts.edgekit == __version__
    hint = f"pip install edgekit=={__version__} there, and name its interpreter: python = \"/path/to/python\""
    if device.runner == "python" and not same:
        found = f"has edgekit {facts.edgekit}, not {__version__} as this machine" if facts.edgekit else f"has no edgekit in {device.python}"
        raise EdgekitError(f"{device.name} {found}: {hint}; or leave it to the C++ runner: runner = \"cpp\"")
    if needs_python and (device.runner == "cpp" or not same):
        raise EdgekitError(f"{needs_python}; on {device.name} that needs edgekit itself: {hint}")
    return device.runner == "python" or (device.runner == "auto" and same) or bool(needs_python)


def wants(tree: Asked, meter: str) -> None:
    """Read all of the device's state that a measurement is made of, so that it is fetched."""
    from edgekit import conditions, energy, target

    conditions.files(tree)
    conditions.power_mode(tree)
    for path in tree.find("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"):
        _quiet(tree, path)
    target.which_target(tree)
    found, _ = energy.choose(meter, tree)
    if found is not None:
        with suppress(EdgekitError):  # something that it reads is not fetched yet; or never there, which is said later
            found.open(tree)


def clock_advice(tree: Tree) -> str:
    """What a person may do so that clocks stand still; empty where they do, or where there are none to read. Never run by edgekit."""
    from edgekit.probe import machine

    governors = {text for path in tree.find("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor") if (text := _quiet(tree, path))}
    moving = sorted(governors - {"performance"})
    if not moving:
        return ""
    command = "sudo jetson_clocks" if machine(tree).l4t else "sudo cpupower frequency-set -g performance"
    return f"clocks may change while it is timed (governor {', '.join(moving)}); to hold them, run on the device: {command}"


def description(tree: Tree) -> str:
    """The board or processor, and how many cores: "Raspberry Pi 5 Model B Rev 1.0, 4 cores"."""
    from edgekit.probe import machine, probe

    it = machine(tree)
    figures: Mapping[str, Any] = {f.name: f.value for f in probe(tree)}
    cores = figures.get("usable_cores")
    name = shown(it.board or it.processor or it.architecture or "a Linux machine")
    return f"{name}, {cores:.0f} cores" if cores and cores < MOST_CORES else name


def _quiet(tree: Tree, path: str) -> str:
    try:
        return tree.read(path)
    except OSError:
        return ""
