// One population with what it takes to compute it: packed weights, buffers, and how many events are too many.
#pragma once

#include <cstring>
#include <memory>
#include <new>

#include "machine.hpp"

namespace edgekit::spike {

// Memory that begins at a cache line, zeroed, with 64 bytes more than asked for: kernels read and write whole registers.
template <typename T>
class Aligned {
 public:
  void resize(std::size_t count) {
    const std::size_t bytes = count * sizeof(T) + 64;
    data_.reset(static_cast<T*>(::operator new[](bytes, std::align_val_t{64})));
    std::memset(static_cast<void*>(data_.get()), 0, bytes);
    count_ = count;
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete[](static_cast<void*>(p), std::align_val_t{64}); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t count_ = 0;
};

// The spikes of a population: place after place, each `words` words of 64 channels.
struct Map {
  Size size;
  int words = 0;
  Aligned<std::uint64_t> bits;
  const std::uint64_t* at(std::size_t place) const { return bits.data() + place * static_cast<std::size_t>(words); }
};

class Layer {
 public:
  // maps: of the populations before it. Both outlive the layer.
  Layer(const Network& network, std::size_t number, const std::vector<std::unique_ptr<Layer>>& before, const Settings& settings, Team* team);

  // before, after: of its membrane, where it has one.
  void run(const Given& given, const std::int32_t* before, std::int32_t* after);
  const Map& map() const { return map_; }
  // Whether it can do with a packet in place of an image, or sees neither.
  bool takes_packets() const;
  // The sum of an output of the read-out, with its bias.
  std::int64_t sum_of(std::size_t channel, std::size_t place) const;
  const LayerReport& report() const { return report_; }

 private:
  void pack();
  void pack_membrane();
  void pack_events(const Synapse& s, const Size& from);
  void pack_dense(const Synapse& s, const Size& from);
  void pack_channel(const Synapse& s, const Size& from, int output, std::int8_t* block) const;
  void lay_out_bytes(const Synapse& s, const Size& from);
  std::size_t byte_of(const Synapse& s, int channel, int ky, int kx) const;
  void find_break_even();
  template <typename Work>
  void share(const Work& work);
  void set_break_even();
  double timed_us(Way way, std::uint32_t one_in, std::uint64_t* events);
  double expected_us(Way way) const;
  Way choose();
  std::uint64_t enough() const;
  void note(Way way, double us);
  std::uint64_t count_events() const;
  void compute(Way way, const Given& given);
  void fire(const std::int32_t* before, std::int32_t* after);
  void compute_plain(const std::uint8_t* image);
  void compute_any();
  void values_of(const Synapse& s, const std::uint8_t* image);
  BitWindows windows_at(int y) const;
  void gather_events();
  void gather_packet(const Packet& packet);
  void gather_bytes(int y0, int y1);

  const Network& network_;
  const Population& population_;
  const Settings& settings_;
  const Kernels& kernels_;
  Team* team_;
  std::vector<const Map*> sources_;  // one a synapse; null: the image
  Map map_;
  LayerReport report_;

  EventLayer by_events_;
  DenseLayer by_bytes_;
  Aligned<std::int8_t> event_weights_, dense_weights_, plain_weights_;
  Aligned<std::int32_t> event_theta_, dense_start_, sums_, values_;
  Aligned<std::int16_t> event_theta16_;
  Aligned<std::uint32_t> first_, ids_;
  Aligned<std::uint8_t> bytes_;  // [height + 2 pad_y][width + 2 pad_x][depth], and of pixels some of them once more
  PixelLayer pixel_;             // how they lie
  std::vector<std::int32_t> offsets_;
  std::int64_t pixel_shift_ = 0;          // k = byte + this, of an image
  std::vector<std::int64_t> pixel_bias_;  // pixel_shift_ times the sum of a channel's weights
  double dense_us_ = 0, event_us_ = 0;    // on one thread: as a product, and an event more
  double none_events_ = 0;                // what the way by events takes without any, in events
  std::vector<double> costs_[2];          // what first images took: as products, by events
  std::uint32_t images_ = 0;
  bool trying_ = false, shared_ = false;  // whether this run is one of those, and whether a team does it
  int sum_lanes_ = 0;                     // of sums_, the lanes of all blocks
  bool shifted_ = false;                  // whether sums_ are those of bytes less pixel_shift_
  Aligned<std::int32_t> fire_bias_, fire_pixel_bias_, fire_theta_;  // of a membrane, its channels padded
  struct Where {
    std::uint32_t place, id;
  };
  std::vector<Where> where_;         // of each address of a packet
  std::vector<std::uint8_t> seen_;   // of each address, how often it came in this packet
};

}  // namespace edgekit::spike
