"""Whether this processor adds up products of bytes as they are, and how ONNX Runtime and OpenVINO are told where it does not.

Without VNNI, x86 multiplies bytes with vpmaddubsw, which holds the sum of two products to int16: 2 * 255 * 127 = 64,770 becomes 32,767, and
the answers of an INT8 network are others than on the next processor. Weights of 7 bits and spikes of 0 and 1 never come so far.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import numpy as np

# ONNX Runtime: weights become unsigned, and bytes are multiplied in 16 bits. onnxruntime_session_options_config_keys.h
ORT_EXACT = "session.x64quantprecision"
# It does not open a graph in which two layers share weights or a zero point then (1.32: "Attempt to replace the existing tensor"). Those get
# rounded numbers in float, as the file says them.
ORT_SHARED, ORT_FLOAT = "existing tensor", "session.disable_quant_qdq"
# OpenVINO has no slower way in integers: rounded numbers in float, too.
OPENVINO_FLOAT = {"LP_TRANSFORMS_MODE": False}
MOST_WEIGHT, MIDDLE = 64, {"i8": 0, "u8": 128}


@functools.cache
def saturate(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """True on x86 without AVX512-VNNI and AVX-VNNI, and where x86 does not say what it has."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return True
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    return not {"avx512_vnni", "avx_vnni"} & set(flags)


def ort_session(source: str | bytes, options: Any, exact: bool = False) -> Any:
    """ONNX Runtime's session on the CPU of a model or its path; `exact`: of integers that cannot saturate. Raises what the engine raises.

    `options` are changed where this processor saturates.
    """
    import onnxruntime as ort

    providers = ["CPUExecutionProvider"]
    if exact or not saturate():
        return ort.InferenceSession(source, options, providers=providers)
    options.add_session_config_entry(ORT_EXACT, "1")
    try:
        return ort.InferenceSession(source, options, providers=providers)
    except Exception as error:
        if ORT_SHARED not in str(error):
            raise
    options.add_session_config_entry(ORT_EXACT, "0")
    options.add_session_config_entry(ORT_FLOAT, "1")
    return ort.InferenceSession(source, options, providers=providers)


def openvino_settings(model: Any, exact: bool) -> dict[str, Any]:
    """Settings of OpenVINO's CPU device for this openvino.Model, beside the usual ones."""
    return dict(OPENVINO_FLOAT) if not exact and saturate() and has_large_weights(model) else {}


def has_large_weights(model: Any) -> bool:
    """Whether an openvino.Model holds bytes beyond 7 bits, 2 * 255 * 64 being less than 32,767, or weights that it will round itself."""
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind == "FakeQuantize" and node.input_value(0).get_node().get_type_name() == "Constant":
            return True
        if kind == "Constant" and node.get_element_type().get_type_name() in MIDDLE:
            values = node.data
            middle = MIDDLE[node.get_element_type().get_type_name()]
            if values.size > 1 and np.abs(values.astype(np.int16) - middle).max() > MOST_WEIGHT:  # one number is a zero point
                return True
    return False
