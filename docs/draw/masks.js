// The mask spec (docs/mask-spec.md), version 1, in JavaScript: no dependency, for browsers and Node.
//
// An address is {seed, site, step, call}. A seed is a BigInt, or a Number below 2^53; everything else
// is a Number, of which none exceeds 2^53. What is out of range is a RangeError and never wraps.
"use strict";

const masks = (() => {
  const SEEDS = 2n ** 64n;
  const WORD = 2 ** 32;
  const BLOCKS = 2 ** 40;
  const FOLDING = WORD - 1; // the step that no draw uses
  const LANES = 128;
  const WORD_DRAWS = 32; // their tag; those below are planes

  // ------------------------------------------------------------------------------------- checks

  function integer(who, name, value, end) {
    if (!Number.isInteger(value) || value < 0 || value >= end) {
      throw new RangeError(`${who}: ${name} must be an integer from 0 to ${end - 1}, but got ${value}`);
    }
    return value;
  }

  function long(who, name, value) {
    let whole;
    try {
      whole = BigInt(value);
    } catch {
      throw new RangeError(`${who}: ${name} must be an integer, but got ${value}`);
    }
    if (whole < 0n || whole >= SEEDS || (typeof value === "number" && !Number.isSafeInteger(value))) {
      throw new RangeError(
        `${who}: ${name} must be an integer from 0 to 2^64 - 1 (a BigInt from 2^53 on), but got ${value}`,
      );
    }
    return whole;
  }

  function probability(who, p) {
    if (typeof p !== "number" || !(p >= 0 && p <= 1)) {
      throw new RangeError(`${who}: p must be a number in [0, 1], but got ${p}`);
    }
    return p;
  }

  /** An address with every coordinate checked; a site may be a name. */
  function address({ seed = 0, site = "", step = 0, call = 0 } = {}) {
    return {
      seed: long("address", "seed", seed),
      site: typeof site === "string" ? siteNumber(site) : integer("address", "site", site, WORD),
      step: integer("address", "step", step, FOLDING),
      call: integer("address", "call", call, 2 ** 16),
    };
  }

  // ---------------------------------------------------------------------------------- generator

  /** The CRC-32 (IEEE) of a name's UTF-8 bytes. */
  function siteNumber(name) {
    let crc = FOLDING;
    for (const byte of new TextEncoder().encode(name)) {
      crc = (crc ^ byte) >>> 0;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
      crc >>>= 0;
    }
    return (crc ^ FOLDING) >>> 0;
  }

  /** The high word of a product of two words, by halves: a Number holds 53 bits of the 64. */
  function high(a, b) {
    const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
    const middle = a1 * b0 + Math.floor((a0 * b0) / 2 ** 16);
    return a1 * b1 + Math.floor(middle / 2 ** 16) + Math.floor((a0 * b1 + (middle % 2 ** 16)) / 2 ** 16);
  }

  /** Philox4x32-10: a block of four words, of a counter of four and a key of two. */
  function philox(counter, key) {
    let [c0, c1, c2, c3] = counter;
    let [k0, k1] = key;
    for (let round = 0; round < 10; round++) {
      const [a1, a0] = [high(0xd2511f53, c0), Math.imul(0xd2511f53, c0)];
      const [b1, b0] = [high(0xcd9e8d57, c2), Math.imul(0xcd9e8d57, c2)];
      [c0, c1, c2, c3] = [(b1 ^ c1 ^ k0) >>> 0, b0 >>> 0, (a1 ^ c3 ^ k1) >>> 0, a0 >>> 0];
      k0 = (k0 + 0x9e3779b9) >>> 0;
      k1 = (k1 + 0xbb67ae85) >>> 0;
    }
    return [c0, c1, c2, c3];
  }

  const words = (whole) => [Number(whole & 0xffffffffn), Number(whole >> 32n)];

  /** Another seed, from a seed and any number below 2^64: of a member, an epoch, a rank. */
  function foldIn(seed, n) {
    const counter = [...words(long("foldIn", "n", n)), 0, FOLDING];
    const [w0, w1] = philox(counter, words(long("foldIn", "seed", seed)));
    return BigInt(w0) + (BigInt(w1) << 32n);
  }

  function block(at, b, tag) {
    const second = Math.floor(b / WORD) + at.call * 2 ** 8 + tag * 2 ** 24;
    return philox([b % WORD, second, at.site, at.step], words(at.seed));
  }

  // ------------------------------------------------------------------------------------- planes

  /** p * 2^32, rounded to the nearest integer, ties to even. */
  function threshold(p) {
    return roundHalfEven(probability("threshold", p) * WORD);
  }

  function roundHalfEven(value) {
    const floor = Math.floor(value);
    const rest = value - floor;
    return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  }

  /** The 32-bit uniform of an element, from all planes. */
  function uniform32(at, index) {
    const [b, lane] = [Math.floor(index / LANES), index % LANES];
    let u = 0;
    for (let plane = 0; plane < 32; plane++) {
      u = u * 2 + ((block(at, b, plane)[lane >>> 5] >>> (lane & 31)) & 1);
    }
    return u;
  }

  /** Four words whose bits say which of a block's 128 elements are kept at a threshold. */
  function keptOfBlock(at, b, t, mirror) {
    if (t === 0) return [~0, ~0, ~0, ~0];
    if (t === WORD) return [0, 0, 0, 0];
    const open = [~0, ~0, ~0, ~0]; // elements that agree with the threshold so far
    const dropped = [0, 0, 0, 0];
    for (let plane = 0; plane < 32 && open.some((word) => word !== 0); plane++) {
      if ((t * 2 ** plane) % WORD === 0) break; // no 1 bit is left: nothing falls below any more
      const bit = (t >>> (31 - plane)) & 1;
      block(at, b, plane).forEach((word, k) => {
        const ones = mirror ? ~word : word;
        if (bit) dropped[k] |= open[k] & ~ones;
        open[k] &= bit ? ones : ~ones;
      });
    }
    return dropped.map((word) => ~word);
  }

  /** A function of an index: whether it is kept. It holds the block that it drew last. */
  function keeper(at, t, mirror = false) {
    let [drawn, kept] = [-1, []];
    return (index) => {
      const [b, lane] = [Math.floor(index / LANES), index % LANES];
      if (b !== drawn) {
        integer("keeper", "the block number of an index", b, BLOCKS);
        [drawn, kept] = [b, keptOfBlock(at, b, t, mirror)];
      }
      return ((kept[lane >>> 5] >>> (lane & 31)) & 1) === 1;
    };
  }

  // ------------------------------------------------------------------------------------- arrays

  /** The logical index of every element of a window, in C order. */
  function* indices(shape, { start = [], globalShape = shape, sharedAxes = [] } = {}) {
    const shared = (axis) => sharedAxes.includes(axis);
    const strides = [];
    let stride = 1;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      strides[axis] = shared(axis) ? 0 : stride;
      stride *= shared(axis) ? 1 : globalShape[axis];
    }
    const total = shape.reduce((product, length) => product * length, 1);
    for (let n = 0; n < total; n++) {
      let [index, rest] = [0, n];
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        index += ((rest % shape[axis]) + (start[axis] ?? 0)) * strides[axis];
        rest = Math.floor(rest / shape[axis]);
      }
      yield index;
    }
  }

  /** The mask of an array in C order: true is kept. */
  function keepMask(shape, p, at, { mirror = false, ...place } = {}) {
    return Array.from(indices(shape, place), keeper(address(at), threshold(p), mirror));
  }

  // --------------------------------------------------------------------------------- word draws

  /** The 32-bit word of an element, of draws that are not Bernoulli draws. */
  function word(at, index, mirror = false) {
    const b = integer("word", "the block number of an index", Math.floor(index / 4), BLOCKS);
    const drawn = block(at, b, WORD_DRAWS)[index % 4];
    return mirror ? FOLDING - drawn : drawn;
  }

  /** A word as a uniform number inside (0, 1), an odd multiple of 2^-24. */
  const uniform24 = (drawn) => (2 * (drawn >>> 9) + 1) / 2 ** 24;

  /** The standard normal number of an element, by Box and Muller. */
  function gaussian(at, index) {
    const first = index - (index % 2);
    const [u, v] = [uniform24(word(at, first)), uniform24(word(at, first + 1))];
    const [r, angle] = [Math.sqrt(-2 * Math.log(u)), 2 * Math.PI * v];
    return index === first ? r * Math.cos(angle) : r * Math.sin(angle);
  }

  /** The mask that keeps n - round(p n) of the n elements along an axis, in C order. */
  function keepKOfN(shape, p, at, axis) {
    const n = shape[axis];
    const k = n - roundHalfEven(probability("keepKOfN", p) * n);
    const inner = shape.slice(axis + 1).reduce((product, length) => product * length, 1);
    const drawn = Array.from(indices(shape), (index) => word(at, index));
    return drawn.map((own, index) => {
      const position = Math.floor(index / inner) % n;
      const group = index - position * inner;
      let larger = 0;
      for (let other = 0; other < n; other++) {
        const its = drawn[group + other * inner];
        if (its > own || (its === own && other < position)) larger++;
      }
      return larger < k;
    });
  }

  // ------------------------------------------------------------------------------------- values

  /** A number rounded to the nearest of a type with so many bits of mantissa, ties to even. */
  function rounded(value, mantissa, least, largest) {
    if (!Number.isFinite(value) || value === 0) return value;
    const exponent = Math.max(Math.floor(Math.log2(Math.abs(value))), least);
    const unit = 2 ** (exponent - mantissa);
    const near = Math.sign(value) * roundHalfEven(Math.abs(value) / unit) * unit;
    return Math.abs(near) > largest ? Math.sign(value) * Infinity : near;
  }

  const TYPES = {
    float64: { arithmetic: (value) => value, result: (value) => value },
    float32: { arithmetic: Math.fround, result: Math.fround },
    float16: { arithmetic: Math.fround, result: (value) => rounded(value, 10, -14, 65504) },
    bfloat16: { arithmetic: Math.fround, result: (value) => rounded(value, 7, -126, 255 * 2 ** 120) },
  };

  /** Dropout of numbers: 0 where dropped, times 1 / (1 - p) where kept, in the arithmetic of a type. */
  function dropout(x, p, at, dtype = "float64", how = {}) {
    const { arithmetic, result } = TYPES[dtype];
    const keep = keepMask([x.length], p, at, how);
    const scale = arithmetic(1 / (1 - p));
    return Array.from(x, (value, i) => {
      if (!keep[i]) return 0;
      return scale === 1 ? value : result(arithmetic(scale * value));
    });
  }

  return {
    address, dropout, foldIn, gaussian, indices, keeper, keepKOfN, keepMask, philox, siteNumber, threshold,
    uniform24, uniform32, word,
  };
})();

if (typeof module !== "undefined") module.exports = masks;
