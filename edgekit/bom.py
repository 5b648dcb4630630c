"""What is in a bundle, for those who keep inventories: a CycloneDX 1.6 ML-BOM that says what the manifest knows, and nothing else.

It is a function of the manifest and of the inventory of what the bundle was made from: no date, no random number, so that equal bundles
stay equal to the byte. The library of CycloneDX knows no model cards (its issue 912); tests hold this file to the published schema with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgekit import __version__, files, limits
from edgekit.data import DATASETS
from edgekit.errors import EdgekitError
from edgekit.manifest import FORMAT_VERSION, Manifest, Model
from edgekit.signature import Tensor
from edgekit.sniff import read_plain
from edgekit.text_file import parse_json

Tool = tuple[str, str]  # name, version; of a GPU that took part GPU, its name

BOM = "bom.json"
EDGEKIT, GPU = "edgekit", "gpu"
MOST_TOOLS, MOST_TOOL_CHARS = 100, 300  # taken over from the inventory of what a bundle is made from; ours have up to 6 tools of 50 characters
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
# Tools of a lineage that are packages of PyPI under this name; of others (a GPU; TensorRT, which comes with JetPack, too) no purl is known.
PYPI = {"torch": "torch", "onnx": "onnx", "onnxruntime": "onnxruntime", "openvino": "openvino", "nir": "nir", "h5py": "h5py",
        "tensorrt_rtx": "tensorrt-rtx"}  # fmt: skip
VERSION = re.compile(r"\d[0-9a-z.]*(\+[0-9a-z.]+)?", re.ASCII)  # of PEP 440: OpenVINO's own goes on with branch and commit
HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def of(manifest: Manifest, before: Collection[Tool] = ()) -> dict[str, Any]:
    """The document for a manifest whose `files` are all other files of the bundle. before: the tools that made what it was made from."""
    contents = [{"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [_hash(sha)]} for name, sha in sorted(manifest.files.items())]
    model: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": "model", "name": manifest.name, "modelCard": _card(manifest)}
    ancestors = _ancestors(manifest)
    if ancestors:
        model["pedigree"] = {"ancestors": ancestors}
    model["properties"] = [{"name": f"edgekit:{name}", "value": value} for name, value in _properties(manifest).items() if value]
    data: dict[str, Any] = {
        "$schema": SCHEMA, "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"lifecycles": [{"phase": "build"}], "tools": {"components": _tools({*_own_tools(manifest), *before})}, "component": model},
        "components": contents,
        "dependencies": [{"ref": "model", "dependsOn": [c["bom-ref"] for c in contents]}, *({"ref": c["bom-ref"]} for c in contents)],
        "compositions": [{"aggregate": "complete", "dependencies": ["model"]}],  # readers refuse a bundle with another file
    }  # fmt: skip
    return {**data, "serialNumber": _serial(data)}


def _card(manifest: Manifest) -> dict[str, Any]:
    model, signature = manifest.model, manifest.signature
    parameters: dict[str, Any] = {"inputs": [{"format": _format(t)} for t in signature.inputs],
                                  "outputs": [{"format": _format(t)} for t in signature.outputs]}  # fmt: skip
    if manifest.task:
        parameters["task"] = manifest.task
    if model is None:
        return {"modelParameters": parameters}
    parameters["architectureFamily"] = model.family
    found = datasets(model)
    if found:
        parameters["datasets"] = found
    metric = {"type": model.score_name, "value": repr(model.score), "slice": f"{model.score_samples} test samples, by the trained network"}
    return {"modelParameters": parameters, "quantitativeAnalysis": {"performanceMetrics": [metric]}}


def datasets(model: Model) -> list[dict[str, Any]]:
    """The data sets that the recipe names; source and licence of those that edgekit fetches."""
    said = model.recipe.get("data")
    said = said if isinstance(said, Mapping) else {}
    names = [said.get("name"), *(said["real"] if isinstance(said.get("real"), (list, tuple)) else ())]  # `real`: of voices, several
    found = []
    for name in dict.fromkeys(n for n in names if isinstance(n, str) and n):
        entry: dict[str, Any] = {"type": "dataset", "name": name}
        known = DATASETS.get("ett" if name.startswith("etth") else name)  # etth1 and etth2 are two files of one set
        if known is not None:
            entry |= {"contents": {"url": known.sources[0].urls[0]}, "description": f"licence: {known.licence}"}
        found.append(entry)
    return found


def _ancestors(manifest: Manifest) -> list[dict[str, Any]]:
    """What this bundle was made from, and the checkpoint at the beginning: each by its hash."""
    step, parent = manifest.lineage.step, manifest.lineage.parent_sha256
    checkpoint = manifest.model.checkpoint_sha256 if manifest.model else ""
    origins = {parent: "the trained checkpoint" if parent == checkpoint else f"what the step '{step}' was given"}
    if checkpoint:
        origins.setdefault(checkpoint, "the trained checkpoint")
    return [
        {"type": "machine-learning-model", "bom-ref": f"ancestor:{sha}", "name": manifest.name, "description": said, "hashes": [_hash(sha)]}
        for sha, said in origins.items() if HASH.fullmatch(sha)
    ]  # fmt: skip


def tools_of(folder: Path, manifest: Manifest) -> set[Tool]:
    """The tools that made a bundle and all that it was made from, as far as its inventory says; that of a stranger may say anything."""
    found = _own_tools(manifest)
    try:
        data = parse_json(read_plain(folder / BOM, limits.MOST_TEXT_BYTES, "an inventory"), str(folder / BOM))
        listed = data["metadata"]["tools"]["components"]
    except (EdgekitError, KeyError, TypeError):
        return found
    for tool in listed[:MOST_TOOLS] if isinstance(listed, list) else ():
        kind, name, version = (tool.get(k) for k in ("type", "name", "version")) if isinstance(tool, dict) else ("", "", "")
        if kind == "device":
            name, version = GPU, name
        if isinstance(name, str) and isinstance(version, str) and name and len(name + version) < MOST_TOOL_CHARS:
            found.add((name, version))
    return found


def _own_tools(manifest: Manifest) -> set[Tool]:
    return {(EDGEKIT, __version__), *manifest.lineage.tools.items()}


def _tools(tools: Collection[Tool]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, version in sorted(tools):
        tool: dict[str, Any] = {"type": "library", "bom-ref": f"tool:{name}@{version}", "name": name, "version": version}
        plain = VERSION.match(version)
        if name == GPU:
            tool = {"type": "device", "bom-ref": f"tool:{name}@{version}", "name": version}
        elif name == EDGEKIT:
            tool |= {"type": "application", "licenses": [{"license": {"id": "Apache-2.0"}}]}
        elif name in PYPI and plain:
            tool["purl"] = f"pkg:pypi/{PYPI[name]}@{quote(plain[0], safe='.')}"
        found.append(tool)
    return found


def _properties(manifest: Manifest) -> dict[str, str]:
    model, options = manifest.model, manifest.lineage.options
    return {
        "bundle-format": str(FORMAT_VERSION), "format": manifest.format, "variant": manifest.variant, "precision": manifest.precision,
        "step": manifest.lineage.step, "options": files.canonical_json(dict(options)).strip() if options else "",
        "timesteps": str(model.steps) if model and model.steps else "", "tasks": ", ".join(manifest.tasks),
        "golden-answers-by": manifest.golden.answers_by, "golden-inputs-from": manifest.golden.inputs_from,
    }  # fmt: skip


def _format(tensor: Tensor) -> str:
    said = f"{tensor.name}: {tensor.dtype} [{', '.join(map(str, tensor.shape))}]"
    return f"{said}, {tensor.meaning}" if tensor.meaning else said


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}


def _serial(data: Mapping[str, Any]) -> str:
    """A UUID of version 8 (RFC 9562: the maker's own bits) from the hash of all the rest."""
    raw = bytearray(hashlib.sha256(files.canonical_json(data).encode()).digest()[:16])
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
    h = raw.hex()
    return f"urn:uuid:{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
