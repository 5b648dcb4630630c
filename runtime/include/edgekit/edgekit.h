/* The C face of edgekit, for other languages. Every function that can fail returns 0 when it did not; the text of the
 * last failure in this thread is edgekit_last_error(). No exception crosses it. */
#ifndef EDGEKIT_H
#define EDGEKIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct edgekit_session edgekit_session;

typedef enum {
  EDGEKIT_BOOL, EDGEKIT_UINT8, EDGEKIT_INT8, EDGEKIT_INT32, EDGEKIT_INT64, EDGEKIT_FLOAT16, EDGEKIT_FLOAT32, EDGEKIT_FLOAT64
} edgekit_dtype;

/* A row-major array that the caller (input) or the session (answer) owns. */
typedef struct {
  const char* name;
  edgekit_dtype dtype;
  const int64_t* shape;
  size_t rank;
  const void* data;
} edgekit_tensor;

const char* edgekit_version(void);
const char* edgekit_last_error(void);

/* How a bundle is opened; what is NULL or 0 is left to the defaults (edgekit.hpp, Options). Zero it, then set what is meant. */
typedef struct {
  const char* engine;  /* "onnxruntime", "openvino", "spike" */
  const char* library; /* of ONNX Runtime */
  const char* task;    /* one program of a bundle with tasks, by name; NULL: its own */
  const char* digest;  /* the SHA-256 of the one bundle that is opened, as `edgekit sign` says it; another is refused before it is parsed */
  int threads;
  int probes;          /* answers hold the inner tensors that the bundle names, too */
  int layers;          /* of the engine spike: every layer is timed */
} edgekit_options;

/* What the last run of a spiking network did in one layer: edgekit.hpp, LayerTime. */
typedef struct {
  const char* name;
  const char* way;
  double microseconds;
  uint64_t inputs, events, spikes, products, break_even;
} edgekit_layer;

/* options: NULL for the defaults. */
int edgekit_open(const char* bundle, const edgekit_options* options, edgekit_session** session);
void edgekit_free(edgekit_session* session);

/* seed: NULL for the bundle's own. */
int edgekit_run(edgekit_session* session, const edgekit_tensor* inputs, size_t count, const uint64_t* seed);
/* For many runs on data that stay where they are while their contents change: edgekit.hpp, Session::bind. It lives as long as its session,
 * whose answers are those of its last run. */
typedef struct edgekit_bound edgekit_bound;
int edgekit_bind(edgekit_session* session, const edgekit_tensor* inputs, size_t count, edgekit_bound** bound);
int edgekit_run_bound(edgekit_bound* bound);
int edgekit_begin(edgekit_session* session, const edgekit_tensor* inputs, size_t count, const uint64_t* seed);
int edgekit_push(edgekit_session* session, const edgekit_tensor* inputs, size_t count);
/* One chunk of a stream of camera frames, as events: edgekit.hpp, Session::push_events. */
int edgekit_push_events(edgekit_session* session, const uint32_t* places, size_t count);
int edgekit_close(edgekit_session* session);

/* Answers of the last call; valid until the next one. */
size_t edgekit_answer_count(const edgekit_session* session);
int edgekit_answer(const edgekit_session* session, size_t index, edgekit_tensor* answer);
int edgekit_answer_named(const edgekit_session* session, const char* name, edgekit_tensor* answer);

/* Layers of the last run, where they are timed; valid until edgekit_layer_count is asked again. */
size_t edgekit_layer_count(edgekit_session* session);
int edgekit_layer_at(const edgekit_session* session, size_t index, edgekit_layer* layer);

#ifdef __cplusplus
}
#endif
#endif
