"""Wrong integers of the spike engine over test images: every table of kernels and way that this processor has, and emulated processors.

    python benchmarks/spike_exact.py NAME=RUN_FOLDER ... > benchmarks/spike_exact.json

Each spike of each layer and each logit is compared with the numpy reference; of large networks, portable loops and emulators take FEW images.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import flow, registry, spiking_net
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Runtime, Session
from edgekit.profile import device_name
from edgekit.task import task_of

IMAGES, BATCH = 2000, 50
WAYS = ("", "events", "dense")  # "": chosen an image
LARGE_MACS = 10_000_000  # of an image; networks of more run on FEW images where a table or an emulator is slow
FEW = 50
ARM = ("cpp_aarch64_a53", "cpp_aarch64_a76")


def main(named: list[str]) -> int:
    """Prints one JSON document."""
    rows = []
    for word in named:
        name, _, run = word.partition("=")
        with tempfile.TemporaryDirectory() as folder:
            bundle = flow.export(Path(run), "spike:int8", Path(folder) / "b")
            rows += [{"network": name, **row} for row in counted(bundle)]
    json.dump({"command": "python benchmarks/spike_exact.py NAME=RUN_FOLDER ...", "machine": device_name(), "rows": rows}, sys.stdout, indent=1)
    print()
    return int(any(row["wrong"] for row in rows))


def counted(bundle: Bundle) -> list[dict[str, Any]]:
    """A row a processor, table and way."""
    assert bundle.manifest.model is not None
    images = task_of(bundle.manifest.model).held_out(bundle.manifest.model, IMAGES)["image"]
    net = spiking_net.load(bundle.graph())
    parts = [spiking_net.simulate(net, images[at : at + BATCH]) for at in range(0, len(images), BATCH)]
    expected = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
    macs = sum(int(np.prod(p.shape[1:])) * s.weight.size for p in net.populations for s in p.synapses)
    few = images if macs <= LARGE_MACS else images[:FEW]
    rows = []
    for table in tables(bundle):
        some = few if table == "portable" else images
        for way in WAYS:
            os.environ |= {"EDGEKIT_SPIKE_KERNELS": table, "EDGEKIT_SPIKE_WAY": way}
            for threads in (1, 2):
                with registry.find(Runtime, "spike").open(bundle, threads=threads, probes=True) as session:
                    found = [session.run({"image": some[at : at + BATCH]}) for at in range(0, len(some), BATCH)]
                got = {n: np.concatenate([p[n] for p in found]) for n in expected}
                rows.append({"processor": "this one", "kernels": table, "way": way or "chosen", "threads": threads, **compared(expected, got)})
    os.environ |= {"EDGEKIT_SPIKE_KERNELS": "", "EDGEKIT_SPIKE_WAY": ""}
    with ExitStack() as stack:
        for name, session in emulated(bundle, stack).items():
            got = session.run({"image": few})
            rows.append({"processor": name, "kernels": "its best", "way": "chosen", "threads": 1, **compared(expected, got)})
    return rows


def tables(bundle: Bundle) -> list[str]:
    """What this processor runs, as the engine says it."""
    os.environ["EDGEKIT_SPIKE_KERNELS"] = "none"
    try:
        with registry.find(Runtime, "spike").open(bundle):
            raise SystemExit("EDGEKIT_SPIKE_KERNELS=none opened a network")
    except EdgekitError as error:
        return re.split(r",\s*", str(error).partition("runs: ")[2])


def emulated(bundle: Bundle, stack: ExitStack) -> dict[str, Session]:
    """Processor -> a session under its emulator, where both are there."""
    from edgekit.runtimes._cpp_build import Variant, runner
    from edgekit.runtimes._cpp_session import CppSession

    found: dict[str, Session] = {}
    native = runner(Variant("native", library=True))
    if native and shutil.which("qemu-x86_64"):
        found["Haswell (qemu)"] = CppSession(bundle, ["qemu-x86_64", "-cpu", "Haswell", str(native)], ["--threads", "1", "--probes"])
    for name in ARM:
        part = registry.load(Runtime, name)
        if not part.ready():
            found[f"{part.simulates} (qemu)"] = stack.enter_context(part.open(bundle, threads=1, probes=True))
    return found


def compared(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Images, values that differ, values; of the images that there are answers to."""
    count = len(got["logits"])
    wrong = sum(int((got[n].astype(np.float64) != v[:count].astype(np.float64)).sum()) for n, v in expected.items())
    return {"images": count, "wrong": wrong, "of": sum(v[:count].size for v in expected.values())}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
