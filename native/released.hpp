// Work of C++ during which other threads of Python may run.
#pragma once

#include <Python.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace thinned {

// Elements above which others are let in. It costs some 100 ns: worth it where they could do something
// meanwhile.
constexpr std::uint64_t kReleaseAbove = 8192;

// What f does, with the interpreter released. A thread that comes back when the interpreter is being
// shut down is ended by Python (before 3.14) by unwinding its stack, which the binding's noexcept
// functions answer with std::terminate: a daemon thread in a call would abort the whole process at its
// end. Such a thread waits here for that end instead, as Python itself has it from 3.14 on.
template <class F>
inline void released(F f) {
    PyThreadState* const state = PyEval_SaveThread();
    std::exception_ptr thrown;
    try {
        f();
    } catch (...) {
        thrown = std::current_exception();
    }
#if defined(__GLIBCXX__)
    try {
        PyEval_RestoreThread(state);
    } catch (const abi::__forced_unwind&) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
#else
    PyEval_RestoreThread(state);
#endif
    if (thrown) std::rethrow_exception(thrown);
}

}  // namespace thinned
