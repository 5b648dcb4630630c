#include "processor.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace edgekit {

#if defined(__x86_64__)

// Leaf 7, subleaf 1, EAX bit 4 (Intel's Software Developer's Manual, CPUID): gcc 12 has no name for it.
bool has_avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

bool byte_products_saturate() {
  __builtin_cpu_init();
  return !__builtin_cpu_supports("avx512vnni") && !has_avx_vnni();
}

#else

bool has_avx_vnni() { return false; }
bool byte_products_saturate() { return false; }

#endif

}  // namespace edgekit
