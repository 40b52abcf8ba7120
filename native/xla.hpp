// The kernels as foreign functions of XLA's (JAX's compiler), on the CPU.
//
// XLA hands each call one frame: plain structures of C, whose layout it keeps from version to version
// of its interface, adding only at their ends. What we read of them is declared here, so that the
// module builds without JAX. Each begins with the size that the caller knows it by, which is checked
// before anything behind it is read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "job.hpp"

namespace thinned::xla {

constexpr int kMajor = 0, kMinor = 1;  // of the interface: the oldest minor version with all of this

enum : int { kExecute = 3 };                            // stages
enum : int { kMetadata = 1 };                           // extensions
enum : int { kBuffer = 1, kArray = 1 };                 // arguments and attributes
enum : int { kPred = 1, kS64 = 5, kU32 = 8, kF16 = 10, kF32 = 11, kF64 = 12, kBf16 = 16 };
enum : int { kInvalidArgument = 3, kInternal = 13 };    // errors

struct Error;

struct Version {
    std::size_t struct_size;
    void* extension;
    int major, minor;
};

struct Extension {
    std::size_t struct_size;
    int type;
    Extension* next;
};

struct Metadata {
    std::size_t struct_size;
    Version version;
    std::uint32_t traits;
};

struct MetadataExtension {
    Extension base;
    Metadata* metadata;
};

struct ErrorArgs {
    std::size_t struct_size;
    void* extension;
    const char* message;
    int code;
};

struct Api {
    std::size_t struct_size;
    void* extension;
    Version version;
    const void* internal;
    Error* (*make_error)(ErrorArgs*);
};

struct Buffer {
    std::size_t struct_size;
    void* extension;
    int dtype;
    void* data;
    std::int64_t rank;
    std::int64_t* dims;
};

struct Buffers {  // arguments and results alike
    std::size_t struct_size;
    void* extension;
    std::int64_t size;
    int* types;
    void** items;
};

struct Name {
    const char* text;
    std::size_t length;
};

struct Array {
    int dtype;
    std::size_t size;
    void* data;
};

struct Attributes {  // sorted by name
    std::size_t struct_size;
    void* extension;
    std::int64_t size;
    int* types;
    Name** names;
    void** items;
};

struct Frame {
    std::size_t struct_size;
    Extension* extension;
    const Api* api;
    void* context;
    int stage;
    Buffers arguments, results;
    Attributes attributes;
};

// y = noise(x): operands x, words, scale and, where the fill is an array, that.
Error* noise(Frame* frame);
// The draws themselves: operand words.
Error* draw(Frame* frame);

}  // namespace thinned::xla

namespace thinned {
const Kernel& kernel_in_use();
}
