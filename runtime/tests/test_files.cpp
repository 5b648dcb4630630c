// Generators and files: known answers, round trips, and damaged bytes that must never do harm.
#include <cmath>
#include <cstring>
#include <random>

#include "check.hpp"
#include "files.hpp"
#include "noise.hpp"
#include "npy.hpp"
#include "printable.hpp"
#include "safetensors.hpp"
#include "wav.hpp"

using namespace edgekit;

namespace {

const std::string kFolder = [] {
  char name[] = "/tmp/edgekit-test-XXXXXX";
  const char* made = ::mkdtemp(name);
  CHECK(made);
  return std::string(made);
}();

bool says(const Status& status, const char* what) { return !status && status.text().find(what) != std::string::npos; }

void philox_gives_the_published_answers() {  // Random123, kat_vectors
  using Four = std::array<std::uint32_t, 4>;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) == Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  std::vector<float> drawn(100001);
  draw_normal(drawn.data(), drawn.size(), {7, 1, 2, 3});
  double sum = 0, squares = 0;
  for (float x : drawn) {
    sum += x;
    squares += static_cast<double>(x) * x;
  }
  CHECK(std::fabs(sum / 1e5) < 0.02 && std::fabs(squares / 1e5 - 1) < 0.02);
  float few[5];
  draw_normal(few, 5, {7, 1, 2, 3});
  CHECK(std::memcmp(few, drawn.data(), sizeof few) == 0);
}

void sha256_gives_the_published_answers() {  // FIPS 180-4
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

std::string safetensors() {
  Tensors tensors;
  tensors["x"] = Tensor(DType::kFloat32, {2, 3});
  tensors["i"] = Tensor(DType::kInt64, {});
  tensors["b"] = Tensor(DType::kUint8, {5});
  tensors["none"] = Tensor(DType::kFloat64, {0, 4});
  for (int i = 0; i < 6; ++i) tensors["x"].as<float>()[i] = static_cast<float>(i) / 3;
  *tensors["i"].as<std::int64_t>() = -7;
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) views[name] = tensor.view();
  MUST(write_safetensors(kFolder + "/t", views));
  auto bytes = read_file(kFolder + "/t");
  MUST(bytes.status());
  auto again = parse_safetensors(*bytes, "t");
  MUST(again.status());
  CHECK(again->size() == 4 && (*again)["x"].as<float>()[5] == tensors["x"].as<float>()[5]);
  CHECK(*(*again)["i"].as<std::int64_t>() == -7 && (*again)["i"].shape().empty() && (*again)["none"].shape() == Shape({0, 4}));
  return *bytes;
}

void facts_lie_beside_the_tensors() {
  Tensor x(DType::kFloat32, {2});
  MUST(write_safetensors(kFolder + "/v", {{"x", x.view()}}, {{"of", "a \"name\""}}));
  Facts facts;
  auto again = read_safetensors(kFolder + "/v", &facts);
  MUST(again.status());
  CHECK(again->size() == 1 && facts.size() == 1 && facts["of"] == "a \"name\"");
}

std::string headed(const std::string& header, const std::string& data) {
  std::string made;
  for (int i = 0; i < 8; ++i) made.push_back(static_cast<char>(header.size() >> (8 * i)));
  return made + header + data;
}

void safetensors_refuses_every_lie() {
  const std::string four(4, '\0'), eight(8, '\0');
  const auto refused = [](const std::string& header, const std::string& data, const char* what) { return says(parse_safetensors(headed(header, data), "f").status(), what); };
  CHECK(says(parse_safetensors("1234567", "f").status(), "not a safetensors file"));
  CHECK(says(parse_safetensors(std::string(7, '\xff') + '\x7f' + "{}", "f").status(), "longer than the file"));
  CHECK(refused("{", "", "not JSON"));
  CHECK(refused("[]", "", "no JSON object"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four, "name twice"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", four, "larger than its file"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", eight, "offsets say otherwise"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", eight, "overlap or leave a hole"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four, "overlap or leave a hole"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", eight, "data ends at 4 of 8"));
  CHECK(refused(R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", four, "dtype"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", four, "whole number"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}})", four, "larger than its file"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", four, "object of"));
  CHECK(refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", four, "offsets say otherwise"));
  CHECK(refused(R"({"__metadata__":{"of":7}})", "", "the metadata 'of' must be a name"));
  CHECK(refused(R"({"__metadata__":["of"]})", "", "the metadata must be an object"));
}

