// What edgekit-run times: a short bench for a person, and the profile that edgekit reduces to a measurement.
#pragma once

#include "arguments.hpp"

namespace edgekit {

// Runs for bench_s seconds; percentiles as JSON.
Status bench(const Bundle& bundle, const Arguments& arguments);

// Load, first run, warm-up until the median stands still, steady state; and with energy_s idle, back to back, idle. Rows go
// to the samples file, facts to stdout as one line of JSON, behind the lines of the watch.
Status profile(const Bundle& bundle, const Arguments& arguments);

}  // namespace edgekit
