// The C face: handles around sessions, the last error of each thread.
#include "edgekit/edgekit.h"

#include <cstring>
#include <deque>

#include "limits.hpp"
#include "printable.hpp"

struct edgekit_bound {
  edgekit_session* session;
  std::size_t number;
};

struct edgekit_session {
  edgekit::Session session;
  std::vector<edgekit::LayerTime> layers;
  std::deque<edgekit_bound> bound;  // which does not move what it holds
};

namespace {

thread_local std::string last_error;

int told(const edgekit::Status& status) {
  if (status) return 0;
  last_error = edgekit::printable(status.text());  // names from files are in it, and callers print it
  return 1;
}

// Memory may run out while arguments are taken in.
template <typename F>
int guarded(F call) noexcept {
  try {
    return call();
  } catch (const std::exception& error) {
    try {
      last_error = error.what();
    } catch (...) {
      last_error.clear();
    }
    return 1;
  }
}

edgekit::Status taken(const edgekit_tensor* tensors, size_t count, edgekit::Inputs* inputs) {
  for (size_t i = 0; i < count; ++i) {
    const edgekit_tensor& t = tensors[i];
    int kind = 0;  // a C caller may have put any number there, which must not be read as the enum
    static_assert(sizeof kind == sizeof t.dtype, "enum of C");
    std::memcpy(&kind, &t.dtype, sizeof kind);
    if (!t.name || (t.rank && !t.shape) || kind < EDGEKIT_BOOL || kind > EDGEKIT_FLOAT64) return edgekit::Status("input " + std::to_string(i) + " has no name, shape or known dtype");
    edgekit::Shape shape(t.shape, t.shape + t.rank);
    for (int64_t n : shape) {
      if (n < 0) return edgekit::Status(std::string("'") + t.name + "' has a negative size");
    }
    edgekit::TensorView view{static_cast<edgekit::DType>(kind), shape, t.data};
    const auto bytes = edgekit::limits::bytes_of(shape, edgekit::size_of(view.dtype));
    if (!bytes) return edgekit::Status(std::string("'") + t.name + "' is larger than any array");
    if (*bytes && !t.data) return edgekit::Status(std::string("'") + t.name + "' has no data");
    (*inputs)[t.name] = view;
  }
  return {};
}

void give(const std::string& name, const edgekit::Tensor& from, edgekit_tensor* answer) {
  *answer = {name.c_str(), static_cast<edgekit_dtype>(from.dtype()), from.shape().data(), from.shape().size(), from.data()};
}

}  // namespace

const char* edgekit_version(void) { return edgekit::kVersion; }
const char* edgekit_last_error(void) { return last_error.c_str(); }

int edgekit_open(const char* bundle, const edgekit_options* given, edgekit_session** session) {
  return guarded([&] {
    if (!bundle || !session) return told(edgekit::Status("edgekit_open needs a bundle and a place for the session"));
    *session = nullptr;
    const edgekit_options none{};
    const edgekit_options& wanted = given ? *given : none;
    auto opened = edgekit::Bundle::open(bundle, wanted.task ? wanted.task : "", wanted.digest ? wanted.digest : "");
    if (!opened) return told(opened.status());
    edgekit::Options options;
    options.engine = wanted.engine ? wanted.engine : "";
    options.library = wanted.library ? wanted.library : "";
    options.threads = wanted.threads;
    options.probes = wanted.probes != 0;
    options.layers = wanted.layers != 0;
    auto made = edgekit::Session::open(*opened, options);
    if (!made) return told(made.status());
    *session = new edgekit_session{std::move(*made), {}, {}};
    return 0;
  });
}

void edgekit_free(edgekit_session* session) { delete session; }

int edgekit_run(edgekit_session* session, const edgekit_tensor* inputs, size_t count, const uint64_t* seed) {
  return guarded([&] {
    edgekit::Inputs all;
    if (!session) return told(edgekit::Status("no session was given"));
    if (edgekit::Status s = taken(inputs, count, &all); !s) return told(s);
    return told(seed ? session->session.run(all, *seed) : session->session.run(all));
  });
}

int edgekit_bind(edgekit_session* session, const edgekit_tensor* inputs, size_t count, edgekit_bound** bound) {
  return guarded([&] {
    edgekit::Inputs all;
    if (!session || !bound) return told(edgekit::Status("no session or no place for what is bound was given"));
    *bound = nullptr;
    if (edgekit::Status s = taken(inputs, count, &all); !s) return told(s);
    std::size_t number = 0;
    if (edgekit::Status s = session->session.bind(all, &number); !s) return told(s);
    session->bound.push_back({session, number});
    *bound = &session->bound.back();
    return 0;
  });
}

int edgekit_run_bound(edgekit_bound* bound) {
  return guarded([&] { return told(bound ? bound->session->session.run_bound(bound->number) : edgekit::Status("nothing bound was given")); });
}

int edgekit_begin(edgekit_session* session, const edgekit_tensor* inputs, size_t count, const uint64_t* seed) {
  return guarded([&] {
    edgekit::Inputs all;
    if (!session) return told(edgekit::Status("no session was given"));
    if (edgekit::Status s = taken(inputs, count, &all); !s) return told(s);
    return told(seed ? session->session.begin(all, *seed) : session->session.begin(all));
  });
}

int edgekit_push(edgekit_session* session, const edgekit_tensor* inputs, size_t count) {
  return guarded([&] {
    edgekit::Inputs all;
    if (!session) return told(edgekit::Status("no session was given"));
    if (edgekit::Status s = taken(inputs, count, &all); !s) return told(s);
    return told(session->session.push(all));
  });
}

int edgekit_push_events(edgekit_session* session, const uint32_t* places, size_t count) {
  return guarded([&] {
    if (!session || (count && !places)) return told(edgekit::Status("no session or no events were given"));
    return told(session->session.push_events(places, count));
  });
}

int edgekit_close(edgekit_session* session) {
  return guarded([&] { return told(session ? session->session.close() : edgekit::Status("no session was given")); });
}

size_t edgekit_answer_count(const edgekit_session* session) { return session ? session->session.answers().size() : 0; }

int edgekit_answer(const edgekit_session* session, size_t index, edgekit_tensor* answer) {
  if (!session || !answer || index >= session->session.answers().size()) return told(edgekit::Status("there is no such answer"));
  auto at = session->session.answers().begin();
  for (size_t i = 0; i < index; ++i) ++at;
  give(at->first, at->second, answer);
  return 0;
}

int edgekit_answer_named(const edgekit_session* session, const char* name, edgekit_tensor* answer) {
  return guarded([&] {
    if (!session || !answer || !name) return told(edgekit::Status("no session, name or place was given"));
    const auto at = session->session.answers().find(name);
    if (at == session->session.answers().end()) return told(edgekit::Status(std::string("there is no answer '") + name + "'"));
    give(at->first, at->second, answer);
    return 0;
  });
}

size_t edgekit_layer_count(edgekit_session* session) {
  const int failed = guarded([&] {
    if (session) session->layers = session->session.layers();
    return 0;
  });
  return session && !failed ? session->layers.size() : 0;
}

int edgekit_layer_at(const edgekit_session* session, size_t index, edgekit_layer* layer) {
  if (!session || !layer || index >= session->layers.size()) return told(edgekit::Status("there is no such layer"));
  const edgekit::LayerTime& from = session->layers[index];
  *layer = {from.name.c_str(), from.way.c_str(), from.microseconds, from.inputs, from.events, from.spikes, from.products, from.break_even};
  return 0;
}
