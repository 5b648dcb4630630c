"""Multi-FIT on PhysioNet 2012 as a user runs it: trained, deployed in both forms, streams held against records; kept as JSON.

    python benchmarks/multi_fit.py choices                                        by validation: what the recipe chose between
    python benchmarks/multi_fit.py train [--out runs/multi_fit_physionet2012]     half an hour; goes on where it was stopped
    python benchmarks/multi_fit.py bidirectional                                  the same with LSTMs in both directions
    python benchmarks/multi_fit.py deploy [--out ...]                             both forms, every format, the C++ runner
    python benchmarks/multi_fit.py stream [--out ...]                             200 stays, every reading, three engines
    python benchmarks/multi_fit.py page                                           draws the tables of docs/multi_fit.md
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.checkpoint import open_checkpoint
from edgekit.models._multi_fit_options import LABELS

HERE = Path(__file__).parent
ROOT = HERE.parent
RECIPE = "examples/multi_fit_physionet2012.toml"
BIDIRECTIONAL = "examples/multi_fit_bidirectional.toml"
SEEDS = "[0, 1, 2]"  # of the choices
THINS = (0.0, 0.3, 0.5, 0.7)
THIN_LINE = r"^thin = \S+"
RULE = (
    "Chosen: of those whose Multi-FIT has an AUROC within 0.002 of the best one's, the one that loses least."
)
THINNED = ("multi-fit", "gru-mean")  # networks that each thin is tried with
CHOICES = {  # what is different from the recipe -> (pattern in the recipe, text in its place)
    "as in the recipe": (),
    "last = false (attention alone, as published)": (("last = true", "last = false"),),
    "causal = false (whole means, both directions, as published)": (("causal = true", "causal = false"),),
    "causal = false, last = false": (("causal = true", "causal = false"), ("last = true", "last = false")),
    "rates = [0.067] (26 fast and 11 slow signals, as published)": ((r"rates = \[0.2\]", "rates = [0.067]"),),
    "step_minutes = 60": (("step_minutes = 0", "step_minutes = 60"),),
    "epochs = 20": (("epochs = 10", "epochs = 20"),),
}
FORMATS = "onnx,onnx:int8,openvino,openvino:bf16,openvino:int8"
STAYS = 200  # of the held-out ones, the first
BEGIN, END = "<!-- drawn by benchmarks/multi_fit.py page: begin -->", "<!-- end -->"


def main() -> int:
    """Parse the command line; each verb but `page` writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["choices", "train", "bidirectional", "deploy", "stream", "page"])
    parser.add_argument("--out", type=Path, default=Path("runs/multi_fit_physionet2012"))
    given = parser.parse_args()
    if given.verb == "page":
        page()
        return 0
    verbs = {"choices": choices, "train": train, "bidirectional": bidirectional, "deploy": deploy, "stream": stream}
    found = verbs[given.verb](given.out)
    (HERE / f"multi_fit_{given.verb}.json").write_text(json.dumps(found, indent=1) + "\n")
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


def choices(out: Path) -> dict[str, Any]:
    """Validation AUROC of each choice; what it reached on the held-out stays is not looked at."""
    thinned = [[thin, LABELS[name], *_validated(out, name, (THIN_LINE, f"thin = {thin}"))] for thin in THINS for name in THINNED]
    reached = [[label, *_validated(out, "multi-fit", *changes)] for label, changes in CHOICES.items()]
    columns = ["validation AUROC", "sd", "lost with 40 % fewer readings", "sd of lost", "parameters"]
    told = f"Means over seeds {SEEDS}; validation stays alone, for what is lost ten draws of them."
    return {
        "command": "python benchmarks/multi_fit.py choices", "machine": device(),
        "tables": [
            {"title": "What the recipe chose between", "columns": ["Multi-FIT with", *columns], "rows": reached, "caption": told},
            {"title": "Training stays that lose up to a share of their readings", "columns": ["thin", "network", *columns],
             "rows": thinned, "caption": f"{told} {RULE}"},
        ],
    }  # fmt: skip


