"""What a machine says about itself in its own files: cores, memory, caches, clock, instructions, board, GPU; nothing is timed.

Everything is read through a Tree, so that a snapshot of another machine's files (PATTERNS) is understood the same way.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass

from edgekit.figures import Figure
from edgekit.sysfs import HERE, Tree

CPU = "/sys/devices/system/cpu"
BOARD, COMPATIBLE = "/proc/device-tree/model", "/proc/device-tree/compatible"
L4T = "/etc/nv_tegra_release"
# All that is read here and in target.which_target, for whoever takes a snapshot of another machine.
PATTERNS = (
    "/proc/cpuinfo", "/proc/meminfo", "/proc/self/cgroup", "/proc/sys/kernel/arch", BOARD, COMPATIBLE, L4T, "/etc/nvpmodel.conf",
    f"{CPU}/online", f"{CPU}/cpu*/topology/core_id", f"{CPU}/cpu*/topology/physical_package_id",
    f"{CPU}/cpu*/cpufreq/cpuinfo_max_freq", f"{CPU}/cpu*/cache/index*/level", f"{CPU}/cpu*/cache/index*/type",
    f"{CPU}/cpu*/cache/index*/size", f"{CPU}/cpu*/cache/index*/shared_cpu_list",
    "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/proc/driver/nvidia/gpus/*/information",
)  # fmt: skip
# Instructions that decide how fast networks run, as Linux writes them in /proc/cpuinfo (x86: flags, Arm: Features).
INSTRUCTIONS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What a machine calls itself and its parts. Empty: it does not say."""

    architecture: str  # "x86_64", "aarch64"
    processor: str
    board: str  # of the device tree: "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    compatible: tuple[str, ...]  # of the device tree: "nvidia,p3768-0000+p3767-0005-super"
    l4t: str  # Jetson Linux: "36.4.3"
    gpus: tuple[str, ...]
    instructions: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All that a target can recognise it by. A board's model is asked only where it does not say more exactly what fits:
        modules of different memory and cores share a name, as in a Jetson developer kit."""
        return tuple(n for n in (*(self.compatible or (self.board,)), self.processor, *self.gpus) if n)


def machine(tree: Tree = HERE) -> Machine:
    """What the machine of `tree` is."""
    info = _text(tree, "/proc/cpuinfo")
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(tree, L4T))
    said = set(_field(info, "flags").split()) | set(_field(info, "Features").split())
    return Machine(
        architecture=_text(tree, "/proc/sys/kernel/arch") or _architecture(info, tree),
        processor=_field(info, "model name") or _field(info, "Model") or (platform.processor() or platform.machine() if tree is HERE else ""),
        board=_text(tree, BOARD).strip("\0 "),
        compatible=tuple(x for x in _text(tree, COMPATIBLE).split("\0") if x),
        l4t=f"{release[1]}.{release[2]}" if release else "",
        gpus=tuple(filter(None, (_field(_text(tree, p), "Model") for p in tree.find("/proc/driver/nvidia/gpus/*/information")))),
        instructions=tuple(i for i in INSTRUCTIONS if i in said),
    )  # fmt: skip


def processor(tree: Tree = HERE) -> str:
    """The model name of the machine's processor, as it states it itself."""
    return machine(tree).processor


def probe(tree: Tree = HERE) -> tuple[Figure, ...]:
    """The figures that the machine itself states; one that cannot be read is left out."""
    found = [*_processor_figures(tree), *_memory_figures(tree), *_cache_figures(tree), *(_gpu_figures() if tree is HERE else ())]
    return tuple(Figure(name, float(value), unit, source, "probed") for name, value, unit, source in found if value)


_Row = tuple[str, float, str, str]  # name, value, unit, source


def _processor_figures(tree: Tree) -> list[_Row]:
    online = _range(_text(tree, f"{CPU}/online")) or len(re.findall(r"^processor\s*:", _text(tree, "/proc/cpuinfo"), re.MULTILINE))
    usable, how = float(online), f"{CPU}/online"
    if tree is HERE:
        usable, how = float(os.cpu_count() or 0), "what the operating system counts"
    if tree is HERE and hasattr(os, "sched_getaffinity"):
        usable, how = float(len(os.sched_getaffinity(0))), "scheduler affinity of this process"
    places = {p.split("/")[5]: _text(tree, p) for p in tree.find(f"{CPU}/cpu*/topology/core_id")}
    packages = {p.split("/")[5]: _text(tree, p) for p in tree.find(f"{CPU}/cpu*/topology/physical_package_id")}
    cores = len({(packages.get(cpu, ""), core) for cpu, core in places.items() if core}) or 0
    rows: list[_Row] = [("usable_cores", usable, "cores", how)]
    if cores:
        rows.append(("cores", cores, "cores", "topology of /sys/devices/system/cpu"))
        rows.append(("threads_per_core", len(places) / cores, "threads", "topology of /sys/devices/system/cpu"))
    clocks = [v for p in tree.find(f"{CPU}/cpu*/cpufreq/cpuinfo_max_freq") if (v := _number(_text(tree, p)))]
    rows.append(("clock", max(clocks, default=0) / 1e3, "MHz", "cpufreq cpuinfo_max_freq, the highest of all cores"))
    quota = re.fullmatch(r"(\d+) (\d+)", _text(tree, _cgroup(tree, "cpu.max")))
    rows.append(("cpu_limit", int(quota[1]) / int(quota[2]) if quota else 0, "cores", "cgroup cpu.max"))
    return rows


