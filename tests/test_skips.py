"""CI fails when a test was skipped that should have run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "skips.py"

TESTS = {
    "runs": "def test_a(): pass",
    "gpu": "import pytest\ndef test_a(): pass\n@pytest.mark.skip(reason='no gpu: nothing to run on')\ndef test_b(): pass",
    "tool": "import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('oracles are not installed: make oracles')",
    "module": "import pytest\npytest.skip('chromium is not installed', allow_module_level=True)",
    "expected": "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_a(): assert 0",
    "empty": "",
}


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        ("runs", 0, "1 tests ran, 0 were skipped, 0 of them unexpectedly"),
        ("gpu", 0, "1 tests ran, 1 were skipped, 0 of them unexpectedly"),
        ("tool", 1, "test_b: oracles are not installed"),
        ("module", 1, "chromium is not installed"),
        ("expected", 0, "1 tests ran, 0 were skipped"),
        ("empty", 1, "holds no test"),
    ],
)
def test_a_skip_must_be_expected(tmp_path, kind, code, says):
    (tmp_path / "test_it.py").write_text(TESTS[kind])
    report = tmp_path / "report.xml"
    pytest_call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    subprocess.run([*pytest_call, f"--junitxml={report}", str(tmp_path)], cwd=tmp_path, capture_output=True, check=False)
    done = subprocess.run([sys.executable, str(SCRIPT), str(report)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
