"""TPGN from recipe to engine by the commands that a user types; what they print is kept as JSON, and docs/tpgn.md is drawn from it.

    python benchmarks/tpgn.py train  [--out runs]     # the eight rows of Table 1        -> benchmarks/tpgn_ett.json
    python benchmarks/tpgn.py deploy [--out runs]     # both forms of three rows         -> benchmarks/tpgn_deployed.json
    python benchmarks/tpgn.py rolling [--out runs]    # 500 pushes against whole windows -> benchmarks/tpgn_rolling.json
    python benchmarks/tpgn.py table                   # draws docs/tpgn.md between its marks

What a run folder holds already is kept, so a command that was stopped goes on. tpgn_latency.py times the length of the history.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "tpgn.md"
ROWS = [f"tpgn_{data}_{horizon}" for data in ("etth1", "etth2") for horizon in (168, 336, 720, 1440)]
DEPLOYED = ("tpgn_etth1_168", "tpgn_etth1_720", "tpgn_etth2_720")
FORMATS = "onnx,onnx:int8,openvino,openvino:bf16,openvino:int8"
PUSHES = 500


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "deploy", "rolling", "table"))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--only", default="", help="one recipe, to make it now; the JSON is written when all are made")
    args = parser.parse_args()
    if args.what == "table":
        PAGE.write_text(drawn(PAGE.read_text()))
        return 0
    made = {"train": train, "deploy": deploy, "rolling": rolling}[args.what](args.out, args.only)
    if made is not None:
        name = {"train": "ett", "deploy": "deployed", "rolling": "rolling"}[args.what]
        (HERE / f"tpgn_{name}.json").write_text(json.dumps({"machine": machine(), **made}, indent=1) + "\n")
    return 0


def machine() -> str:
    """The processor."""
    from edgekit.profile import device_name

    return device_name()


def asked(*command: str | Path) -> dict[str, Any]:
    """The JSON of an edgekit command."""
    done = subprocess.run([sys.executable, "-m", "edgekit", *map(str, command), "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def train(out: Path, only: str) -> dict[str, Any] | None:
    """Every recipe trained; its tables."""
    rows = []
    for name in [only] if only else ROWS:
        found = asked("train", f"examples/{name}.toml", "--out", out / name)
        rows.append({"recipe": name, "command": f"edgekit train examples/{name}.toml", "deployed_skill": deployed_row(found),
                     "test_windows": found["test_samples"], "tables": found["tables"]})  # fmt: skip
    return None if only else {"rows": rows}


def deployed_row(found: dict[str, Any]) -> float:
    """The skill of the seed that is deployed."""
    return float(next(r["score"] for r in found["rows"] if r["role"] == "model"))


def deploy(out: Path, only: str) -> dict[str, Any] | None:
    """Both forms to every format, each verified, scored and timed; the C++ runtime verifies the ONNX bundles too."""
    rows = []
    for name in [only] if only else DEPLOYED:
        for form in ("window", "rolling"):
            folder = out / f"{name}_{form}"
            formats = FORMATS if form == "window" else FORMATS.replace("onnx:int8,", "").replace(",openvino:int8", "")
            if not (folder / "report" / "report.json").is_file():
                asked("deploy", out / name / "train" / form, "--out", folder, "--formats", formats, "--seconds", "1")
            found = json.loads((folder / "report" / "report.json").read_text())
            for bundle in found["bundles"]:
                times = {m["runtime"]: m for m in bundle["measurements"] if m["threads"] == 1}
                for check in bundle["verifications"]:
                    rows.append(row_of(name, form, bundle, check, times.get(check["runtime"])))
            rows += more_engines(name, form, folder)
    return None if only else {"rows": rows}


def more_engines(name: str, form: str, folder: Path) -> list[dict[str, Any]]:
    """The C++ runtime on the float bundles; TensorRT-RTX plans where its builder is installed, checked as docs/tensorrt.md says."""
    checks = [("onnx:f32", folder / "bundles" / "onnx-f32", "cpp"), ("openvino:f32", folder / "bundles" / "openvino-f32", "cpp_openvino")]
    if importlib.util.find_spec("tensorrt_rtx"):
        wishes = [("tensorrt-rtx", folder / "bundles" / "onnx-f32")]
        wishes += [("tensorrt-rtx:int8", folder.parent / name / "train" / form)] if form == "window" else []
        for wish, source in wishes:
            made = folder / wish.replace(":", "-")
            asked("export", source, "--format", wish, "--out", made, "--option", "compute_capabilities=8.6")
            checks.append((wish if ":" in wish else f"{wish}:f32", made, "tensorrt_onnx"))
    rows = []
    for label, bundle, engine in checks:
        row = row_of(name, form, {"label": label, "bytes_total": None}, asked("verify", bundle, "--runtime", engine), None)
        rows.append({**row, "runtime": f"{engine}: {row['runtime']}"})
    return rows


def row_of(name: str, form: str, bundle: dict[str, Any], check: dict[str, Any], timed: dict[str, Any] | None) -> dict[str, Any]:
    """What is kept of a verification and its measurement."""
    return {
        "recipe": name, "form": form, "bundle": bundle["label"], "runtime": check["runtime"], "passed": check["passed"],
        "output_max_abs": check["output_max_abs"], "score": check["score"], "score_reference": check["score_reference"],
        "samples": check["score_samples"], "kb": bundle["bytes_total"] and round(bundle["bytes_total"] / 1e3, 1),
        "latency_p50_ms": timed and timed["latency_p50_ms"], "verdict": timed and timed["verdict"],
    }  # fmt: skip


def rolling(out: Path, only: str) -> dict[str, Any]:
    """Forecasts after each of 500 pushes of test hours, against the window form of the same engine and of torch."""
    from edgekit import flow, registry
    from edgekit.bundle import open_bundle
    from edgekit.parts import Runtime

    rows = []
    for name in [only] if only else DEPLOYED:
        trained: Any = flow.load_trained(out / name / "train" / "window")
        test, history = trained.parts.test, trained.options.network.history
        hours = slice(0, history - 1 + PUSHES)
        starts = np.arange(PUSHES)
        given = test.inputs(starts)
        eager = trained.eager(given["values"], given["time"])
        for fmt, engine in (("onnx", "onnxruntime"), ("openvino", "openvino"), ("onnx", "cpp"), ("openvino", "cpp_openvino")):
            runtime = registry.find(Runtime, engine)
            with runtime.open(open_bundle(out / f"{name}_window" / "bundles" / f"{fmt}-f32")) as session:
                whole = session.run(given)["forecast"]
            with runtime.open(open_bundle(out / f"{name}_rolling" / "bundles" / f"{fmt}-f32")) as session:
                streamed = session.run_pieces({"values": test.values[None, hours], "time": test.time[None, hours]}, [1])
            pushed = streamed["forecast"][0, history - 1 :]
            rows.append({
                "recipe": name, "engine": runtime.version(), "pushes": PUSHES, "largest_value": float(np.abs(whole).max()),
                "against_window": float(np.abs(pushed - whole).max()), "against_torch": float(np.abs(pushed - eager).max()),
                "z_scored": float((np.abs(pushed - whole) / trained.parts.std).max()),
            })  # fmt: skip
    return {"unit": "degree Celsius, and standard deviations of the training part", "rows": rows}


def drawn(page: str) -> str:
    """The page with each table between its marks drawn from its JSON file; tables whose file is not there stay."""
    for name, draw in (("ett", accuracy), ("deployed", deployments), ("rolling", pushes), ("latency", latency)):
        file = HERE / f"tpgn_{name}.json"
        if file.is_file():
            data = json.loads(file.read_text())
            new = "\n".join([f"<!-- {name} -->", *draw(data), "", f"Measured on: {data['machine']}.", f"<!-- end {name} -->"])
            page = re.sub(rf"<!-- {name} -->.*<!-- end {name} -->", lambda _, new=new: new, page, flags=re.DOTALL)
    return page


def accuracy(data: dict[str, Any]) -> list[str]:
    """MSE of the eight rows beside the published one."""
    names = ["TPGN", "NLinear", "DLinear", "LSTM", "repeat the last day"]
    lines = ["| row | published TPGN | TPGN | " + " | ".join(names[1:]) + " | published DLinear | weights | slowest seed |"]
    lines.append("|---|" + "---|" * (len(names) + 4))
    for row in data["rows"]:
        cells = {r[0]: r for r in row["tables"][0]["rows"]}
        published = {n: (r[3] or "-").split(" / ")[0] for n, r in cells.items()}
        shown = [row["recipe"].removeprefix("tpgn_"), published["TPGN"], f"**{cells['TPGN'][1]}**", *(cells[n][1] for n in names[1:])]
        lines.append("| " + " | ".join([*shown, published["DLinear"], str(cells["TPGN"][4]), f"{cells['TPGN'][6]} s"]) + " |")
    lines += ["", "MAE:", "", "| row | published TPGN | " + " | ".join(names) + " |", "|---|" + "---|" * (len(names) + 1)]
    for row in data["rows"]:
        cells = {r[0]: r for r in row["tables"][0]["rows"]}
        published_mae = cells["TPGN"][3].split(" / ")[1]
        lines.append("| " + " | ".join([row["recipe"].removeprefix("tpgn_"), published_mae, *(cells[n][2] for n in names)]) + " |")
    return lines


def deployments(data: dict[str, Any]) -> list[str]:
    """Score and time of every bundle."""
    lines = ["| row | form | bundle | runtime | skill | of the trained network | largest difference | kB | p50 ms, one pinned thread |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for r in data["rows"]:
        timed = f"{r['latency_p50_ms']:.3f} ({r['verdict']})" if r["latency_p50_ms"] else "-"
        cells = [r["recipe"].removeprefix("tpgn_"), r["form"], r["bundle"], r["runtime"], f"{r['score']:.4f}", f"{r['score_reference']:.4f}",
                 f"{r['output_max_abs']:.1e}", r["kb"] or "-", timed]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def pushes(data: dict[str, Any]) -> list[str]:
    """The rolling form against the window."""
    lines = ["| row | engine | pushes | against the window, same engine | against torch | in standard deviations |", "|---|---|---|---|---|---|"]
    for r in data["rows"]:
        differences = [f"{r[k]:.1e}" for k in ("against_window", "against_torch", "z_scored")]
        cells = [r["recipe"].removeprefix("tpgn_"), r["engine"], r["pushes"], *differences]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def latency(data: dict[str, Any]) -> list[str]:
    """Milliseconds of one forecast by length of the history, and the exponent fitted to them."""
    lengths = sorted({p["history"] for m in data["models"] for p in m["points"]})
    lines = ["| model | weights at 168 | " + " | ".join(f"L = {n:,}" for n in lengths) + " | exponent from 1,536 | of multiply-adds |"]
    lines.append("|---|---|" + "---|" * (len(lengths) + 2))
    for m in data["models"]:
        at = {p["history"]: f"{p['p50_ms']:.3g}" for p in m["points"]}
        slopes = [f"{m['exponent']:.2f}", f"{m['exponent_products']:.2f}"]
        cells = [m["model"], f"{m['points'][0]['weights']:,}", *(at.get(n, "-") for n in lengths), *slopes]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
