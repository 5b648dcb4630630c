// AVX2 with VNNI (Alder Lake, Sierra Forest, Zen 5 and later): products of bytes four at a time in 32-byte registers.
#include "kernels.hpp"

#if defined(__AVXVNNI__) && defined(__AVX2__)
#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "kernels_x86.hpp"

namespace edgekit::spike {
namespace {

constexpr int kDotLanes = 8, kWideLanes = 64;
template <int kVectors>
constexpr int kPlaces = kVectors == 2 ? 4 : kVectors == 4 ? 2 : 1;  // 8, 8 and 6 registers of sums of the 16

constexpr int kGroupsAtOnce = 0, kMostAtOnce = 0;  // small bytes have no loop of their own
using Bytes4 = __m256i;
inline Bytes4 broadcast(const std::uint8_t* from) { return four_bytes(from); }

using Weights = __m256i;
inline Weights weights_at(const std::int8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline void dot(Sums& sum, Bytes4 four, Weights weights) { asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(four), "x"(weights)); }

}  // namespace
}  // namespace edgekit::spike

#include "kernels_common.hpp"
#include "kernels_impl.hpp"

namespace edgekit::spike {

const Kernels* avx_vnni_kernels() {
  static const Kernels table{"avx-vnni", false, 32, event_layer, dense_layer, fire_layer, extract_row, sum_bits, pixel_layer, count_bits};
  return &table;
}

}  // namespace edgekit::spike
#else
namespace edgekit::spike {
const Kernels* avx_vnni_kernels() { return nullptr; }
}  // namespace edgekit::spike
#endif
