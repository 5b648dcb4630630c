"""A run folder in a few lines a bundle: score, SQNR, size, latency; for `benchmarks/`.

    edgekit deploy MODEL --out RUN ...; python benchmarks/deployed.py RUN "the command" > benchmarks/NAME.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgekit import run_folder


def main(run: Path, command: str) -> int:
    """Prints one JSON document; ratios are to the float bundle on the same engine, one pinned thread."""
    found = run_folder.read_run(run).to_json()
    rows = []
    for bundle in found["bundles"]:
        details = json.loads((run / bundle["folder"] / "bundle.json").read_text())["details"]
        for check in bundle["verifications"]:
            times = {m["threads"]: m for m in bundle["measurements"] if m["runtime"] == check["runtime"]}
            rows.append({
                "bundle": bundle["label"], "runtime": check["runtime"], "passed": check["passed"], "score": check["score"],
                "score_reference": check["score_reference"], "samples": check["score_samples"], "sqnr_db": check.get("sqnr_db"),
                "size_mb": round(bundle["bytes_total"] / 1e6, 3),
                "latency_p50_ms": times[1]["latency_p50_ms"] if 1 in times else None,
                "latency_min_ms": times[1]["latency_min_ms"] if 1 in times else None,
                "verdict": times[1]["verdict"] if 1 in times else None,
                "quantisation": {k: details["quantisation"][k] for k in ("form", "notes", "given_back", "candidates") if k in details["quantisation"]}
                if "quantisation" in details else None,
            })  # fmt: skip
    base = {r["runtime"]: r["latency_p50_ms"] for r in rows if r["bundle"].endswith(":f32") and "-" not in r["bundle"]}
    for r in rows:
        if r["latency_p50_ms"] and base.get(r["runtime"]):
            r["times_as_fast_as_float"] = round(base[r["runtime"]] / r["latency_p50_ms"], 2)
    json.dump({"command": command, "machine": found["machine"], "rows": [{k: v for k, v in r.items() if v is not None} for r in rows]},
              sys.stdout, indent=1)  # fmt: skip
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
