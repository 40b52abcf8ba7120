#include "twin.hpp"

#include <cmath>
#include <cstring>

namespace twin {
namespace {

// Digits behind the point, bias of the exponent, and the bits of infinity.
struct Form {
    int digits, bias;
    u16 infinity;
};
Form form_of(Type half) { return half == Type::f16 ? Form{10, 15, 0x7C00} : Form{7, 127, 0x7F80}; }

template <class T>
T read(const char* p) {
    T out;
    std::memcpy(&out, p, sizeof out);
    return out;
}
template <class T>
void write(char* p, T value) {
    std::memcpy(p, &value, sizeof value);
}

bool is_half(Type type) { return type == Type::f16 || type == Type::bf16; }

float read_single(Type type, const char* p) {
    return is_half(type) ? static_cast<float>(number_of(type, read<u16>(p))) : read<float>(p);
}
void write_single(Type type, char* p, float value) {
    if (is_half(type)) {
        write(p, nearest(type, value));
    } else {
        write(p, value);
    }
}

// f + s (x - f), each step rounded in the type R; with Op::scale there is no f.
template <class R>
R kept(Op op, R s, R x, R f) {
    if (op == Op::scale) return x * s;
    const R difference = x - f, product = s * difference;
    return f + product;
}

bool selects(Op op) { return op == Op::select || op == Op::select_array; }

}  // namespace

std::array<u32, 4> philox(const std::array<u32, 4>& counter, const std::array<u32, 2>& key) {
    u64 c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (u32 round = 0; round < 10; ++round) {
        const u32 k0 = key[0] + round * 0x9E3779B9u, k1 = key[1] + round * 0xBB67AE85u;
        const u64 a = 0xCD9E8D57u * c2, b = 0xD2511F53u * c0;
        const u64 next0 = (a >> 32) ^ c1 ^ k0, next2 = (b >> 32) ^ c3 ^ k1;
        c0 = next0, c1 = a & 0xFFFFFFFFu, c2 = next2, c3 = b & 0xFFFFFFFFu;
    }
    return {static_cast<u32>(c0), static_cast<u32>(c1), static_cast<u32>(c2), static_cast<u32>(c3)};
}

std::array<u32, 4> Draws::block(u64 number, u32 tag) const {
    const u32 low = static_cast<u32>(number), high = static_cast<u32>(number >> 32);
    return philox({low, high | s_.call << 8 | tag << 24, s_.site, s_.step},
                  {static_cast<u32>(s_.seed), static_cast<u32>(s_.seed >> 32)});
}

u32 Draws::uniform(u64 i) {
    if (blocks_.size() > 100000) blocks_.clear();
    const auto found = blocks_.try_emplace(i >> 7);
    std::array<u32, 128>& u = found.first->second;
    if (found.second) {
        u.fill(0);
        for (u32 j = 0; j < 32; ++j) {
            const std::array<u32, 4> plane = block(i >> 7, j);
            for (u32 lane = 0; lane < 128; ++lane) {
                u[lane] |= (plane[lane >> 5] >> (lane & 31) & 1u) << (31 - j);
            }
        }
    }
    const u32 mine = u[i & 127];
    return s_.mirror ? 0xFFFFFFFFu - mine : mine;
}

u32 Draws::plain_word(u64 i) const { return block(i >> 2, 32)[i & 3]; }

u32 Draws::word(u64 i) const {
    const u32 w = plain_word(i);
    return s_.mirror ? 0xFFFFFFFFu - w : w;
}

double Draws::gaussian(u64 i) const {
    const double u = (2.0 * (plain_word(i & ~u64{1}) >> 9) + 1.0) / 16777216.0;
    const double v = (2.0 * (plain_word(i | 1) >> 9) + 1.0) / 16777216.0;
    const double radius = std::sqrt(-2.0 * std::log(u)), angle = 2.0 * std::acos(-1.0) * v;
    const double z = radius * ((i & 1) != 0 ? std::sin(angle) : std::cos(angle));
    return s_.mirror ? -z : z;
}

double number_of(Type half, u16 bits) {
    const Form form = form_of(half);
    const int exponent = (bits & 0x7FFF) >> form.digits;
    const int fraction = bits & ((1 << form.digits) - 1);
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    if ((bits & 0x7FFF) > form.infinity) return std::nan("");
    if ((bits & 0x7FFF) == form.infinity) return sign * HUGE_VAL;
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - form.bias - form.digits);
    return sign * std::ldexp(fraction + (1 << form.digits), exponent - form.bias - form.digits);
}

u16 nearest(Type half, float x) {
    const Form form = form_of(half);
    const u16 sign = std::signbit(x) ? 0x8000 : 0;
    if (std::isnan(x)) return static_cast<u16>(form.infinity | 1);
    if (std::isinf(x)) return static_cast<u16>(sign | form.infinity);
    // In units of the last digit at this size; below the smallest exponent the unit stays the same.
    const double size = std::fabs(static_cast<double>(x));
    const int smallest = 1 - form.bias;
    const int exponent = size == 0.0 ? smallest : std::max(std::ilogb(size), smallest);
    const double units = std::nearbyint(std::ldexp(size, form.digits - exponent));
    const int bits = ((exponent - smallest) << form.digits) + static_cast<int>(units);
    return static_cast<u16>(sign | std::min<int>(bits, form.infinity));
}

void element(Type type, Op op, const Values& values, bool keep, const char* x, const char* f,
             char* y) {
    const std::size_t item = thinned::size_of(type);
    const bool array = thinned::reads_fill(op);
    if (keep && selects(op)) {
        std::memcpy(y, x, item);
    } else if (!keep && array) {
        std::memcpy(y, f, item);
    } else if (type == Type::f64) {
        const double fill = array ? read<double>(f) : op == Op::scale ? 0.0 : values.fill;
        write(y, keep ? kept(op, values.scale, read<double>(x), fill) : fill);
    } else {
        const float number = op == Op::scale ? 0.0f : static_cast<float>(values.fill);
        const float fill = array ? read_single(type, f) : number;
        const float scale = static_cast<float>(values.scale);
        write_single(type, y, keep ? kept(op, scale, read_single(type, x), fill) : fill);
    }
}

void noisy(Type type, const Values& values, float z, const char* x, char* y) {
    if (type == Type::f64) {
        const double product = values.scale * static_cast<double>(z), factor = 1.0 + product;
        write(y, read<double>(x) * factor);
    } else {
        const float product = static_cast<float>(values.scale) * z, factor = 1.0f + product;
        write_single(type, y, read_single(type, x) * factor);
    }
}

bool same(Type type, const char* a, const char* b) {
    if (std::memcmp(a, b, thinned::size_of(type)) == 0) return true;
    if (type == Type::f64) return std::isnan(read<double>(a)) && std::isnan(read<double>(b));
    return std::isnan(read_single(type, a)) && std::isnan(read_single(type, b));
}

}  // namespace twin
