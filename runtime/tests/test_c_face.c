/* The C face, compiled as C11: every failure is a code and a sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgekit/edgekit.h"

#define CHECK(what)                                                        \
  do {                                                                     \
    if (!(what)) {                                                         \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what); \
      exit(1);                                                             \
    }                                                                      \
  } while (0)

int main(void) {
  edgekit_session* session = NULL;
  edgekit_tensor answer;
  CHECK(strcmp(edgekit_version(), "0.1.0") == 0);
  CHECK(edgekit_open("/no/such/bundle", NULL, &session) == 1 && session == NULL);
  CHECK(strstr(edgekit_last_error(), "no bundle in /no/such/bundle") != NULL);
  CHECK(edgekit_open(NULL, NULL, &session) == 1 && strstr(edgekit_last_error(), "needs a bundle") != NULL);
  edgekit_options options = {0};
  options.task = "own";
  CHECK(edgekit_open("/no/such/bundle", &options, &session) == 1 && session == NULL);
  CHECK(edgekit_run(NULL, NULL, 0, NULL) == 1 && edgekit_push(NULL, NULL, 0) == 1 && edgekit_close(NULL) == 1);
  edgekit_bound* bound = NULL;
  CHECK(edgekit_bind(NULL, NULL, 0, &bound) == 1 && edgekit_run_bound(NULL) == 1 && strstr(edgekit_last_error(), "nothing bound") != NULL);
  CHECK(edgekit_begin(NULL, NULL, 0, NULL) == 1 && strstr(edgekit_last_error(), "no session") != NULL);
  CHECK(edgekit_answer_count(NULL) == 0 && edgekit_answer(NULL, 0, &answer) == 1 && edgekit_answer_named(NULL, "x", &answer) == 1);
  edgekit_free(NULL);
  const char* bundle = getenv("EDGEKIT_TEST_BUNDLE");
  if (bundle) {
    options.task = "other";
    CHECK(edgekit_open(bundle, &options, &session) == 1 && strstr(edgekit_last_error(), "no task 'other'") != NULL);
    options.task = NULL;
    options.digest = "abc";
    CHECK(edgekit_open(bundle, &options, &session) == 1 && strstr(edgekit_last_error(), "64 of 0-9 and a-f") != NULL);
    options.digest = NULL;
    options.threads = 1;
    CHECK(edgekit_open(bundle, &options, &session) == 0 && session);
    const int64_t shape[] = {1, -1};
    const edgekit_tensor wrong = {"x", EDGEKIT_FLOAT32, shape, 2, NULL};
    CHECK(edgekit_run(session, &wrong, 1, NULL) == 1 && strstr(edgekit_last_error(), "negative size") != NULL);
    CHECK(edgekit_run(session, NULL, 0, NULL) == 1 && strstr(edgekit_last_error(), "is missing") != NULL);
    CHECK(edgekit_bind(session, NULL, 0, &bound) == 1 && !bound && strstr(edgekit_last_error(), "is missing") != NULL);
    CHECK(edgekit_bind(session, NULL, 0, NULL) == 1 && strstr(edgekit_last_error(), "no place for what is bound") != NULL);
    edgekit_free(session);
  }
  return 0;
}
