// What the processor can do with bytes, where that decides over an engine's answers or a kernel.
#pragma once

namespace edgekit {

// AVX-VNNI, products of bytes in 32-byte registers.
bool has_avx_vnni();

// x86 without VNNI: vpmaddubsw holds the sum of two products of bytes to int16, so that 2 * 255 * 127 becomes 32,767, and an INT8 network gives
// other answers. edgekit/byte_products.py says what is done then.
bool byte_products_saturate();

}  // namespace edgekit
