"""Seeded mutation fuzzing of everything that Python reads of strangers: `python tests/fuzz_python.py --executions 100000 [TARGET ...]`.

Whatever the bytes, a reader gives an answer or raises EdgekitError; any other exception is a finding, printed with its input's number.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import random
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import fuzz_bundles
import fuzz_media
import fuzz_onnx
import fuzz_texts
from fuzz_base import Target, mutated_bytes

from edgekit.errors import EdgekitError

TARGETS: dict[str, Callable[[ExitStack], Target]] = {
    **fuzz_bundles.TARGETS, **fuzz_texts.TARGETS, **fuzz_media.TARGETS, **fuzz_onnx.TARGETS,
}  # fmt: skip
SLOW_S = 5.0  # processor seconds for one input: a hang, or on the way to one


@dataclasses.dataclass
class Found:
    """What came of a target: how often it was taken, refused and broke; the first input of each way to break."""

    executions: int = 0
    taken: int = 0
    slowest: tuple[float, int] = (0.0, 0)  # processor seconds, number of the input
    crashes: dict[str, tuple[int, bytes, str]] = dataclasses.field(default_factory=dict)
    kinds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    sentences: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # without their names and numbers
    counts: dict[str, int] = dataclasses.field(default_factory=dict)  # of the target's own


def fuzz(name: str, executions: int, seed: int = 0, first: int = 0) -> Found:
    """Run a target; input number i depends on name, seed and i alone, so that a finding can be run again by itself."""
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning is a second line where one was promised
        return _fuzz(name, TARGETS[name](stack), range(first, first + executions), seed)


def _fuzz(name: str, it: Target, numbers: range, seed: int) -> Found:
    found = Found()
    for raw in it.seeds:
        it.read(raw)  # a seed that is refused would find nothing
    it.counts.clear()
    for i in numbers:
        rng = random.Random(f"{name}/{seed}/{i}")
        which = rng.randrange(len(it.seeds))
        raw = it.inside(which, rng) if it.inside is not None and rng.random() < 0.7 else mutated_bytes(it.seeds[which], rng)
        begun = time.process_time()  # of the processor: a busy machine is no finding
        try:
            it.read(raw)
            found.taken += 1
        except EdgekitError as error:
            found.sentences[_form(str(error))] += 1
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            found.kinds[kind] += 1
            found.crashes.setdefault(kind, (i, raw, traceback.format_exc(limit=-4)))
        found.executions += 1
        taken_s = time.process_time() - begun
        found.slowest = max(found.slowest, (taken_s, i))
        if taken_s > SLOW_S:
            found.kinds["slow"] += 1
            found.crashes.setdefault("slow", (i, raw, f"{taken_s:.1f} s for one input\n"))
    found.counts = dict(it.counts)
    return found


def _form(sentence: str) -> str:
    """What kind of sentence it is: its first words, without what was quoted of the file."""
    words = re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*", "_", sentence[:600])
    return re.sub(r"[^A-Za-z ]+", "", words)[:60].strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--executions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input: to run a finding again")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that are findings")
    asked = parser.parse_args()
    crashes = 0
    for name in asked.targets or TARGETS:
        begun = time.process_time()
        found = fuzz(name, asked.executions, asked.seed, asked.first)
        crashes += len(found.crashes)
        print(f"{name}: {found.executions:,} executions, {found.taken:,} taken, {len(found.crashes)} crashes, {len(found.sentences)} sentences, "
              f"slowest {found.slowest[0]:.2f} s (number {found.slowest[1]}), {time.process_time() - begun:.0f} s in all"
              + "".join(f", {n}: {count:,}" for n, count in found.counts.items()), flush=True)  # fmt: skip
        for kind, (number, raw, trace) in found.crashes.items():
            print(f"  {kind}, {found.kinds[kind]} times, first --seed {asked.seed} --first {number}\n{trace}", flush=True)
            if asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                (asked.keep / f"{name}-{number}").write_bytes(raw)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
