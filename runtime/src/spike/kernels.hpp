// The inner loops of the spike engine, one table of functions for each kind of processor; each table gives the same integers.
//
// A layer computes, for each output channel o and place,  sum over taps and input channels of  w[o] * k  > theta[o],  a strict comparison of
// integers. Where k is 0 or 1 and mostly 0, the sum is the sum of the weights of the ones that are there ("events"); elsewhere it is a
// product of bytes. Shapes are those of a convolution; a dense layer is one whose kernel covers its whole input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgekit::spike {

// Sums of so many weights fit int16: 256 * 127 = 32,512 < 32,768. After so many events a sum moves on to int32.
inline constexpr std::uint32_t kEventsAtOnce = 256;

struct Geometry {
  int channels = 0, height = 0, width = 0;  // of the input, after its pooling
  int outputs = 0, out_height = 0, out_width = 0;
  int kernel_y = 1, kernel_x = 1, stride_y = 1, stride_x = 1, pad_y = 0, pad_x = 0;
};

// Events of a map: those of place (y, x) are  id[first[y * width + x]]  up to  id[first[y * width + x + 1]],  each  x * channels + c.
// Places lie one after the other in a row, so that the events under one row of a kernel are one range.
struct Events {
  const std::uint32_t* first = nullptr;
  const std::uint32_t* id = nullptr;
};

// weights: a byte each [block][kernel_y][kernel_x][channels][lanes], in the order of event_byte(). lanes: 32, 64 or 128.
struct EventLayer {
  Geometry at;
  int lanes = 0, blocks = 0;
  const std::int8_t* weights = nullptr;
  const std::int32_t* theta = nullptr;    // [blocks * lanes]; the largest int32 where there is no channel
  const std::int16_t* theta16 = nullptr;  // the same held in int16, which sums of kEventsAtOnce weights compare alike
};

// A product takes four bytes at a time: group g of an output place at (y, x) begins at byte  y * down + x * step + offsets[g]. There are 64
// bytes more to read beyond the last. weights: int8 [block][groups][lanes][4]. lanes: 16, 32, 48, or 64 where there is one place.
struct DenseLayer {
  int out_height = 0, out_width = 0, lanes = 0, blocks = 0, groups = 0;
  std::size_t down = 0, step = 0;
  int most = 255;  // that a byte is
  // Of groups that lie tap by tap of the kernel, `tap_groups` each, those outside of the map may be left out: they meet zeros. Tap (ky, kx) of
  // output place (y, x) is place  (y * stride_y - pad_y + ky, x * stride_x - pad_x + kx)  of the map. 0: none is left out.
  int tap_groups = 0;
  Geometry at;  // of a layer that leaves some out
  const std::int32_t* offsets = nullptr;
  const std::int8_t* weights = nullptr;
  const std::int32_t* start = nullptr;  // [blocks * lanes]: a spike where  start + sum  is not negative; -1 where there is no channel
};

// Pixels [channels][height][width] side by side as a DenseLayer takes them: `row` bytes from a row to the next, `depth` from a place to the
// next, each byte turned by `flip`. Where `tall` rows of a kernel are there, its last column's last channel leaves one byte a row: byte
// 3 x + i of row y of `columns` is that of row y + i and column x of what is at `bytes`.
struct PixelLayer {
  int channels = 0, height = 0, width = 0, depth = 0, tall = 0, tall_rows = 0;
  std::size_t row = 0;
  std::uint8_t flip = 0;
  std::uint8_t *pixels = nullptr;         // of the first pixel
  const std::uint8_t* bytes = nullptr;    // of the first column, padded ones included
  std::uint8_t* columns = nullptr;
};

// Groups of an output row that do not meet zeros alone.
struct Groups {
  int begin, end;
};
inline Groups groups_at(const DenseLayer& layer, int y) {
  if (layer.tap_groups == 0) return {0, layer.groups};
  const Geometry& at = layer.at;
  const int top = y * at.stride_y - at.pad_y, below = at.height - top, row_groups = at.kernel_x * layer.tap_groups;
  return {(top < 0 ? -top : 0) * row_groups, (below < at.kernel_y ? below : at.kernel_y) * row_groups};
}

