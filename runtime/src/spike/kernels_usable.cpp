// Which of the tables this processor can run.
#include "kernels.hpp"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace edgekit::spike {

#if defined(__x86_64__)
namespace {

// Leaf 7, subleaf 1, EAX bit 4 (Intel's Software Developer's Manual, CPUID): gcc 12 has no name for it.
bool has_avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

}  // namespace
#endif

std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> found;
  const auto add = [&](const Kernels* table, bool runs) {
    if (table && runs) found.push_back(table);
  };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  add(avx512_kernels(), avx512 && __builtin_cpu_supports("avx512vnni"));
  add(avx_vnni_kernels(), __builtin_cpu_supports("avx2") && has_avx_vnni());
  add(avx2_kernels(), __builtin_cpu_supports("avx2"));
#elif defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
  add(neon_dot_kernels(), (getauxval(AT_HWCAP) & kDotProduct) != 0);
  add(neon_kernels(), true);
#elif defined(__aarch64__)
  add(neon_kernels(), true);
#endif
  add(portable_kernels(), true);
  return found;
}

}  // namespace edgekit::spike