// Whatever the bytes, there is an answer or a sentence.
template <typename Read>
void survives_damage(const std::string& bytes, Read read) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = bytes;
    if (i & 1) damaged.resize(random() % (bytes.size() + 1));
    for (unsigned k = random() % 4; k-- > 0 && !damaged.empty();) damaged[random() % damaged.size()] = static_cast<char>(random());
    read(damaged);
  }
}

// Shapes that overflow, on the way to memory.
void arrays_that_memory_cannot_hold_are_refused() {
  for (const Shape& shape : {Shape{std::int64_t{1} << 40, std::int64_t{1} << 22}, Shape{-1}, Shape{0, std::int64_t{1} << 40}, Shape(17, 1)}) {
    bool refused = false;
    try {
      Tensor made(DType::kFloat32, shape);
    } catch (const std::exception& error) {
      refused = std::string(error.what()).find("larger than any") != std::string::npos;
    }
    CHECK(refused);
  }
  CHECK(limits::bytes_of({}, 8) == 8u && limits::bytes_of({3, 0, 5}, 8) == 0u && limits::bytes_of({2, 3}, 4) == 24u);
}

void what_is_printed_is_one_plain_line() {
  CHECK(printable("a\n\x1b[2J\x7f") == "a \\x1b[2J\\x7f" && printable("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80") == "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
  CHECK(printable("\xe2\x80\xae" "x") == "\\xe2\\x80\\xaex");                            // turns the direction of writing
  CHECK(printable("\xc0\xaf\xff\xed\xa0\x80") == "\\xc0\\xaf\\xff\\xed\\xa0\\x80");  // no UTF-8: an overlong form, a byte, a surrogate
  CHECK(printable("\xe2\x82") == "\\xe2\\x82" && printable(std::string(1, '\0')) == "\\x00");
  const std::string line = printable("begin " + std::string(100000, 'n') + " end");
  CHECK(line.size() < 2100 && line.rfind("begin n", 0) == 0 && line.substr(line.size() - 5) == "n end");
}

void npy_is_read_as_it_was_written() {
  Tensor array(DType::kInt32, {2, 3});
  for (int i = 0; i < 6; ++i) array.as<std::int32_t>()[i] = i - 3;
  MUST(write_npy(kFolder + "/a.npy", array.view()));
  auto again = read_npy(kFolder + "/a.npy");
  MUST(again.status());
  CHECK(again->dtype() == DType::kInt32 && again->shape() == array.shape() && std::memcmp(again->data(), array.data(), array.bytes()) == 0);
  auto bytes = read_file(kFolder + "/a.npy");
  std::string turned = *bytes;
  turned.replace(turned.find("False"), 5, "True ");
  MUST(write_file(kFolder + "/f.npy", turned));
  CHECK(says(read_npy(kFolder + "/f.npy").status(), "column-major"));
  survives_damage(*bytes, [](const std::string& damaged) { (void)parse_npy(damaged, "d"); });
}

// What a reader of PNG makes of it, tests/test_picture_grid.py asks Pillow.
void png_takes_pictures_and_nothing_else() {
  const std::string path = kFolder + "/p.png";
  Tensor pictures(DType::kFloat32, {3, 1, 40, 33});  // not enlarged: two columns of 33, two rows of 40
  MUST(write_png(path, pictures.view()));
  auto bytes = read_file(path);
  MUST(bytes.status());
  const std::size_t pixels = (2 * 42 + 2) * (1 + 2 * 35 + 2), blocks = 5 * (pixels / 65535 + 1);
  CHECK(bytes->size() == 8 + 25 + 12 + 2 + blocks + pixels + 4 + 12 && bytes->compare(1, 3, "PNG") == 0);
  CHECK(bytes->substr(bytes->size() - 8) == "IEND\xae\x42\x60\x82");  // the CRC of an empty IEND, as in every PNG
  pictures.as<float>()[7] = NAN;
  CHECK(says(write_png(path, pictures.view()), "not finite"));
  CHECK(says(write_png(path, Tensor(DType::kUint8, {1, 1, 2, 2}).view()), "found uint8 [1, 1, 2, 2]"));
  CHECK(says(write_png(path, Tensor(DType::kFloat32, {1, 2, 2, 2}).view()), "[1, 2, 2, 2]"));
  CHECK(says(write_png(path, Tensor(DType::kFloat32, {0, 1, 2, 2}).view()), "[0, 1, 2, 2]"));
  CHECK(says(write_png(kFolder + "/no/where.png", Tensor(DType::kFloat32, {1, 3, 2, 2}).view()), "cannot write"));
}

std::string wave(unsigned format, unsigned channels, unsigned bits, const std::string& data) {
  const auto number = [](std::size_t n, int size) {
    std::string made;
    for (int i = 0; i < size; ++i) made.push_back(static_cast<char>(n >> (8 * i)));
    return made;
  };
  const std::string fmt = number(format, 2) + number(channels, 2) + number(16000, 4) + number(0, 4) + number(channels * bits / 8, 2) + number(bits, 2);
  return "RIFF" + number(36 + data.size(), 4) + "WAVEfmt " + number(16, 4) + fmt + "LIST" + number(3, 4) + std::string("abc\0", 4) + "data" + number(data.size(), 4) + data;
}

void waves_of_every_kind_are_read() {
  const auto read = [](const std::string& bytes) {
    MUST(write_file(kFolder + "/s.wav", bytes));
    return read_wav(kFolder + "/s.wav");
  };
  const std::string half16("\x00\x40\x00\xc0", 4), half24("\x00\x00\x40", 3), half8("\xc0\x40", 2);
  auto sound = read(wave(1, 1, 16, half16));
  MUST(sound.status());
  CHECK(sound->rate_hz == 16000 && sound->samples.shape() == Shape({1, 2}) && sound->samples.as<float>()[0] == 0.5f && sound->samples.as<float>()[1] == -0.5f);
  sound = read(wave(1, 2, 16, half16));
  CHECK(sound && sound->channels == 2 && sound->samples.count() == 1 && sound->samples.as<float>()[0] == 0.0f);
  sound = read(wave(1, 1, 24, half24));
  CHECK(sound && sound->samples.as<float>()[0] == 0.5f);
  sound = read(wave(1, 1, 8, half8));
  CHECK(sound && sound->samples.as<float>()[0] == 0.5f && sound->samples.as<float>()[1] == -0.5f);
  CHECK(says(read(wave(6, 1, 8, half8)).status(), "format 6"));
  CHECK(says(read("RIFFxxxxWAVE").status(), "without samples"));
  CHECK(says(read("").status(), "no WAVE file"));
  survives_damage(wave(1, 1, 16, half16), [](const std::string& damaged) { (void)parse_wav(damaged, "d"); });
}

void waves_are_written_as_they_are_read() {
  const std::string path = kFolder + "/w.wav";
  Tensor samples(DType::kFloat32, {1, 5});
  const float values[] = {0.0f, 0.5f, -0.5f, 2.0f, -2.0f}, wanted[] = {0, 16384, -16384, 32767, -32767};  // 16383.5 goes to the even one
  std::memcpy(samples.data(), values, sizeof values);
  MUST(write_wav(path, samples.view(), 24000));
  auto again = read_wav(path);
  MUST(again.status());
  CHECK(again->rate_hz == 24000 && again->channels == 1 && again->samples.count() == 5);
  for (int i = 0; i < 5; ++i) CHECK(again->samples.as<float>()[i] * 32768.0f == wanted[i]);
  samples.as<float>()[3] = NAN;
  CHECK(says(write_wav(path, samples.view(), 24000), "not finite"));
  CHECK(says(write_wav(path, Tensor(DType::kFloat32, {2, 5}).view(), 24000), "one channel, found float32 [2, 5]"));
  CHECK(says(write_wav(path, Tensor(DType::kInt32, {5}).view(), 24000), "one channel, found int32 [5]"));
  CHECK(says(write_wav(path, Tensor(DType::kFloat32, {5}).view(), 0), "a rate above 0"));
}

}  // namespace

int main() {
  philox_gives_the_published_answers();
  sha256_gives_the_published_answers();
  const std::string bytes = safetensors();
  safetensors_refuses_every_lie();
  survives_damage(bytes, [](const std::string& damaged) { (void)parse_safetensors(damaged, "d"); });
  arrays_that_memory_cannot_hold_are_refused();
  what_is_printed_is_one_plain_line();
  npy_is_read_as_it_was_written();
  png_takes_pictures_and_nothing_else();
  waves_of_every_kind_are_read();
  waves_are_written_as_they_are_read();
  facts_lie_beside_the_tensors();
  CHECK(says(read_file(kFolder).status(), "no regular file") && says(write_file(kFolder + "/no/where", ""), "cannot write"));
}
