"""Take a trained, time-stepped model to a device: export the step and its loop, prove it, say what it costs."""

from pathlib import Path as _Path
from typing import Any as _Any

__version__ = "0.1.0"

# Installed, exporters/, targets/ and calibration/ lie inside this package; in a checkout, beside it.
if not (_Path(__file__).parent / "exporters").is_dir():
    __path__.append(str(_Path(__file__).parent.parent))


def __getattr__(name: str) -> _Any:
    """edgekit.export and edgekit.open, loaded when they are first asked for, so that importing edgekit stays light."""
    if name in ("export", "open"):
        from edgekit import face

        return getattr(face, name)
    raise AttributeError(f"module 'edgekit' has no attribute '{name}'")