def _memory_figures(tree: Tree) -> list[_Row]:
    total, how = _number(_field(_text(tree, "/proc/meminfo"), "MemTotal").partition(" ")[0]) / 1024, "/proc/meminfo MemTotal, what the kernel left"
    if not total and tree is HERE:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # no Linux
            total, how = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20, "sysconf"
    limits = {p: _number(_text(tree, p)) / 2**20 for p in
              (_cgroup(tree, "memory.max"), "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")}  # fmt: skip
    held = {p: v for p, v in limits.items() if 0 < v < (total or float("inf"))}  # no limit is written as a huge number or "max"
    rows: list[_Row] = [("memory", total, "MiB", how)]
    if held:
        path = min(held, key=lambda p: held[p])
        rows.append(("memory_limit", held[path], "MiB", f"cgroup {path.rpartition('/')[2]}"))
    return rows


def _cache_figures(tree: Tree) -> list[_Row]:
    """KiB of each level, every cache once, and what lies in the second level and above together."""
    caches: dict[tuple[str, str], float] = {}
    for path in tree.find(f"{CPU}/cpu*/cache/index*/level"):
        folder = path.rpartition("/")[0]
        level, kind = _text(tree, path), _text(tree, f"{folder}/type")
        size = re.fullmatch(r"(\d+)([KM]?)", _text(tree, f"{folder}/size"))
        if size and kind != "Instruction":
            shared = _text(tree, f"{folder}/shared_cpu_list") or folder
            caches[level, shared] = int(size[1]) * {"": 1 / 1024, "K": 1, "M": 1024}[size[2]]
    levels = {n: sum(v for (level, _), v in caches.items() if level == n) for n in ("1", "2", "3")}
    levels["above 1"] = sum(v for (level, _), v in caches.items() if level != "1")
    names = {"cache_l1d": "1", "cache_l2": "2", "cache_l3": "3", "on_chip_memory": "above 1"}
    return [(name, levels[level], "KiB", f"{CPU}/cpu*/cache, all of level {level}") for name, level in names.items()]


def _gpu_figures() -> list[_Row]:
    """Of the first NVIDIA GPU of this machine; Jetson boards have no nvidia-smi that answers this, and need none."""
    if not shutil.which("nvidia-smi"):
        return []
    asked = ["nvidia-smi", "--query-gpu=memory.total,clocks.max.sm,power.limit", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    values = [float(v) if re.fullmatch(r"\d+(\.\d+)?", v.strip()) else 0.0 for v in (answer or [""])[0].split(",")]
    names = (("memory_gpu", "MiB"), ("clock_gpu", "MHz"), ("power_max_gpu", "W"))
    return [(name, value, unit, "nvidia-smi, the first GPU") for (name, unit), value in zip(names, values, strict=False)]


def _cgroup(tree: Tree, name: str) -> str:
    """The file of this process's own group (cgroup v2), or of the root where it says none."""
    own = re.search(r"^0::(/.*)$", _text(tree, "/proc/self/cgroup"), re.MULTILINE)
    return "/sys/fs/cgroup" + (own[1].rstrip("/") if own else "") + f"/{name}"


def _architecture(info: str, tree: Tree) -> str:
    """Where the kernel is older than 6.1 and does not name it."""
    if tree is HERE:
        return {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    if _field(info, "CPU implementer"):
        return "aarch64" if "asimd" in _field(info, "Features").split() else "armv7l"
    return "x86_64" if "lm" in _field(info, "flags").split() else ""


def _text(tree: Tree, path: str) -> str:
    with contextlib.suppress(OSError):
        return tree.read(path)
    return ""


def _field(text: str, name: str) -> str:
    """The value of the first line `name : value`."""
    found = re.search(rf"^{re.escape(name)}[ \t]*:[ \t]*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _number(text: str) -> float:
    return float(text) if text.isdigit() else 0.0


def _range(text: str) -> int:
    """How many numbers `0-3,6` names."""
    pieces = [re.fullmatch(r"(\d+)(?:-(\d+))?", p) for p in text.split(",")]
    return sum(int(p[2] or p[1]) - int(p[1]) + 1 for p in pieces if p)
