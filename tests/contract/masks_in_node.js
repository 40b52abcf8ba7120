// Answers the published vectors with docs/draw/masks.js, or a copy of it: node masks_in_node.js MASKS
// reads questions as JSON from standard input and writes the answers in their order.
"use strict";

const masks = require(require("node:path").resolve(process.argv[2]));

// Seeds are beyond 2^53: they come as strings.
const at = ({ seed, ...rest }) => masks.address({ seed: BigInt(seed), ...rest });
const bits = (keep) => keep.map(Number).join("");

function run(start, count, keeper) {
  return bits(Array.from({ length: count }, (_, i) => keeper(start + i)));
}

const READ = { float16: half, float32: "readFloatLE", float64: "readDoubleLE" };
const SIZE = { float16: 2, float32: 4, float64: 8 };

function half(bytes, offset) {
  const word = bytes.readUInt16LE(offset);
  const [sign, exponent, fraction] = [word >> 15 ? -1 : 1, (word >> 10) & 31, word & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 1 + fraction / 1024 : fraction / 1024) * 2 ** ((exponent || 1) - 15);
}

function numbers(hex, dtype) {
  const [bytes, how] = [Buffer.from(hex, "hex"), READ[dtype]];
  return Array.from({ length: bytes.length / SIZE[dtype] }, (_, i) =>
    typeof how === "string" ? bytes[how](i * SIZE[dtype]) : how(bytes, i * SIZE[dtype]),
  );
}

// As binary64: the one that reads them rounds no further.
const hex = (found) => Buffer.from(Float64Array.from(found).buffer).toString("hex");

const ANSWERS = {
  philox4x32_10: (q) => masks.philox(q.ctr, q.key),
  site: (q) => masks.siteNumber(q.name),
  fold_in: (q) => String(masks.foldIn(BigInt(q.seed), BigInt(q.n))),
  threshold: (q) => masks.threshold(q.p),
  u32: (q) => masks.uniform32(at(q.address), q.index),
  keep: (q) => run(q.start, q.count, masks.keeper(at(q.address), masks.threshold(q.p), q.mirror)),
  window: (q) =>
    bits(masks.keepMask(q.shape, q.p, at(q.address), { start: q.start, globalShape: q.global_shape })),
  shared_axes: (q) => bits(masks.keepMask(q.shape, q.p, at(q.address), { sharedAxes: q.shared_axes })),
  mask: (q) =>
    bits(
      masks.keepMask(q.shape, q.p, at(q.address), {
        start: q.start,
        globalShape: q.global_shape,
        sharedAxes: q.shared_axes,
        mirror: q.mirror,
      }),
    ),
  word: (q) => {
    const drawn = masks.word(at(q.address), q.index);
    return [drawn, masks.uniform24(drawn)];
  },
  gaussian: (q) => masks.gaussian(at(q.address), q.index),
  k_of_n: (q) => bits(masks.keepKOfN(q.shape, q.p, at(q.address), q.axis)),
  values: (q) => hex(masks.dropout(numbers(q.x, q.dtype), q.p, at(q.address), q.dtype)),
  refused: (q) => {
    try {
      if ("n" in q) masks.foldIn(BigInt(q.seed), BigInt(q.n));
      else if ("p" in q) masks.threshold(q.p);
      else at(q.address);
    } catch (error) {
      return error instanceof RangeError ? error.message : `another error: ${error}`;
    }
    return null;
  },
};

const questions = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(questions.map(([section, q]) => ANSWERS[section](q))));
