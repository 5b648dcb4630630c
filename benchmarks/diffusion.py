"""Diffusion on small pictures as a user runs it: trained, deployed in every format, timed by calls; kept as JSON, drawn into the families' pages.

    python benchmarks/diffusion.py train RECIPE [--out runs/NAME]     benchmarks/NAME.json; goes on where it was stopped
    python benchmarks/diffusion.py deploy RUN                         every format of the form to deploy, and the C++ runner
    python benchmarks/diffusion.py engines RUN [--form NAME]          every task on every engine against torch, and TensorRT-RTX plans
    python benchmarks/diffusion.py speed RUN                          pictures a second on one core by network calls, of a few-step run
    python benchmarks/diffusion.py page
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
PICTURES = ROOT / "docs" / "pictures"
FORMATS = "onnx,onnx-fused,onnx:int8,openvino,openvino:bf16,openvino:int8"
PAGES = {  # page -> what the JSON files that it shows begin with
    "few_step": ("few_step_", "pso_", "time_shift_"), "unidiffuser": ("unidiffuser_",), "fvdm": ("fvdm_",), "diti": ("diti_",),
    "latent_inversion": ("latent_inversion_",),
}  # fmt: skip
ENGINES = {"onnx": ("onnxruntime", "cpp"), "openvino": ("openvino",)}
CAPABILITY = "8.6"  # of the plans that are built: any machine can build them, none of them is run
CALLS = {"one": 1, "two": 2, "four": 4, "teacher": 50}  # form of a few-step run -> network calls of a picture
BEGIN, END = "<!-- drawn by benchmarks/diffusion.py page: begin -->", "<!-- end -->"


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["train", "deploy", "engines", "speed", "page"])
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--form", default="", help="of engines: a folder of RUN/train other than the one that is deployed")
    given = parser.parse_args()
    if given.verb == "page":
        page()
        return 0
    if given.source is None:
        parser.error(f"{given.verb} needs a recipe or a run")
    if given.verb == "train":
        name, found = given.source.stem, train(given.source, given.out or Path("runs") / given.source.stem)
    elif given.verb == "deploy":
        name, found = f"{given.source.name}_deployed", deploy(given.source)
    elif given.verb == "engines":
        name, found = f"{given.source.name}_engines", engines(given.source, given.form)
    else:
        name, found = f"{given.source.name}_speed", speed(given.source)
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


def command(*words: str) -> tuple[dict[str, Any], float]:
    """What an edgekit command prints as JSON, and its wall time in seconds."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "edgekit", *words, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout), round(time.monotonic() - started, 1)


def device() -> str:
    """What the figures were taken on."""
    from edgekit.profile import device_name

    return device_name()


def train(recipe: Path, out: Path) -> dict[str, Any]:
    """The tables of a recipe."""
    found, seconds = command("train", str(recipe), "--out", str(out))
    for picture in found.get("pictures", []) if not recipe.stem.startswith(PAGES["few_step"]) else []:
        shutil.copy2(out / "train" / picture["file"], PICTURES / f"{recipe.stem}-{picture['file']}")
    return {
        "command": f"edgekit train {recipe}", "machine": device(), "last_call_s": seconds, "training": found["rows"],
        "tables": found["tables"], "test_samples": found["test_samples"],
    }  # fmt: skip


def deploy(run: Path) -> dict[str, Any]:
    """Each bundle on its engine, and what the C++ runner answers: score (floor / feature-FID), differences, size, latency."""
    found, _ = command("deploy", str(run), "--formats", FORMATS)
    told = []
    for bundle in found["bundles"]:
        times = {(m["runtime"], m["threads"]): m for m in bundle["measurements"]}
        checks = [{**v, "by": v["runtime"]} for v in bundle["verifications"]]
        if bundle["format"] == "onnx":
            cpp, _ = command("verify", str(run / bundle["folder"]), "--runtime", "cpp")
            checks.append({**cpp, "by": "cpp"})
        for check in checks:
            timed = times.get((check["runtime"], 1)) if check["by"] == check["runtime"] else None
            told.append({
                "bundle": bundle["label"], "runtime": check["by"], "passed": check["passed"], "score": check["score"],
                "output_max_abs": check["output_max_abs"], "sqnr_db": check["sqnr_db"], "size_mb": round(bundle["bytes_total"] / 1e6, 3),
                "latency_p50_ms": timed and timed["latency_p50_ms"], "verdict": timed and timed["verdict"],
            })  # fmt: skip
    return {"command": f"edgekit deploy RUN --formats {FORMATS}", "machine": device(), "rows": told}


def speed(run: Path) -> dict[str, Any]:
    """One picture at a time on one pinned thread, ONNX Runtime from Python and from C++, float32."""
    rows = []
    for form, calls in CALLS.items():
        out = run.parent / f"{run.name}_{form}" / "onnx"
        command("export", str(run / "train" / form), "--format", "onnx", "--out", str(out))
        for engine in ("onnxruntime", "cpp"):
            command("verify", str(out), "--runtime", engine, "--score-limit", "0")
            timed, _ = command("profile", str(out), "--runtime", engine, "--threads", "1")
            m = timed["measurements"][0] if "measurements" in timed else timed
            rows.append({
                "form": form, "calls": calls, "runtime": engine, "latency_p50_ms": m["latency_p50_ms"], "verdict": m["verdict"],
                "pictures_per_s": round(1e3 / m["latency_p50_ms"], 2),
            })  # fmt: skip
    return {"command": "edgekit export RUN/train/FORM --format onnx; edgekit profile BUNDLE --threads 1", "machine": device(), "rows": rows}


