// Read what bundle.json says into a bundle's data. Throws Status.
#pragma once

#include "bundle_data.hpp"
#include "json.hpp"

namespace edgekit {

// The bundle's own program goes to `out`; the others are returned by name.
std::map<std::string, TaskData> read_manifest(const Json& data, BundleData* out);

}  // namespace edgekit
