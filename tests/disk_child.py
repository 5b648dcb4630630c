"""Run commands of edgekit on a disk that is full or read only; a JSON line a case. Started by test_disks.py within namespaces of its own.

    unshare -rm python disk_child.py READY MOUNT

READY holds small.toml, plan.toml, x.npz, run/ (trained, deployed, reported) and b/ (an onnx bundle). A tmpfs is mounted on MOUNT.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

# command, what lies on the disk before, KB that are left on the full one: enough to begin, too little to end
CASES: dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]] = {
    "train": ("train {ready}/small.toml --out {disk}/new", (), (0, 12)),
    "deploy": ("deploy {ready}/run/train/t1 --out {disk}/new --formats onnx,nir --seconds 0.05 --processes 1 --score-limit 0", (), (0, 90)),
    "export": ("export {ready}/run --format nir --out {disk}/b", ("b",), (0, 16)),
    "openvino": ("export {ready}/b --format openvino --out {disk}/b", ("b",), (0, 28)),
    "calibrate": ("calibrate {ready}/b --method minmax --out {disk}/b", ("b",), (0, 16)),
    "verify": ("verify {disk}/b --score-limit 0", ("b",), (0,)),
    "profile": ("profile {disk}/b --seconds 0.05 --processes 1 --energy-seconds 0", ("b",), (4,)),
    "run": ("run {ready}/b --input {ready}/x.npz --out {disk}/x.npz", ("x.npz",), (0,)),
    "report": ("report {disk}/run", ("run",), (0, 60)),
    "sweep": ("sweep {ready}/plan.toml --out {disk}/new --workers 1", (), (0, 16)),
    "fetch": ("data fetch mnist", (), (300, 900)),
    "embed": ("embed {ready}/b --out {disk}/app", (), (300,)),
    "stdout": ("targets --json", (), (0,)),
    "temporary": ("profile {ready}/b --seconds 0.05 --processes 1 --energy-seconds 0", (), (0,)),
}
DISK_MB = 16


def main() -> None:
    ready, disk = map(Path, sys.argv[1:3])
    for name, (command, before, left) in CASES.items():
        for kb in (*left, None):
            if kb is None and name in ("stdout",):
                continue
            mount(disk)
            for item in before:
                (shutil.copytree if (ready / item).is_dir() else shutil.copyfile)(ready / item, disk / item)
            old = tree(disk)
            if kb is None:
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            else:
                fill(disk, kb)
            said = run(name, command.format(ready=ready, disk=disk), disk, ready)
            (disk / "ballast").unlink() if kb is not None else None
            print(json.dumps({"case": name, "kb": kb, "old": old, "new": tree(disk), "broken": broken(disk), **said}), flush=True)
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def mount(disk: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(disk)], check=True)


def fill(disk: Path, left_kb: int) -> None:
    """Leave that much."""
    free = os.statvfs(disk)
    with (disk / "ballast").open("wb") as file:
        file.truncate(0)
        os.posix_fallocate(file.fileno(), 0, max(4096, free.f_bavail * free.f_frsize - left_kb * 1024 - 4096))
    with contextlib.suppress(OSError), (disk / "ballast").open("ab", buffering=0) as file:  # to the last page
        while os.statvfs(disk).f_bavail * free.f_frsize > left_kb * 1024:
            file.write(bytes(4096))


def tree(disk: Path) -> dict[str, str]:
    """Every file with its hash."""
    found = (p for p in disk.rglob("*") if p.is_file() and p.name != "ballast")
    return {str(p.relative_to(disk)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def broken(disk: Path) -> list[str]:
    """Files and bundles there that are not whole."""
    from edgekit.bundle import open_bundle
    from edgekit.checkpoint import open_checkpoint
    from edgekit.errors import EdgekitError
    from edgekit.files import load_tensors

    readers: dict[str, Any] = {"bundle.json": lambda p: open_bundle(p.parent), "checkpoint.json": lambda p: open_checkpoint(p.parent)}
    found = []
    for path in (p for p in disk.rglob("*") if p.is_file()):
        usual = load_tensors if path.suffix == ".safetensors" else (lambda p: json.loads(p.read_text())) if path.suffix == ".json" else None
        try:
            if reader := readers.get(path.name, usual):
                reader(path)
        except (EdgekitError, ValueError) as error:
            found.append(f"{path}: {error}")
    return found


def run(name: str, command: str, disk: Path, ready: Path) -> dict[str, Any]:
    """The command, in this process, as `edgekit` is run."""
    import tempfile

    from edgekit import cli, data

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["edgekit", *command.split()]
    os.environ["EDGEKIT_CACHE"] = str(disk if name == "fetch" else ready / "cache")
    tempfile.tempdir = str(disk) if name == "temporary" else str(ready / "tmp")
    os.environ["TMPDIR"] = tempfile.tempdir
    if name == "fetch":
        os.environ.pop("EDGEKIT_DATA", None)
        source = ready / "mirror" / "mnist.bin"
        data.DATASETS["mnist"] = data.Dataset(
            (data.Source((f"file://{source}",), hashlib.sha256(source.read_bytes()).hexdigest(), source.stat().st_size),), "none")
    full = (disk / "out").open("w") if name == "stdout" else contextlib.nullcontext(out)
    try:
        with full as place, contextlib.redirect_stdout(place), contextlib.redirect_stderr(err):
            code: Any = cli.main()
    except BaseException:
        code = traceback.format_exc()
    return {"code": code, "said": err.getvalue()}


if __name__ == "__main__":
    main()
