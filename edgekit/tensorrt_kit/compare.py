"""Are the device's answers those that ONNX Runtime gave on the same graphs? Exit code 0 yes, 1 no, 2 something is missing.

    python3 compare.py [FOLDER]      the folder of the answers; `answers` beside this file when it is not said
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def difference(expected: np.ndarray, got: np.ndarray, limit: float) -> str:
    """What is wrong with an answer; empty when it is right."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return f"is {got.dtype} {list(got.shape)}, expected {expected.dtype} {list(expected.shape)}"
    if expected.dtype.kind != "f":
        wrong = int((got != expected).sum())
        return f"differs in {wrong} of {expected.size} values" if wrong else ""
    if not np.array_equal(np.isfinite(expected), np.isfinite(got)):
        return "is not finite where it should be"
    finite = np.isfinite(expected)
    largest = float(np.abs(got[finite].astype(np.float64) - expected[finite]).max(initial=0.0))
    return f"differs by {largest:.3g}; allowed {limit:g}" if largest > limit else ""


def main(folder: Path) -> int:
    """Compare every output of every graph, and say a line about each."""
    plan = json.loads((HERE / "plan.json").read_text())
    found_wrong = False
    for name, graph in plan["graphs"].items():
        file = folder / f"{name}.npz"
        if not file.is_file():
            print(f"error: no {file}; run the script of your TensorRT first", file=sys.stderr)
            return 2
        with np.load(HERE / graph["expected"]) as expected, np.load(file) as answers:
            for output in graph["outputs"]:
                if output not in answers.files:
                    print(f"error: {file} has no '{output}'; run the script of your TensorRT again", file=sys.stderr)
                    return 2
                wrong = difference(expected[output], answers[output], graph["allowed"].get(output, 0.0))
                print(f"{name}.{output}: {wrong or 'same'}")
                found_wrong |= bool(wrong)
    return 1 if found_wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "answers"))