def engines(run: Path, form: str) -> dict[str, Any]:
    """The float bundle, every task of it, on ONNX Runtime, C++ and OpenVINO against torch after the whole loop; and its graphs as plans."""
    result = json.loads((run / "train" / "result.json").read_text())
    source, base = run / "train" / (form or result["deploy"]), run.parent / f"{run.name}_engines"
    rows = []
    for fmt, runtimes in ENGINES.items():
        command("export", str(source), "--format", fmt, "--out", str(base / fmt))
        for runtime in runtimes:
            said, _ = command("verify", str(base / fmt), "--runtime", runtime, "--score-limit", "0")
            own = json.loads((base / fmt / "bundle.json").read_text())["task"]
            told = {own or "run": said, **said["tasks"]}
            rows += [{"task": t, "runtime": v["runtime"], "passed": v["passed"], "output_max_abs": v["output_max_abs"]} for t, v in told.items()]
    command("export", str(base / "onnx"), "--format", "tensorrt-rtx", "--out", str(base / "rtx"), "--option", f"compute_capabilities={CAPABILITY}")
    details = json.loads((base / "rtx" / "bundle.json").read_text())["details"]
    plans = [
        {"graph": n, "plan": plan, "mb": round((base / "rtx" / plan).stat().st_size / 1e6, 3)}
        for n, g in details["graphs"].items() for plan in g["plans"].values()
    ]  # fmt: skip
    told_by = f"edgekit verify BUNDLE --runtime RUNTIME; edgekit export BUNDLE --format tensorrt-rtx, of {source.name}"
    return {"command": told_by, "machine": device(), "rows": rows, "engine": details["engine"], "status": details["status"], "plans": plans}


def page() -> None:
    """Replace what lies between the two marks of each page."""
    for name, beginnings in PAGES.items():
        path = ROOT / "docs" / f"{name}.md"
        head, _, rest = path.read_text().partition(BEGIN)
        _, _, tail = rest.partition(END)
        path.write_text(f"{head}{BEGIN}\n\n{drawn(beginnings)}\n{END}{tail}")


def drawn(beginnings: tuple[str, ...]) -> str:
    """All tables, from the JSON files that are there."""
    lines: list[str] = []
    for path in sorted(p for b in beginnings for p in HERE.glob(f"{b}*.json")):
        found = json.loads(path.read_text())
        lines += [f"### {path.stem.replace('_', ' ')}", "", f"`{found['command']}`, {found['machine']}.", ""]
        for table in found.get("tables", []):
            lines += [f"**{table['title']}.** {table['caption']}", "", *rows(table["columns"], table["rows"]), ""]
        if path.stem.endswith("_deployed"):
            columns = ["bundle", "runtime", "passed", "floor / feature-FID", "largest difference", "SQNR dB", "MB", "p50 ms"]
            lines += [*rows(columns, [_deployed(r) for r in found["rows"]]), ""]
        if path.stem.endswith("_engines"):
            lines += [*rows(["task", "engine", "same as torch", "largest difference"], [_answered(r) for r in found["rows"]]), ""]
            plans = ", ".join(f"`{p['plan']}` ({p['mb']} MB)" for p in found["plans"])
            lines += [f"Plans by {found['engine']}: {found['status']}; {plans}. They are built here and run on no GPU.", ""]
        if path.stem.endswith("_speed"):
            columns = ["form", "calls", "engine", "p50 ms of a picture", "pictures a second", "verdict"]
            cells = [[r["form"], r["calls"], r["runtime"], round(r["latency_p50_ms"], 3), r["pictures_per_s"], r["verdict"]] for r in found["rows"]]
            lines += [*rows(columns, cells), ""]
    return "\n".join(lines)


def _deployed(r: dict[str, Any]) -> list[Any]:
    timed = None if r["latency_p50_ms"] is None else f"{r['latency_p50_ms']:.3f} ({r['verdict']})"
    sqnr = None if r["sqnr_db"] is None else round(r["sqnr_db"], 1)
    score = None if r["score"] is None else round(r["score"], 4)
    return [r["bundle"], r["runtime"], r["passed"], score, f"{r['output_max_abs']:.1e}", sqnr, r["size_mb"], timed]


def _answered(r: dict[str, Any]) -> list[Any]:
    return [r["task"], r["runtime"], r["passed"], None if r["output_max_abs"] is None else f"{r['output_max_abs']:.1e}"]


def rows(columns: list[str], cells: list[list[Any]]) -> list[str]:
    """A table of Markdown."""
    shown = [["-" if c is None else str(c) for c in row] for row in cells]
    return ["| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *shown]]


if __name__ == "__main__":
    sys.exit(main())
