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

/* engine, library: NULL for the defaults (edgekit.hpp, Options). threads: 0 for the engine's own choice. */
int edgekit_open(const char* bundle, const char* engine, const char* library, int threads, edgekit_session** session);
/* One program of a bundle with tasks, by name; NULL: its own. */
int edgekit_open_task(const char* bundle, const char* task, const char* engine, const char* library, int threads, edgekit_session** session);
/* The same for the one bundle whose SHA-256 this is, as `edgekit sign` says it; another is refused before it is parsed. NULL: any. */
int edgekit_open_digest(const char* bundle, const char* task, const char* digest, const char* engine, const char* library, int threads,
                        edgekit_session** session);
void edgekit_free(edgekit_session* session);

/* seed: NULL for the bundle's own. */
int edgekit_run(edgekit_session* session, const edgekit_tensor* inputs, size_t count, const uint64_t* seed);
int edgekit_begin(edgekit_session* session, const edgekit_tensor* inputs, size_t count, const uint64_t* seed);
int edgekit_push(edgekit_session* session, const edgekit_tensor* inputs, size_t count);
int edgekit_close(edgekit_session* session);

/* Answers of the last call; valid until the next one. */
size_t edgekit_answer_count(const edgekit_session* session);
int edgekit_answer(const edgekit_session* session, size_t index, edgekit_tensor* answer);
int edgekit_answer_named(const edgekit_session* session, const char* name, edgekit_tensor* answer);

#ifdef __cplusplus
}
#endif
#endif
