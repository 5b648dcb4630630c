"""Fail when a test was skipped for a reason that is not in the list below, or when nothing ran."""

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

# Begin of the reason -> why CI cannot have what the test needs.
ALLOWED = {
    "no gpu": "the machine that runs CI has none",
    "this processor does not multiply in bf16": "which processor CI gets is not chosen; those with AVX2 alone do not",
}
if not os.environ.get("EDGEKIT_DATA"):
    ALLOWED["no data:"] = "no data folder was given to this run; .ci/run gives one where it lies beside the checkout"


def reason_of(skip: ET.Element) -> str:
    """The reason as the test gave it; of a module skipped as a whole, pytest writes it into the text."""
    message = skip.get("message") or ""
    return message if message != "collection skipped" else (skip.text or "").partition("Skipped: ")[2].rstrip("')\"")


def main(report: Path) -> int:
    """Read a JUnit report; 0 when all is well."""
    cases = list(ET.parse(report).getroot().iter("testcase"))
    skips = [(c, s) for c in cases if (s := c.find("skipped")) is not None and s.get("type") != "pytest.xfail"]
    unexpected = [
        f"{case.get('classname')}::{case.get('name')}: {reason_of(skip)}"
        for case, skip in skips
        if not reason_of(skip).lower().startswith(tuple(ALLOWED))
    ]
    for line in unexpected:
        print(f"skipped, but should run here: {line}", file=sys.stderr)
    if not cases:
        print(f"{report} holds no test", file=sys.stderr)
    print(f"{len(cases) - len(skips)} tests ran, {len(skips)} were skipped, {len(unexpected)} of them unexpectedly")
    return 1 if unexpected or not cases else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