// What of a layer is computed: blocks of output channels and rows of output places, the ends not among them.
struct Part {
  int block0 = 0, block1 = 0, y0 = 0, y1 = 0;
};

// Where it goes: spikes [out_height * out_width] places of `stride` bytes, a bit a channel; or, where `sums` is there, the sums
// themselves, int32 [out_height * out_width][blocks * lanes].
struct Out {
  std::uint8_t* spikes = nullptr;
  std::size_t stride = 0;
  std::int32_t* sums = nullptr;
};

// One step of the membranes of a layer, place after place of `channels` (a multiple of 16) numbers:
//   u = sat(trunc(leak u / 4096) + sum + bias);  a spike where u > theta;  then u - theta (soft) or 0 (hard).
// sums: [places][lanes]. |u| of `before` is below 2^30, as that of `after` is; spikes: a bit a channel, `stride` bytes a place.
struct FireLayer {
  std::size_t places = 0, channels = 0, lanes = 0, stride = 0;
  std::int32_t leak = 0;
  bool hard = false;
  const std::int32_t *sums = nullptr, *bias = nullptr, *theta = nullptr, *before = nullptr;
  std::int32_t* after = nullptr;
  std::uint8_t* spikes = nullptr;
};

inline constexpr std::int32_t kLeakOne = 4096;         // a leak of 1; edgekit/stepped_net.py
inline constexpr std::int32_t kMembrane = 1 << 28;     // what a membrane holds, and what a current with its bias and a threshold reach

// `count` windows of a map one beside the other, each of rows x columns places of `words` words; `row` words from a row to the next.
struct BitWindows {
  const std::uint64_t* bits = nullptr;
  int words = 0, rows = 1, columns = 1, count = 1;
  std::size_t row = 0;
};

struct Kernels {
  const char* name;
  bool signed_bytes;  // the bytes of a DenseLayer are int8 (pixels less 128), else uint8
  int pair_bytes;     // rows of an EventLayer of so many lanes or more hold pairs; 0: none does
  void (*events)(const EventLayer& layer, const Events& events, const Part& part, const Out& out);
  void (*dense)(const DenseLayer& layer, const std::uint8_t* bytes, const Part& part, const Out& out);
  void (*fire)(const FireLayer& layer);
  // Ids of the ones among the bits of `channels` channels, i * channels + number of the bit of those in window i, to `out`, which has room
  // for 16 more than there are; those of window i begin with number first[i], counted from `offset` on. How many. The bits behind the last
  // channel are 0.
  std::uint32_t (*extract)(const BitWindows& windows, int channels, std::uint32_t offset, std::uint32_t* first, std::uint32_t* out);
  // out[i * depth + c] = how many places of window i have bit c, for `depth` channels (a multiple of 4, at most 64 * words); nothing behind
  // them is written.
  void (*sum_bits)(const BitWindows& windows, int depth, std::uint8_t* out);
  void (*pixels)(const PixelLayer& layer, const std::uint8_t* image);
  std::uint64_t (*count_bits)(const std::uint64_t* bits, std::size_t words);
};

// Where in a row of an EventLayer the weight of a lane lies, and what its byte is. In pairs, the first half of each `pair_bytes` lanes are low
// bytes, offset by 128, and the second half are the high bytes beside them.
struct EventByte {
  int at;
  std::int8_t value;
};
inline EventByte event_byte(const Kernels& kernels, int lanes, int lane, std::int8_t weight) {
  const int size = kernels.pair_bytes;
  if (size == 0 || lanes < size) return {lane, weight};
  const int in = lane % size, start = lane - in;
  if (in < size / 2) return {start + 2 * in, static_cast<std::int8_t>(weight ^ -128)};
  return {start + 2 * (in - size / 2) + 1, weight};
}

const Kernels* portable_kernels();
const Kernels* avx2_kernels();  // these are null where the build is for another processor
const Kernels* avx_vnni_kernels();
const Kernels* avx512_kernels();
const Kernels* neon_kernels();
const Kernels* neon_dot_kernels();

// Those that this processor can run, the best first; portable is the last and always there.
std::vector<const Kernels*> usable_kernels();

}  // namespace edgekit::spike
