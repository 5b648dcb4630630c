"""How operators that multiply no matrices are counted, by name: those of ONNX and of onnxruntime's own domains.

One convention for all: an operation is one arithmetic result of one element, whatever function makes it.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The same bytes under another shape, or numbers about a shape: nothing is computed and nothing moves.
VIEWS = _names("""
BitCast Constant Dropout Flatten Identity Optional OptionalGetElement OptionalHasElement Reshape SequenceAt SequenceConstruct
SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape Size Squeeze Unsqueeze
""")

# Bytes move, nothing is computed. A change of type is a move.
COPIES = _names("""
Cast CastLike CenterCropPad Col2Im Compress Concat ConcatFromSequence ConstantOfShape DepthToSpace Expand EyeLike Gather GatherElements
GatherND MaxUnpool OneHot Pad QLinearConcat Range ReorderInput ReorderOutput ReverseSequence Scatter ScatterElements ScatterND Slice
SpaceToDepth Split SplitToSequence TensorScatter Tile Transpose Trilu Unique
""")

# As many elements are read of the first input as are written: a table's other rows stay where they are.
PICKS = _names("Gather GatherElements GatherND Slice Compress")

# One operation an element of the first output.
ELEMENTWISE = _names("""
Abs Acos Acosh Add And Asin Asinh Atan Atanh Bernoulli BiasAdd BiasGelu BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow
Ceil Celu Clip Cos Cosh DequantizeLinear Div DynamicQuantizeLinear Elu Equal Erf Exp FastGelu Floor Gelu Greater GreaterOrEqual
HammingWindow HannWindow HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Mish Mod Mul Neg Not Or PRelu Pow QLinearAdd
QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearWhere QuantizeLinear QuickGelu RandomNormal RandomNormalLike RandomUniform
RandomUniformLike Reciprocal Relu RotaryEmbedding Round ScaledTanh Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub SwiGLU Swish Tan
Tanh ThresholdedRelu Where Xor
""")

VARIADIC = _names("Max Mean Min Sum")  # (inputs - 1) operations an element of the output

# One operation an element of the first input.
REDUCTIONS = _names("""
ArgMax ArgMin CumProd CumSum Det GlobalAveragePool GlobalLpPool GlobalMaxPool Hardmax NonZero QLinearGlobalAveragePool QLinearReduceMean
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumInteger ReduceSumSquare TopK
""")

# One operation an element of each window, also where the window lies on padding.
POOLS = _names("AveragePool LpPool MaxPool NhwcMaxPool QLinearAveragePool")

# Operations an element of the first input. Softmax: largest, difference, exponential, sum, quotient. A norm: mean, difference,
# square, sum, product (the five that fvcore counts for a layer norm with weights). A batch norm: product and sum.
PER_ELEMENT = {
    "BatchNormalization": 2, "BiasSoftmax": 6, "GroupNormalization": 5, "InstanceNormalization": 5, "LayerNormalization": 5,
    "LogSoftmax": 5, "LpNormalization": 3, "MeanVarianceNormalization": 5, "QLinearSoftmax": 5, "RMSNormalization": 4,
    "SimplifiedLayerNormalization": 4, "SkipLayerNormalization": 6, "SkipSimplifiedLayerNormalization": 5, "Softmax": 5,
}  # fmt: skip
