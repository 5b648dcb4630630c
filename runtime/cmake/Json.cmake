# Where nlohmann/json.hpp lies: EDGEKIT_JSON_INCLUDE, a CMake package, or the PyPI package nlohmann-json.
set(EDGEKIT_JSON_FOUND "${EDGEKIT_JSON_INCLUDE}")
if(NOT EDGEKIT_JSON_FOUND)
  find_package(nlohmann_json CONFIG QUIET)
  if(nlohmann_json_FOUND)
    get_target_property(EDGEKIT_JSON_FOUND nlohmann_json::nlohmann_json INTERFACE_INCLUDE_DIRECTORIES)
  else()
    find_package(Python3 QUIET COMPONENTS Interpreter)
    if(Python3_FOUND)
      execute_process(
        COMMAND ${Python3_EXECUTABLE} -c
          "import importlib.util as u; s = u.find_spec('nlohmann_json'); print(list(s.submodule_search_locations)[0] + '/include' if s else '')"
        OUTPUT_VARIABLE EDGEKIT_JSON_FOUND OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
  endif()
endif()
if(NOT EDGEKIT_JSON_FOUND OR (EXISTS "${EDGEKIT_JSON_FOUND}" AND NOT EXISTS "${EDGEKIT_JSON_FOUND}/nlohmann/json.hpp"))
  message(FATAL_ERROR "nlohmann/json.hpp was not found: install nlohmann-json (pip install nlohmann-json, or your system's package), "
    "or name its include folder with -DEDGEKIT_JSON_INCLUDE=...")
endif()
