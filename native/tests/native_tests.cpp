// Runs the cases of all files: native_tests [part of a name], or all but some: native_tests -part.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../dispatch.hpp"
#include "check.hpp"

namespace check {
namespace {

constexpr int kShown = 8;

Case* newest = nullptr;
std::atomic<int> count{0}, shown{0};

}  // namespace

Case::Case(const char* its_name, void (*its_body)()) : name(its_name), body(its_body), next(newest) {
    newest = this;
}

void failed(const char* file, int line, const char* what, const char* format, ...) {
    ++count;
    if (++shown > kShown) return;
    char text[400];
    va_list rest;
    va_start(rest, format);
    std::vsnprintf(text, sizeof text, format, rest);
    va_end(rest);
    std::fprintf(stderr, "%s:%d: not so: %s (%s)\n", file, line, what, text);
}

int failures() { return count; }

}  // namespace check

int main(int arguments, char** argument) {
    const char* part = arguments > 1 ? argument[1] : "";
    const bool without = part[0] == '-';
    if (without) ++part;
    std::vector<const check::Case*> cases;
    for (const check::Case* c = check::newest; c != nullptr; c = c->next) cases.push_back(c);
    // By name: the order of files is the linker's, and one case must come before all others.
    std::sort(cases.begin(), cases.end(), [](const check::Case* a, const check::Case* b) {
        return std::strcmp(a->name, b->name) < 0;
    });
    for (const thinned::Kernel* k : thinned::runnable_kernels()) std::printf("kernel %s\n", k->name);
    int run = 0;
    for (const check::Case* c : cases) {
        if ((std::strstr(c->name, part) == nullptr) != without) continue;
        check::shown = 0;
        const int before = check::failures();
        const auto start = std::chrono::steady_clock::now();
        c->body();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        const int bad = check::failures() - before;
        std::printf("%-55s %6.2f s  %s\n", c->name, took.count(), bad == 0 ? "ok" : "FAILED");
        std::fflush(stdout);
        ++run;
    }
    if (run == 0) std::printf("no case of this name\n");
    std::printf("%d failures\n", check::failures());
    return check::failures() == 0 && run > 0 ? 0 : 1;
}