def _validated(out: Path, name: str, *changes: tuple[str, str]) -> list[float]:
    """(AUROC, its deviation over seeds, what thinning costs, its deviation, parameters) of a network of the changed recipe.

    The runs have one held-out stay and a folder by what the recipe says, so that each is trained once.
    """
    text = (ROOT / RECIPE).read_text()
    for old, new in (*changes, (r"^rivals = .*$", 'rivals = ["gru-mean"]' if name == "gru-mean" else ""), (r"^seeds = .*$", f"seeds = {SEEDS}")):
        text, count = re.subn(old, new, text, flags=re.MULTILINE)
        assert count == 1, old
    text = text.replace("[data]", "[data]\ntest_limit = 1")
    said = {k: v for k, v in tomllib.loads(text).items() if k not in ("rivals", "deploy")}
    folder = out.parent / "multi_fit_choices" / hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(text)
    command("train", str(folder / "recipe.toml"), "--out", str(folder))
    facts = [open_checkpoint(folder / "train" / f"{name}-{s}").facts for s in json.loads(SEEDS)]
    whole = np.array([f["validation_auroc"] for f in facts])
    lost = whole - [f["validation_auroc_thinned"] for f in facts]
    spread = (float(np.std(v, ddof=1)) for v in (whole, lost))
    return [*(round(float(v), 4) for v in (whole.mean(), next(spread), lost.mean(), next(spread))), facts[0]["parameters"]]


def train(out: Path) -> dict[str, Any]:
    """The result of the recipe."""
    return _trained(RECIPE, out)


def bidirectional(out: Path) -> dict[str, Any]:
    """The result of the network as published, beside the causal one."""
    return _trained(BIDIRECTIONAL, out.parent / Path(BIDIRECTIONAL).stem)


def _trained(recipe: str, out: Path) -> dict[str, Any]:
    found, seconds = command("train", recipe, "--out", str(out))
    return {
        "command": f"edgekit train {recipe}", "machine": device(), "last_call_s": seconds, "training": found["rows"],
        "tables": found["tables"], "test_samples": found["test_samples"],
    }  # fmt: skip


def deploy(out: Path) -> dict[str, Any]:
    """Both forms in every format: score, SQNR, size, latency; and the C++ runner's answers."""
    forms = {}
    for form in ("offline", "stream"):
        to = out.parent / f"{out.name}_{form}"
        found, _ = command("deploy", str(out / "train" / form), "--out", str(to), "--formats", FORMATS)
        told = []
        for bundle in found["bundles"]:
            times = {(m["runtime"], m["threads"]): m for m in bundle["measurements"]}
            checks = [{**v, "by": v["runtime"]} for v in bundle["verifications"]]
            if bundle["format"] == "onnx":
                cpp, _ = command("verify", str(to / bundle["folder"]), "--runtime", "cpp")
                checks += [{**cpp, "by": "cpp"}]
            for check in checks:
                timed = times.get((check["runtime"], 1))
                told.append({
                    "bundle": bundle["label"], "runtime": check["by"], "passed": check["passed"], "score": check["score"],
                    "output_max_abs": check["output_max_abs"], "sqnr_db": check["sqnr_db"], "size_mb": round(bundle["bytes_total"] / 1e6, 3),
                    "latency_p50_ms": timed and timed["latency_p50_ms"], "verdict": timed and timed["verdict"],
                })  # fmt: skip
        forms[form] = told
    return {"command": f"edgekit deploy RUN/train/FORM --formats {FORMATS}", "machine": device(), "forms": forms}


