"""Write a small C++ project around a bundle: CMake, main.cpp, the bundle and the runtime's sources; it builds as it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from edgekit import files
from edgekit.bundle import EVIDENCE, Bundle
from edgekit.cpp_sources import json_include, sources
from edgekit.errors import EdgekitError
from edgekit.plain_text import shown
from edgekit.program import Feed

TEMPLATES = Path(__file__).parent
RUNTIME = ("CMakeLists.txt", "README.md", "cmake", "include", "src")  # of the runtime; the runner is not needed


def embed(bundle: Bundle, out: Path, rate_hz: int = 0) -> list[str]:
    """Write the project to `out`, which must not exist; the names of its files at the top. Of a task (Bundle.of_task): it runs that one.

    rate_hz: of the sound that the model was made for; the application then refuses other rates. 0: it takes any.
    """
    if bundle.manifest.format not in ("onnx", "openvino"):
        raise EdgekitError(f"{bundle.folder} holds {bundle.manifest.format}; the C++ runtime opens onnx and openvino bundles")
    if out.exists():
        raise EdgekitError(f"{out} is there already; name a new folder, nothing was written")
    with files.folder_draft(out) as draft:
        shutil.copytree(bundle.folder, draft / "bundle", ignore=lambda folder, names: {EVIDENCE} & set(names))
        for name in RUNTIME:
            there = sources() / name
            if there.is_dir():
                shutil.copytree(there, draft / "runtime" / name)
            elif there.is_file():
                (draft / "runtime").mkdir(exist_ok=True)
                shutil.copy2(there, draft / "runtime" / name)
        shutil.copytree(json_include() / "nlohmann", draft / "third_party" / "nlohmann")
        for name, text in _texts(bundle, rate_hz).items():
            (draft / name).write_text(text)
        return sorted(p.name + ("/" if p.is_dir() else "") for p in draft.iterdir())


def _texts(bundle: Bundle, rate_hz: int) -> dict[str, str]:
    feed = detector_feed(bundle)
    signature = bundle.manifest.signature
    values = {
        "NAME": re.sub(r"[^A-Za-z0-9_]", "_", bundle.manifest.name) or "app",
        "OPENVINO": "ON" if bundle.manifest.format == "openvino" else "OFF",
        "INPUT": signature.inputs[0].name, "OUTPUT": signature.outputs[0].name,
        "HOP": str(feed.hop if feed else 0), "RATE": str(rate_hz),
        "USAGE": "speech.wav" if feed else " ".join(f"{t.name}.npy" for t in signature.inputs),
        "TAKES": "; ".join(f"`{t.name}` {t.dtype} {list(t.shape)}" for t in signature.inputs),
        "GIVES": "; ".join(f"`{t.name}` {t.dtype} {list(t.shape)}" for t in signature.outputs),
    }  # fmt: skip
    kind = "detector" if feed else "plain"
    code = {**values, "TASK": _literal(bundle.task), "DIGEST": bundle.sha256, **{n: _literal(values[n]) for n in ("INPUT", "OUTPUT", "USAGE")}}
    return {"CMakeLists.txt": _filled("CMakeLists.txt.in", values), "main.cpp": _filled(f"{kind}.cpp.in", code),
            "README.md": _filled("README.md.in", {n: shown(v, 1000) for n, v in values.items()})}  # fmt: skip


def detector_feed(bundle: Bundle) -> Feed | None:
    """The feed of a model that listens: one stream of float32 [1, samples] in, one number for each chunk out."""
    stream, signature = bundle.manifest.program.stream, bundle.manifest.signature
    if stream is None or len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return None
    sound, answer = signature.inputs[0], signature.outputs[0]
    feed = stream.feeds.get(sound.name)
    listens = feed is not None and feed.hop and sound.dtype == "float32" and len(sound.shape) == 2 and sound.shape[0] == 1
    one_each = answer.dtype == "float32" and all(n == 1 or isinstance(n, str) for n in answer.shape)
    return feed if listens and feed is not None and feed.axis == 1 and one_each else None


def _filled(template: str, values: dict[str, str]) -> str:
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], (TEMPLATES / template).read_text())  # once: values are not looked through


def _literal(text: str) -> str:
    """The inside of a C++ string: a name of a stranger's tensor must not end it."""
    return "".join(f"\\{c}" if c in '"\\' else c if c.isprintable() else "".join(f"\\{b:03o}" for b in c.encode()) for c in text)
