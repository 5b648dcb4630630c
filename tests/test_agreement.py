"""Programs without a stream whose whole numbers may differ: which samples are compared, and what forms that round promise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from toy_tasks import Tasked

from edgekit import registry
from edgekit.agreement import agreement, comparable, may_differ
from edgekit.bundle import Bundle, Golden, open_bundle
from edgekit.errors import Broken
from edgekit.parts import Calibrator, Exporter, Runtime
from edgekit.program_check import check_same_share
from edgekit.verify import Comparison, verify

Y = np.arange(12, dtype=np.float32).reshape(4, 3)
CODES = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])


@pytest.fixture(scope="module")
def guess(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One step, and the place of the largest number: float `y`, int64 `code`."""
    part = registry.find(Exporter, "onnx")
    return part.export(Tasked(), tmp_path_factory.mktemp("agreement") / "onnx", part.options).of_task("guess")


def allowing(bundle: Bundle, **shares: float) -> Bundle:
    allowed = dataclasses.replace(bundle.manifest.allowed, same_share=shares)
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, allowed=allowed))


def test_the_samples_that_do_not_differ_are_compared(guess: Bundle):
    golden = Golden({}, {"code": CODES, "y": Y})
    other = CODES.copy()
    other[1, 0] += 1
    found = agreement(guess.manifest, ["code"], golden, {"code": other, "y": Y})
    assert (found.shares, found.chunks, found.equal) == ({"code": 7 / 8}, 4, 3)
    assert found.alike is not None and found.alike.tolist() == [True, False, True, True]
    part = comparable(guess.manifest, found, "y", Y)
    assert part is not None and part.tolist() == Y[[0, 2, 3]].tolist()
    for shape in ((), (3, 4), (1,)):  # not a value a sample: what of it follows from which code, nobody knows
        assert comparable(guess.manifest, found, "y", np.zeros(shape)) is None
    whole = agreement(guess.manifest, ["code"], golden, {"code": CODES, "y": Y})
    assert whole.equal == 4 and comparable(guess.manifest, whole, "y", Y) is Y
    short = agreement(guess.manifest, ["code"], golden, {"code": CODES[:3], "y": Y})
    assert short.shares == {"code": 0.0} and short.equal == 0 and comparable(guess.manifest, short, "y", Y) is None


@pytest.mark.parametrize("one", [np.array(3), np.array([1, 2, 3])])
def test_outputs_of_different_sizes_are_one_sample(guess: Bundle, one: np.ndarray):
    golden = Golden({}, {"code": CODES, "kind": one})
    same = agreement(guess.manifest, ["code", "kind"], golden, {"code": CODES, "kind": one})
    assert (same.chunks, same.equal) == (1, 1)
    found = agreement(guess.manifest, ["code", "kind"], golden, {"code": CODES, "kind": one + 1})
    assert (found.shares, found.chunks, found.equal) == ({"code": 1.0, "kind": 0.0}, 1, 0)


def test_two_outputs_differ_in_samples_of_their_own(guess: Bundle):
    golden = Golden({}, {"a": CODES, "b": CODES[:, 0]})
    a, b = CODES.copy(), CODES[:, 0].copy()
    a[0], b[3] = 0, 0
    found = agreement(guess.manifest, ["a", "b"], golden, {"a": a, "b": b})
    assert found.alike is not None and found.alike.tolist() == [False, True, True, False] and found.shares == {"a": 0.75, "b": 0.75}


@pytest.mark.parametrize(("off", "passed"), [([1], True), ([2], False)])
def test_another_answer_behind_another_code_is_no_failure(guess: Bundle, off: list[int], passed: bool):
    golden = guess.goldens()[0]
    code, y = golden.outputs["code"].copy(), golden.outputs["y"].copy()
    code[1] += 1
    y[off] += 1
    found = Comparison(allowing(guess, code=0.8))
    found.compare(golden, {"code": code, "y": y})
    fields = found.fields()
    assert fields["same_share"] == 0.8 == fields["chunks_compared"] and (not fields["failures"]) == passed
    y[1, 0] = np.nan  # must be finite even where it is not compared
    found.compare(golden, {"code": code, "y": y})
    assert any("not finite" in f for f in found.failures)
    without = Comparison(guess)
    without.compare(golden, {"code": code, "y": golden.outputs["y"]})
    assert without.failures == ["output 'code' differs by 1; allowed 0"]


def test_where_all_samples_differ_nothing_else_is_left_to_compare(guess: Bundle):
    golden = guess.goldens()[0]
    answers = {"code": golden.outputs["code"] + 1, "y": golden.outputs["y"]}
    found = Comparison(allowing(guess, code=0.0))
    found.compare(golden, answers)
    assert found.fields()["failures"] == ("every golden input is decided otherwise in every sample: nothing else could be compared",)
    alone = dataclasses.replace(guess.manifest.signature, outputs=guess.manifest.signature.outputs[1:])
    numbers = allowing(dataclasses.replace(guess, manifest=dataclasses.replace(guess.manifest, signature=alone)), code=0.0)
    found = Comparison(numbers)  # the share is all that is asked of a program that gives nothing but whole numbers
    found.compare(dataclasses.replace(golden, outputs={"code": golden.outputs["code"]}), answers)
    assert found.fields()["failures"] == () and found.fields()["same_share"] == 0.0


def test_only_whole_numbers_have_a_share(guess: Bundle):
    program, signature = guess.manifest.program, guess.manifest.signature
    check_same_share(program, signature, {"code": 0.5}, "b")
    for shares, says in (({"y": 0.5}, "same_share names 'y', which is no whole-number output$"), ({"code": -0.1}, "must be a number from 0 to 1")):
        with pytest.raises(Broken, match=says):
            check_same_share(program, signature, shares, "b")


def test_a_form_that_rounds_promises_the_share_that_it_keeps(guess: Bundle, tmp_path: Path):
    assert may_differ(guess.manifest) == ("code",)
    part, source = registry.find(Calibrator, "half"), open_bundle(guess.folder)
    made = part.calibrate(source, tmp_path / "half", part.options)
    shares = made.manifest.tasks["guess"].allowed.same_share
    assert made.manifest.allowed.same_share == {} and set(shares) == {"code"} and 0.9 < shares["code"] <= 1
    found = verify(made, registry.find(Runtime, "onnxruntime"))
    assert found.passed and found.tasks["guess"]["same_share"] >= shares["code"]
