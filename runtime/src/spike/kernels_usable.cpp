// Which of the tables this processor can run.
#include "../processor.hpp"
#include "kernels.hpp"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgekit::spike {

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