def stream(out: Path) -> dict[str, Any]:
    """At every step of STAYS held-out stays: the stream's answer against the whole-record graph on the beginning up to there.

    Both run on the same engine, so that what is compared is the form alone. Records of one length run together.
    """
    from edgekit import registry
    from edgekit.bundle import open_bundle
    from edgekit.models._multi_fit_data import test_stays
    from edgekit.models._multi_fit_options import options_of
    from edgekit.models.multi_fit import prefixes
    from edgekit.parts import Runtime

    folders = {form: out.parent / f"{out.name}_{form}" / "bundles" for form in ("offline", "stream")}
    model = open_bundle(folders["stream"] / "onnx-f32").manifest.model
    assert model is not None
    every = test_stays(options_of(model.recipe).data).first(STAYS)
    engines = []
    for name, label in (("onnxruntime", "onnx-f32"), ("openvino", "openvino-f32"), ("cpp", "onnx-f32")):
        bundles = {form: open_bundle(folders[form] / label) for form in folders}
        runtime = registry.find(Runtime, name)
        worst, readings, steps = 0.0, 0, 0
        with runtime.open(bundles["offline"]) as whole, runtime.open(bundles["stream"]) as streamed:
            for i in range(len(every)):
                stay = every.take([i])
                if not stay.steps[0]:
                    continue  # nothing was ever read: nothing is pushed
                inputs = stay.padded()
                answers = streamed.run_pieces(inputs, [1])["log_probability"][0]  # a push a step
                records = prefixes(stay, int(stay.steps[0])).padded()
                expected = whole.run(records)["log_probability"]
                worst = max(worst, float(np.abs(answers - expected).max()))
                steps, readings = steps + len(answers), readings + int(stay.observed.sum())
        engines.append({
            "runtime": runtime.version(), "stays": len(every), "pushes": steps, "readings": readings, "largest_difference": worst,
        })  # fmt: skip
    return {"command": "python benchmarks/multi_fit.py stream", "machine": device(), "engines": engines}


def page() -> None:
    """Replace what lies between the two marks of the page."""
    path = ROOT / "docs" / "multi_fit.md"
    text = path.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n\n{drawn()}\n{END}{tail}")


def drawn() -> str:
    """All tables, from the JSON files that are there."""
    lines: list[str] = []
    for name, shown in (("choices", 2), ("train", 4), ("bidirectional", 1)):
        found = json.loads((HERE / f"multi_fit_{name}.json").read_text())
        lines += [f"`{found['command']}`, {found['machine']}.", ""]
        for table in found["tables"][:shown]:
            lines += [f"**{table['title']}.** {table['caption']}", "", *rows(table["columns"], table["rows"]), ""]
    streamed = json.loads((HERE / "multi_fit_stream.json").read_text())
    columns = ["engine", "stays", "pushes", "readings", "largest difference of a log-probability"]
    cells = [[e["runtime"], e["stays"], e["pushes"], e["readings"], f"{e['largest_difference']:.1e}"] for e in streamed["engines"]]
    lines += [f"**Stream against record at every push.** `{streamed['command']}`", "", *rows(columns, cells), ""]
    deployed = json.loads((HERE / "multi_fit_deploy.json").read_text())
    lines += [f"**Deployed.** `{deployed['command']}`, {deployed['machine']}; one pinned thread: a record of the golden stays, or a push.", ""]
    columns = ["form", "bundle", "runtime", "passed", "AUROC", "largest difference", "SQNR dB", "MB", "p50 ms"]
    cells = []
    for form, found in deployed["forms"].items():
        for r in found:
            timed = "-" if r["latency_p50_ms"] is None else f"{r['latency_p50_ms']:.3f} ({r['verdict']})"
            sqnr = "-" if r["sqnr_db"] is None else f"{r['sqnr_db']:.1f}"
            score = "-" if r["score"] is None else f"{r['score']:.4f}"
            cells.append([form, r["bundle"], r["runtime"], r["passed"], score, f"{r['output_max_abs']:.1e}", sqnr, r["size_mb"], timed])
    return "\n".join([*lines, *rows(columns, cells), ""])


def rows(columns: list[str], cells: list[list[Any]]) -> list[str]:
    """A table of Markdown."""
    shown = [["-" if c is None else str(c) for c in row] for row in cells]
    return ["| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *shown]]


if __name__ == "__main__":
    sys.exit(main())
