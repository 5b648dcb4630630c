"""Recipes: strict TOML; every example is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from edgekit import flow, recipe, registry
from edgekit.errors import EdgekitError
from edgekit.parts import Family

EXAMPLES = sorted(p for p in (Path(__file__).parent.parent / "examples").glob("*.toml") if not p.stem.startswith("sweep_"))  # sweeps: test_sweep.py


@dataclass(frozen=True)
class Inner:
    rate: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    inner: Inner
    sizes: tuple[int | str, ...] = ()
    name: str = field(default="x")

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name is bad")


def test_nested_tables_tuples_and_whole_numbers_for_floats() -> None:
    filled = recipe.fill(Outer, {"inner": {"rate": 1}, "sizes": [8, "A"]}, "r")
    assert filled == Outer(Inner(1.0), (8, "A"))
    assert isinstance(filled.inner.rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"rate": 1}, "naem": "y"}, r"unknown key 'naem' \(did you mean 'name'\?\); known are: inner, name, sizes"),
        ({}, "'inner' is missing"),
        ({"inner": {"rate": "fast"}}, "r: inner: rate must be float, found 'fast'"),
        ({"inner": {"rate": True}}, "must be float"),
        ({"inner": {"rate": 1, "kind": "c"}}, "must be one of 'a', 'b', found 'c'"),
        ({"inner": 3}, "must be a table"),
        ({"inner": {"rate": 1}, "sizes": 3}, "must be an array"),
        ({"inner": {"rate": 1}, "sizes": [1.5]}, "must be int or str, found 1.5"),
        ({"inner": {"rate": 1}, "name": "bad"}, "r: name is bad"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(values: dict[str, object], message: str) -> None:
    with pytest.raises(EdgekitError, match=message):
        recipe.fill(Outer, values, "r")


def test_a_recipe_that_is_not_there_or_no_toml_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="no recipe at"):
        recipe.read(tmp_path / "none.toml")
    (tmp_path / "r.toml").write_text("a = ")
    with pytest.raises(EdgekitError, match="is not a TOML recipe"):
        recipe.read(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_text("a = 1")
    with pytest.raises(EdgekitError, match="names its family"):
        recipe.read(tmp_path / "r.toml")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_fits_its_family(path: Path) -> None:
    read = recipe.read(path)
    family = registry.load(Family, read.family)
    options = recipe.fill(family.options(), {k: v for k, v in read.values.items() if k != "deploy"}, str(path))
    if read.family == "iir_snn":
        assert options.schedule[-1] == (10 if path.stem == "iir_snn_nmnist" else 1)
    assert set(flow.deploy_formats(path)) >= {"onnx"}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
