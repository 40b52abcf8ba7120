// Arrays laid out in any way there is, and jobs over them compared with the twin element by element.
#pragma once

#include <memory>
#include <vector>

#include "../dispatch.hpp"
#include "../geometry.hpp"
#include "memory.hpp"
#include "twin.hpp"

namespace check {

using Shape = std::vector<u64>;
using Steps = std::vector<i64>;

std::size_t item_size(const thinned::Job& job);
u64 count_of(const Shape& shape);

// How one array lies in memory: bytes from one element to the next along each axis.
struct Layout {
    Steps steps;
    i64 first = 0;  // of the element with index 0 on all axes, from the lowest byte in use
    u64 bytes = 0;
};
Layout c_order(const Shape& shape, std::size_t item);
// Axes in any order, gaps between them, some walked backwards.
Layout any_layout(Random& random, const Shape& shape, std::size_t item);
// Some axes of length 1 in memory, broadcast: for arrays that are only read.
Layout any_broadcast(Random& random, const Shape& shape, std::size_t item);

// Memory for a layout, against the page on one side, or `off` bytes away from it.
struct Array {
    Array(const Layout& layout, Edge edge, std::size_t off);
    char* element(const Shape& at) const;

    Layout layout;
    Guarded memory;
    char* first;
};

// What a case runs: a job without pointers, the arrays it shall have, and whether y is x.
struct Trial {
    thinned::Job job;
    Shape shape;
    std::vector<u64> index_steps;
    bool in_place = false;
    std::unique_ptr<Array> x, y, f;

    // Fills x, f and the job's axes and pointers.
    void prepare(Random& random);
    // Runs the job and compares every element, and every byte beside them, with what should be there.
    void check(const thinned::Kernel& kernel, const char* note);

  private:
    std::vector<char> kept_;  // x before the call
};

// Which law reads x, and which operation f.
bool reads_x(thinned::Law law);

}  // namespace check
