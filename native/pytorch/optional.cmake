# The compiled part for PyTorch, of the version that is there: its C++ interface belongs to one minor
# version. It saves time and nothing else, and so an installation never fails for it: where no PyTorch
# is there, or the part does not build beside it, Python does the same and a sentence says so.
#
# It is built while CMake configures, as a project of its own, since a failure must not end the build.

set(without "dropout works all the same, and a call on a small tensor takes some 15 microseconds longer")
execute_process(COMMAND ${Python_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/find_torch.py
  OUTPUT_VARIABLE torch OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_VARIABLE reason ERROR_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
if(failed)
  message(STATUS "Thinned without a compiled part for PyTorch (${without}): ${reason}")
  return()
endif()

list(POP_FRONT torch name root abi)
set(into ${CMAKE_BINARY_DIR}/pytorch/built)
set(source ${CMAKE_CURRENT_LIST_DIR})
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
  ${source}/torch.cpp ${source}/../entry.hpp ${source}/../job.hpp ${source}/../released.hpp)
set(work ${CMAKE_BINARY_DIR}/pytorch)
# Without what another place of this checkout was configured with; compiled files stay.
file(REMOVE_RECURSE ${into} ${work}/CMakeCache.txt)
set(chosen -G ${CMAKE_GENERATOR})
if(CMAKE_GENERATOR_PLATFORM)
  list(APPEND chosen -A ${CMAKE_GENERATOR_PLATFORM})
endif()
if(CMAKE_GENERATOR_TOOLSET)
  list(APPEND chosen -T ${CMAKE_GENERATOR_TOOLSET})
endif()
# Two processes, and no try_compile: that one ends everything where it cannot configure.
execute_process(
  COMMAND ${CMAKE_COMMAND} -S ${source} -B ${work} ${chosen}
    -DCMAKE_MAKE_PROGRAM=${CMAKE_MAKE_PROGRAM}
    -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
    -DCMAKE_CXX_FLAGS=${CMAKE_CXX_FLAGS}
    -DCMAKE_BUILD_TYPE=${CMAKE_BUILD_TYPE}
    -DCMAKE_OSX_ARCHITECTURES=${CMAKE_OSX_ARCHITECTURES}
    -DCMAKE_OSX_DEPLOYMENT_TARGET=${CMAKE_OSX_DEPLOYMENT_TARGET}
    -DPython_EXECUTABLE=${Python_EXECUTABLE}
    -DTHINNED_TORCH_NAME=${name}
    -DTHINNED_TORCH_ROOT=${root}
    -DTHINNED_TORCH_ABI=${abi}
    -DTHINNED_TORCH_INTO=${into}
  RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(NOT failed)
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${work} --config Release
    RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
endif()
if(NOT failed)
  message(STATUS "Thinned with a compiled part for PyTorch: ${name}")
  install(DIRECTORY ${into}/ DESTINATION thinned FILES_MATCHING PATTERN "${name}.*")
else()
  file(WRITE ${work}/failed.log "${said}")
  string(REGEX MATCH "[^\n]*[Ee]rror[^\n]*" first "${said}")
  message(WARNING "Thinned without its compiled part for PyTorch, which does not build beside the "
    "PyTorch in ${root}: ${without}. The first error: ${first}\n"
    "All of the output: ${work}/failed.log")
endif()
