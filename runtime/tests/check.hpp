// CHECK: end the test with file, line and expression when it does not hold.
#pragma once

#include <cstdio>
#include <cstdlib>

#define CHECK(...)                                                                      \
  do {                                                                                  \
    if (!(__VA_ARGS__)) {                                                               \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #__VA_ARGS__); \
      std::exit(1);                                                                     \
    }                                                                                   \
  } while (false)

// A status that must be good; its text is printed when it is not.
#define MUST(...)                                                                       \
  do {                                                                                  \
    const auto must_status = (__VA_ARGS__);                                             \
    if (!must_status) {                                                                 \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, must_status.text().c_str()); \
      std::exit(1);                                                                     \
    }                                                                                   \
  } while (false)
