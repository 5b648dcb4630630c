"""bom.json: valid by the schema of CycloneDX, true to the bundle, the same every time, with nothing invented."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
from packageurl import PackageURL
from test_bundle import make

import edgekit
from edgekit import bom, data, registry
from edgekit.bundle import Bundle, Lineage, Model, open_bundle
from edgekit.parts import Exporter

validation = pytest.importorskip("cyclonedx.validation.json", reason="pip install cyclonedx-python-lib")


def valid(text: str) -> dict[str, Any]:
    """The document, after the published schema of 1.6 took it, unknown fields refused."""
    from cyclonedx.schema import SchemaVersion

    wrong = validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert wrong is None, wrong
    return json.loads(text)


def read(bundle: Bundle) -> dict[str, Any]:
    return valid((bundle.folder / "bom.json").read_text())


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """A torch module as ONNX, and that for OpenVINO, by the real exporters."""
    folder = tmp_path_factory.mktemp("bom")
    torch.manual_seed(0)
    first = edgekit.export(Net(), (torch.zeros(1, 3),), out=folder / "onnx")
    exporter = registry.find(Exporter, "openvino")
    return first, exporter.export(first, folder / "openvino", exporter.options)


def test_the_schema_takes_it_and_would_refuse_another(real: tuple[Bundle, Bundle]):
    for bundle in real:
        said = read(bundle)
        assert said["specVersion"] == "1.6" and said["metadata"]["component"]["type"] == "machine-learning-model"
    with pytest.raises(AssertionError):
        valid(json.dumps({**said, "invented": 1}))
    with pytest.raises(AssertionError):
        valid(json.dumps({**said, "serialNumber": "7"}))


def test_it_names_every_file_with_its_hash_and_is_hashed_itself(real: tuple[Bundle, Bundle]):
    for bundle in real:
        there = {str(p.relative_to(bundle.folder)) for p in bundle.folder.rglob("*") if p.is_file()}
        listed = {c["name"]: c["hashes"] for c in read(bundle)["components"]}
        assert set(listed) == there - {"bundle.json", "bom.json"}
        for name, hashes in listed.items():
            assert hashes == [{"alg": "SHA-256", "content": hashlib.sha256((bundle.folder / name).read_bytes()).hexdigest()}]
        assert bundle.manifest.files["bom.json"] == hashlib.sha256((bundle.folder / "bom.json").read_bytes()).hexdigest()
        known = {ref for c in (read(bundle)["metadata"]["component"], *read(bundle)["components"]) for ref in (c["bom-ref"],)}
        assert {d["ref"] for d in read(bundle)["dependencies"]} == known
        assert set(read(bundle)["dependencies"][0]["dependsOn"]) == known - {"model"}


def test_tools_are_those_that_are_installed_and_parents_those_that_were_given(real: tuple[Bundle, Bundle]):
    from importlib.metadata import version

    first, second = real
    tools = {t["name"]: t for t in read(first)["metadata"]["tools"]["components"]}
    assert set(tools) == {"edgekit", "onnx", "torch"} and "purl" not in tools["edgekit"]  # which is not known to be on PyPI
    for name in ("onnx", "torch"):
        found = PackageURL.from_string(tools[name]["purl"])
        assert (found.type, found.name, found.version) == ("pypi", name, torch.__version__ if name == "torch" else version(name))
    own = next(t for t in read(second)["metadata"]["tools"]["components"] if t["name"] == "openvino")
    assert own["purl"] == f"pkg:pypi/openvino@{version('openvino')}" and own["version"].startswith(version("openvino"))
    parents = read(second)["metadata"]["component"]["pedigree"]["ancestors"]
    assert [p["hashes"][0]["content"] for p in parents] == [first.sha256]
    names = {t["name"] for t in read(second)["metadata"]["tools"]["components"]}
    assert names == {"edgekit", "onnx", "torch", "openvino"}  # what made the parent took part


@pytest.mark.parametrize("lie", [
    "no JSON", "[]", '{"metadata": 7}', '{"metadata": {"tools": {"components": [7, {"name": 7, "version": "1"}, {"name": "", "version": "1"}]}}}',
    json.dumps({"metadata": {"tools": {"components": [{"name": "x" * 400, "version": "1"}]}}}), '{"metadata": {"tools": {"components": {"0": 1}}}}',
])  # fmt: skip
def test_the_inventory_of_a_strangers_bundle_is_read_as_one(tmp_path: Path, lie: str):
    """Resealed, so that the bundle is whole: what cannot be a tool is left out of what is made from it."""
    bundle = make(tmp_path / "b")
    (bundle.folder / "bom.json").write_text(lie)
    assert bom.tools_of(bundle.folder, bundle.manifest) == {("edgekit", edgekit.__version__), ("tool", "1")}
    many = {"metadata": {"tools": {"components": [{"name": f"t{i}", "version": "1", "purl": "pkg:evil/x@1"} for i in range(5000)]}}}
    (bundle.folder / "bom.json").write_text(json.dumps(many))
    found = bom.tools_of(bundle.folder, bundle.manifest)
    assert len(found) <= 102
    assert "evil" not in json.dumps(valid(json.dumps(bom.of(bundle.manifest, found))))


def test_equal_bundles_have_equal_ones_and_others_have_others(tmp_path: Path, real: tuple[Bundle, Bundle]):
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    assert (a.folder / "bom.json").read_bytes() == (b.folder / "bom.json").read_bytes() and a.sha256 == b.sha256
    serials = {read(x)["serialNumber"] for x in (a, b, *real)}
    assert len(serials) == 3
    for serial in serials:
        number = uuid.UUID(serial)
        assert number.version == 8 and number.variant == uuid.RFC_4122
    other = make(tmp_path / "c", dataclasses.replace(a.manifest.lineage, options={"opset": 21}))
    assert read(other)["serialNumber"] != read(a)["serialNumber"]
    whole = open_bundle(a.folder).manifest
    rest = {n: sha for n, sha in whole.files.items() if n != "bom.json"}
    assert bom.of(dataclasses.replace(whole, files=rest)) == read(a)


def test_the_card_says_what_the_manifest_knows(tmp_path: Path):
    bundle = make(tmp_path / "b")
    model = Model("multi_fit", {"data": {"name": "cifar10"}}, "cd" * 32, "accuracy", 0.9, 10, steps=4)
    lineage = Lineage("build tensorrt", "ab" * 32, {"profiles": {"batch": [1, 8]}}, {"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1", "gpu": "Orin (nvgpu)"})
    said = valid(json.dumps(bom.of(dataclasses.replace(bundle.manifest, model=model, lineage=lineage, precision="int8"))))
    component = said["metadata"]["component"]
    card = component["modelCard"]
    assert card["modelParameters"]["architectureFamily"] == "multi_fit"
    assert card["modelParameters"]["inputs"] == [{"format": "x: float32 [batch, 3], volts"}]
    (entry,) = card["modelParameters"]["datasets"]
    assert entry["name"] == "cifar10" and entry["contents"]["url"] in data.DATASETS["cifar10"].sources[0].urls
    assert entry["description"] == f"licence: {data.DATASETS['cifar10'].licence}"
    (metric,) = card["quantitativeAnalysis"]["performanceMetrics"]
    assert (metric["type"], float(metric["value"])) == ("accuracy", 0.9) and metric["slice"].startswith("10 test samples")
    told = {p["name"]: p["value"] for p in component["properties"]}
    assert told["edgekit:precision"] == "int8" and told["edgekit:timesteps"] == "4"
    assert json.loads(told["edgekit:options"]) == {"profiles": {"batch": [1, 8]}}
    tools = {t["name"]: t for t in said["metadata"]["tools"]["components"]}
    assert tools["Orin (nvgpu)"]["type"] == "device"
    assert "purl" not in tools["tensorrt"] and tools["tensorrt_rtx"]["purl"] == "pkg:pypi/tensorrt-rtx@1.7.1"
    assert [p["hashes"][0]["content"] for p in component["pedigree"]["ancestors"]] == ["ab" * 32, "cd" * 32]
    text = json.dumps(said)
    assert not re.search(r"timestamp|supplier|\d{4}-\d\d-\d\dT", text)  # what nobody said is not there


@pytest.mark.parametrize("recipe", [{}, {"data": "x"}, {"data": {"name": 7}}, {"data": {"real": [1, None]}}, {"data": None}, {"data": {"name": ""}}])
def test_recipes_of_strangers_name_no_data_set(recipe: dict[str, Any]):
    assert bom.datasets(Model("f", recipe, "", "accuracy", 0.5, 1)) == []


def test_several_data_sets():
    named = bom.datasets(Model("stream_voice", {"data": {"real": ["librispeech_mini", "emodb", "emodb"]}}, "", "score", 0.5, 1))
    assert named == [{"type": "dataset", "name": "librispeech_mini"}, {"type": "dataset", "name": "emodb"}]
    (etth,) = bom.datasets(Model("tpgn", {"data": {"name": "etth1"}}, "", "score", 0.5, 1))
    assert "ETTh1" in etth["contents"]["url"] and "CC BY-ND" in etth["description"]


def test_names_of_strangers_stay_names(tmp_path: Path):
    odd = "x\x1b[2J\u202e\"\\</script>"
    bundle = make(tmp_path / "b")
    manifest = dataclasses.replace(bundle.manifest, name=odd, files={odd: "0" * 64}, lineage=Lineage("s", "no hash", {}, {odd: odd}), model=None)
    said = valid(json.dumps(bom.of(manifest)))
    assert said["metadata"]["component"]["name"] == odd and "pedigree" not in said["metadata"]["component"]
