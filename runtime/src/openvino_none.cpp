// A build without OpenVINO says so.
#include "engine.hpp"

namespace edgekit {

Result<std::shared_ptr<Engine>> openvino_engine() {
  return Status("this build has no OpenVINO; configure it with -DEDGEKIT_OPENVINO=ON");
}

}  // namespace edgekit
