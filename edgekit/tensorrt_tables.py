"""Which ONNX operators and types each TensorRT takes: our own table, checked before any of NVIDIA's code is called."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import no_such


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operators by the types of their data input, after NVIDIA's public operator table of TensorRT 10.15. All of these stand in
# the tables of 10.0 and 10.1 too, the newest before 10.3 (JetPack 6) that are public.
FLOATS = _names(
    "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Conv ConvTranspose Cos Cosh Dropout Einsum Elu "
    "Erf Exp Floor GRU Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample GroupNormalization HardSigmoid HardSwish "
    "Hardmax InstanceNormalization IsInf LRN LSTM LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul MaxPool "
    "MeanVarianceNormalization Mish NonMaxSuppression PRelu RNN Reciprocal Resize RoiAlign Round Selu "
    "Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample"
)
NUMBERS = _names(
    "Abs Add ArgMax ArgMin Clip CumSum DepthToSpace Div Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod Mul Neg NonZero Pad Pow "
    "RandomNormal RandomUniform Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK"
)
ANY = _names(
    "Cast CastLike Concat Constant ConstantOfShape DequantizeLinear Equal Expand EyeLike Flatten Gather GatherElements GatherND Identity If "
    "Loop OneHot QuantizeLinear RandomNormalLike RandomUniformLike Reshape ReverseSequence Scan Shape Size Slice Split Squeeze Tile "
    "Transpose Trilu Unsqueeze Where"
)
LOGIC = _names("And Not Or Xor")
COMMON = FLOATS | NUMBERS | ANY | LOGIC
LATER_FLOATS = _names("Attention DeformConv RMSNormalization RotaryEmbedding STFT")
LATER = LATER_FLOATS | _names("BlackmanWindow HammingWindow HannWindow TensorScatter")
RTX_ONLY = _names("CausalConvWithState LinearAttention Swish")  # which TensorRT-RTX 1.7.1's parser says of itself

# Types of tensors, as ONNX names them. Others (strings, complex, 16-bit and unsigned integers) exist in no version.
FLOAT_TYPES = frozenset({"FLOAT", "FLOAT16", "BFLOAT16"})
NUMBER_TYPES = FLOAT_TYPES | {"INT32", "INT64"}
QUANTISED_TYPES = frozenset({"INT8", "INT4", "FLOAT8E4M3FN", "FLOAT4E2M1"})
TYPES = NUMBER_TYPES | QUANTISED_TYPES | {"BOOL", "UINT8"}
MOVES_BYTES = _names("Cast Identity Equal Shape Size QuantizeLinear DequantizeLinear")  # what may read a UINT8 tensor
QUANTISED_READERS = _names(
    "QuantizeLinear DequantizeLinear Constant Identity Transpose Reshape Squeeze Unsqueeze Flatten Shape Size Cast If Loop Scan"
)
OLDEST_OPSET = 9


@dataclass(frozen=True)
class Version:
    """One TensorRT: what its parser reads. `known_by` says where the list comes from."""

    name: str
    label: str
    operators: frozenset[str]
    known_by: str


VERSIONS = {
    v.name: v
    for v in (
        Version("10.3", "TensorRT 10.3 (JetPack 6)", COMMON, "the public operator table of 10.1, the last before 10.3"),
        Version("10", "TensorRT 10", COMMON | LATER, "the public operator table of 10.15"),
        Version("11", "TensorRT 11", COMMON | LATER, "the public operator table of 10.15; 11 took no operator away that is known"),
        Version("rtx", "TensorRT-RTX 1.7", (COMMON | LATER | RTX_ONLY) - {"DeformConv"}, "its own parser, asked operator by operator"),
    )
}


def version(name: str) -> Version:
    """The TensorRT of that name; of 10.4 and later the table of 10."""
    if name in VERSIONS:
        return VERSIONS[name]
    major, _, minor = name.partition(".")
    if major in VERSIONS and minor.replace(".", "").isdigit():
        return VERSIONS["10.3"] if major == "10" and int(minor.split(".")[0]) <= 3 else VERSIONS[major]
    raise no_such("TensorRT", name, VERSIONS)


def types_of(operator: str) -> frozenset[str]:
    """The types that the data input of an operator may have."""
    if operator in LOGIC:
        return frozenset({"BOOL"})
    if operator in FLOATS | LATER_FLOATS:
        return FLOAT_TYPES
    return NUMBER_TYPES if operator in NUMBERS else TYPES
