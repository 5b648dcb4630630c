"""Words of whole numbers: what a text says, what numbers are called, and what a manifest may say of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from toy_bundles import bundle, graph

from edgekit import captions, files
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import Broken, EdgekitError
from edgekit.program import once
from edgekit.runtimes import _cpp_build, cpp
from edgekit.signature import Signature, Tensor, tokens

FACE = Tensor("face", "int64", ("batch", 3), words=(("cat", "Wild Cat", "cat with a hat"), ("red", "light blue"), ("round",)), categories=(4, 3, 1))
SCHEMA = json.loads((Path(__file__).parent.parent / "docs/bundle.schema.json").read_text())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cat, red, round", [0, 0, 0]), ("ROUND Red Cat", [0, 0, 0]), ("round wild  cat", [1, 2, 0]), ("round, cat with a hat,light\tblue,", [2, 1, 0]),
        ("round", [3, 2, 0]), (" ,, round , ", [3, 2, 0]), ("round round red red", [3, 0, 0]),
    ],
)  # fmt: skip
def test_a_text_says_the_longest_names_in_any_order(text: str, says: list[int]) -> None:
    found = captions.codes(FACE, text)
    assert found.dtype == np.int64 and found.tolist() == says


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("round, rde", "'face' has no word 'rde'; there are: red, "),
        ("round, hat dog", "'face' has no word 'hat dog'; there are: cat with a hat, "),
        ("cat with, round", "no word 'with'; there are: cat with a hat"),  # a comma ends a name
        ("light, blue, round", "no word 'light', 'blue'; there are: light blue"),
        ("cat", "'cat' does not say all of 'face': place 2 is one of round"),
        ("", "'' does not say all"),
        ("round, cat, wild cat", "'cat' and 'Wild Cat' are both said of place 0 of 'face'; say one"),
    ],
)
def test_a_text_that_says_too_little_too_much_or_nothing_known_is_refused(text: str, error: str) -> None:
    with pytest.raises(EdgekitError) as refused:
        captions.codes(FACE, text)
    assert error in str(refused.value)


def test_a_name_of_several_places_is_refused_with_both() -> None:
    marks = Tensor("marks", "int64", ("batch", 2), words=(("no", "yes"), ("yes", "no", "maybe")))
    with pytest.raises(EdgekitError, match=r"'no' may be said of place 0 \(no, yes\) and place 1 \(yes, no, maybe\) of 'marks'"):
        captions.codes(marks, "no, maybe")


def test_many_names_are_cut_with_the_closest_first() -> None:
    many = Tensor("many", "int64", (1,), words=(tuple(f"name {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)),))
    with pytest.raises(EdgekitError) as refused:
        captions.codes(many, "name ga, name cz")
    assert "no word" not in str(refused.value)  # both are names, of one place
    with pytest.raises(EdgekitError) as refused:
        captions.codes(many, "name dxx")
    told = str(refused.value).split("there are: ")[1]
    assert told.startswith("name dx, ") and told.endswith(" and 176 others") and told.count("name") == 24


def test_numbers_are_called_by_their_names_and_others_are_refused() -> None:
    assert captions.caption(FACE, np.array([1, 1, 0])) == "Wild Cat, light blue, round"
    assert captions.caption(FACE, np.array([3, 2, 0], np.int32)) == "round"
    assert captions.captions(FACE, np.array([[[0, 2, 0]], [[3, 0, 0]]])) == [["cat, round"], ["red, round"]]
    for wrong in ([4, 0, 0], [0, 0, 1], [-1, 0, 0]):  # place 2 has no number for "not given"
        with pytest.raises(EdgekitError, match="which has names for 0 to"):
            captions.caption(FACE, np.array(wrong))


NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=","), min_size=1, max_size=5), min_size=1, max_size=3).map(" ".join)


@st.composite
def spoken(draw: st.DrawFn) -> tuple[Tensor, list[int]]:
    """A tensor whose names all differ, and numbers of it."""
    names = draw(st.lists(NAMES.filter(tokens), min_size=1, max_size=12, unique_by=tokens).filter(lambda found: not any("," in tokens(n) for n in found)))
    cuts = sorted({0, len(names), *draw(st.lists(st.integers(0, len(names)), max_size=3))})
    words = tuple(tuple(names[a:b]) for a, b in zip(cuts, cuts[1:], strict=False))
    silent = draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    made = Tensor("t", "int64", ("batch", len(words)), "", tuple(len(w) + s for w, s in zip(words, silent, strict=True)), 0, words)
    return made, [draw(st.integers(0, n - 1)) for n in made.categories]


@settings(deadline=None)
@given(spoken(), st.data())
def test_every_caption_says_its_numbers_however_it_is_written_and_ordered(case: tuple[Tensor, list[int]], data: st.DataObject) -> None:
    t, numbers = case
    said = captions.caption(t, np.array(numbers))
    assert captions.codes(t, said).tolist() == numbers
    assert captions.codes(t, " , ".join(reversed(said.split(", "))).replace(" ", "\t ")).tolist() == numbers
    plain = said.upper() if said.upper().lower() == said.lower() else said
    assert captions.codes(t, plain).tolist() == numbers
    assert Signature.from_json(json.loads(json.dumps(Signature((t,), (t,)).to_json())), "x") == Signature((t,), (t,))


@settings(deadline=None)
@given(st.text(st.sampled_from("cat hatredlightblueround,wi"), max_size=30))
def test_any_text_is_a_caption_or_one_clear_error(text: str) -> None:
    try:
        numbers = captions.codes(FACE, text)
    except EdgekitError as error:
        assert "\n" not in str(error)
        return
    said = set(tokens(captions.caption(FACE, numbers)))
    assert set(tokens(text)) - {","} == said - {","}


GOOD = {"name": "a", "dtype": "int64", "shape": ["batch", 2], "meaning": "", "words": [["x", "y z"], ["x"]]}
WRONG = [
    {"words": [["x"]]}, {"words": [["x"], []]}, {"words": [["x", ""], ["x"]]}, {"words": [["x", "x"], ["x"]]}, {"words": [["x", 1], ["x"]]}, {"words": []},
    {"words": "xy"}, {"words": ["x", "y"]}, {"words": {"x": 1, "y": 2}}, {"dtype": "uint8"}, {"dtype": "float32"}, {"shape": ["batch"]}, {"shape": []},
    {"categories": [1, 1]}, {"categories": [4, 1]},
]  # fmt: skip
ALIKE = [{"words": [["y z", "Y  Z"], ["x"]]}, {"words": [["\uff21", "a"], ["x"]]}, {"words": [[" , "], ["x"]]}]  # what only Python compares


@pytest.mark.parametrize("change", WRONG + ALIKE)
def test_words_that_do_not_fit_their_tensor_make_a_broken_bundle(change: dict) -> None:
    with pytest.raises(Broken, match="words of 'a'"):
        Signature.from_json({"inputs": [{**GOOD, **change}], "outputs": []}, "x")


def test_words_that_fit_are_kept_and_written_only_where_there_are_any() -> None:
    for categories in (None, [2, 1], [3, 1], [2, 2]):
        data = GOOD | ({"categories": categories} if categories else {})
        read = Signature.from_json({"inputs": [data], "outputs": []}, "x")
        assert read.inputs[0].words == (("x", "y z"), ("x",)) and read.to_json()["inputs"] == [data]
        jsonschema.validate([data], {**SCHEMA["$defs"]["tensors"], "$defs": SCHEMA["$defs"]})
    assert "words" not in Signature((Tensor("a", "int64", (2,)),), ()).to_json()["inputs"][0]


@pytest.mark.parametrize("change", [WRONG[i] for i in (1, 2, 3, 4, 5, 6, 7, 8)])
def test_the_schema_refuses_them_too(change: dict) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{**GOOD, **change}], {**SCHEMA["$defs"]["tensors"], "$defs": SCHEMA["$defs"]})


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """b = a, both with words."""
    a = Signature.from_json({"inputs": [GOOD], "outputs": []}, "x").inputs[0]
    b = replace(a, name="b")
    made = graph((a,), (b,), [helper.make_node("Identity", ["a"], ["b"])])
    return bundle(tmp_path_factory.mktemp("words") / "b", {"main": made}, Signature((a,), (b,)), once(("a",), ("b",)))


def test_the_cpp_runner_reads_them_as_strictly(named: Bundle, tmp_path: Path) -> None:
    runner = _cpp_build.runner(cpp.NATIVE)
    if runner is None:
        pytest.skip("the C++ runner is not built from these sources: run `edgekit setup cpp`")
    np.save(tmp_path / "a.npy", np.zeros((3, 2), np.int64))

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [runner, folder, "--library", _cpp_build.onnxruntime_folder(), "--input", tmp_path / "a.npy", "--output", tmp_path / "b.npy"]
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, env={**os.environ, "EDGEKIT_PYTHON": sys.executable})

    done = run(named.folder)
    assert done.returncode == 0, done.stderr
    for change in WRONG:
        folder = tmp_path / files.hash_of(change)[:8]
        shutil.copytree(named.folder, folder)
        written = json.loads((folder / "bundle.json").read_text())
        written["signature"]["inputs"][0] = {**GOOD, **change}
        (folder / "bundle.json").write_text(json.dumps(written))
        with pytest.raises(Broken):
            open_bundle(folder)
        failed = run(folder)
        assert failed.returncode == 2 and ".words must be" in failed.stderr and len(failed.stderr.splitlines()) == 1, (change, failed.stderr)
