// The compiled module thinned._native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include "philox.hpp"

NB_MODULE(_native, m) {
    m.doc() = "The compiled part of Thinned.";
    m.def("philox4x32_10", &thinned::philox4x32_10, nanobind::arg("counter"), nanobind::arg("key"),
          "The four words of the block at `counter` (four words) under `key` (two words).");
}
