// The page draw.md: the mask of an address, by masks.js, as a picture and as the call that draws it.
"use strict";

(() => {
  // What a method shares, by the axes of its input. `axes` are the names of those axes.
  const METHODS = {
    dropout: {
      title: "Dropout: single units", axes: "batch, units", shape: "8, 32", shared: () => [],
      hits: "Every element of every row is dropped on its own.",
    },
    batch: {
      title: "One mask for the whole batch (thin execution)", axes: "batch, units", shape: "8, 32",
      shared: () => [0], hits: "Every row of the batch loses the same units, which need not be computed.",
    },
    spatial_dropout: {
      title: "Spatial dropout: channels", axes: "batch, channels, height, width", shape: "3, 4, 6, 6",
      shared: (rank) => range(2, rank), hits: "A channel of a sample is dropped with all its pixels.",
    },
    drop_path: {
      title: "DropPath: the branch of a sample", axes: "batch, tokens, features", shape: "8, 4, 8",
      shared: (rank) => range(1, rank), hits: "A residual branch is dropped for a whole sample, or not at all.",
    },
    locked_dropout: {
      title: "Locked dropout: the same units at all times", axes: "batch, time, units", shape: "3, 10, 12",
      shared: () => [1], call: ", batch_first=True",
      hits: "A unit that is dropped is dropped at every time step of its sequence.",
    },
    stochastic_depth: {
      title: "Stochastic depth: the whole batch", axes: "batch, features", shape: "8, 16",
      shared: (rank) => range(0, rank), scale: 1, inference: true,
      hits: "One draw decides for the whole batch.",
    },
    attention_dropout: {
      title: "Attention dropout: single weights", axes: "batch, heads, queries, keys", shape: "1, 3, 10, 10",
      shared: () => [], hits: "Every attention weight of every head is dropped on its own.",
    },
    drop_node: {
      title: "DropNode: the nodes of a graph", axes: "nodes, features", shape: "16, 16",
      shared: () => [1], hits: "A node is dropped with all its features.",
    },
    embedding_dropout: {
      title: "Embedding dropout: words of the vocabulary", axes: "vocabulary, features", shape: "16, 16",
      shared: () => [1], hits: "A word is dropped wherever it stands in the batch.",
    },
    word_dropout: {
      title: "Word dropout: tokens", axes: "batch, tokens", shape: "6, 24", shared: () => [],
      hits: "A token is replaced by the unknown token.",
    },
    k_of_n_dropout: {
      title: "k of n: exactly so many units", axes: "batch, units", shape: "8, 32", exact: true,
      shared: () => [], hits: "In each row exactly n - round(p n) of the n units are kept.",
    },
  };
  const FIELDS = ["method", "p", "seed", "site", "step", "call", "shape", "shared", "start", "mirror"];
  const MOST = 4096;
  const SVG = "http://www.w3.org/2000/svg";

  const range = (from, to) => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
  const field = (name) => document.getElementById(`draw-${name}`);

  function integers(name, text) {
    return text.split(/[\s,]+/).filter(Boolean).map((part) => {
      if (!/^\d{1,15}$/.test(part)) throw new RangeError(`${name} must be whole numbers with commas, but got ${part}`);
      return Number(part);
    });
  }

  /** What the fields ask for. RangeError where they make no sense. */
  function asked() {
    const method = METHODS[field("method").value];
    const site = field("site").value;
    const shape = integers("shape", field("shape").value);
    const total = shape.reduce((product, length) => product * length, 1);
    if (!shape.length || total < 1 || total > MOST) {
      throw new RangeError(`shape must have from 1 to ${MOST} elements, but has ${shape.length ? total : 0}`);
    }
    const shared = integers("shared axes", field("shared").value);
    if (shared.some((axis) => axis >= shape.length)) {
      throw new RangeError(`shared axes must be below ${shape.length}, the number of axes`);
    }
    const first = integers("first row", field("start").value)[0] ?? 0;
    const at = masks.address({
      seed: /^\d+$/.test(field("seed").value.trim()) ? BigInt(field("seed").value) : NaN,
      site: /^\d+$/.test(site) ? Number(site) : site,
      step: Number(field("step").value),
      call: Number(field("call").value),
    });
    const p = Number(field("p").value);
    return { method, name: field("method").value, site, shape, shared, first, at, p, mirror: field("mirror").checked };
  }

  function drawn({ method, shape, shared, first, at, p, mirror }) {
    if (method.exact) return masks.keepKOfN(shape, p, at, shape.length - 1);
    const globalShape = shape.map((length, axis) => (axis === 0 ? length + first : length));
    return masks.keepMask(shape, p, at, { start: [first], globalShape, sharedAxes: shared, mirror });
  }

  /** The call that draws the same mask in Python. */
  function python({ method, site, shape, shared, first, at, p, mirror }) {
    const tuple = (list) => `(${list.join(", ")}${list.length === 1 ? "," : ""})`;
    const where = /^\d+$/.test(site) ? site : JSON.stringify(site);
    const lines = ["import thinned", ""];
    lines.push(`at = thinned.Address(seed=${at.seed}, site=${where}, step=${at.step}, call=${at.call})`);
    if (method.exact) {
      lines.push("import numpy as np", `y = thinned.k_of_n_dropout(np.ones(${tuple(shape)}), ${p}, at, axis=-1)`);
      lines.push("mask = y != 0");
      return lines.join("\n");
    }
    const how = [
      shared.length ? `, shared_axes=${tuple(shared)}` : "",
      first ? `, window=thinned.Window(${first})` : "",
      mirror ? ", mirror=True" : "",
    ].join("");
    lines.push(`mask = thinned.keep_mask(${tuple(shape)}, ${p}, at${how})`);
    return lines.join("\n");
  }

  function element(name, attributes, text = "") {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  }

  /** The array as a grid: the last axis runs to the right, the one before it down, the others in blocks. */
  function grid({ shape, method }, keep) {
    const width = shape.at(-1);
    const height = shape.length > 1 ? shape.at(-2) : 1;
    const blocks = keep.length / (width * height);
    const across = Math.max(1, Math.min(blocks, Math.floor(44 / (width + 1))));
    const side = 14;
    const [wide, high] = [(width + 1) * side, (height + 1.6) * side];
    const svg = element("svg", {
      width: across * wide + 8, height: Math.ceil(blocks / across) * high + 24, role: "img",
      "aria-label": `${keep.filter(Boolean).length} of ${keep.length} elements are kept`,
    });
    const names = method.axes.split(", ");
    const named = names.length === shape.length;
    const along = (axis) => (named ? names.at(axis) : `axis ${shape.length + axis}`);
    svg.append(element("text", { x: 4, y: 12 }, `${along(-1)} to the right${shape.length > 1 ? `, ${along(-2)} down` : ""}`));
    keep.forEach((kept, n) => {
      const block = Math.floor(n / (width * height));
      const [row, column] = [Math.floor(n / width) % height, n % width];
      const x = (block % across) * wide + column * side + 4;
      const y = Math.floor(block / across) * high + row * side + 24;
      const size = kept ? side - 2 : side - 3;
      svg.append(element("rect", { x: x + (side - size) / 2, y: y + (side - size) / 2, width: size, height: size, rx: 2, class: kept ? "kept" : "dropped" }));
    });
    return svg;
  }

  /** The thinned network of the first row: its units, and the connections that are left. */
  function network({ shape }, keep) {
    const units = Math.min(shape.at(-1), 16);
    const svg = element("svg", { width: 320, height: 22 * units + 12, class: "network", role: "img", "aria-label": "The thinned network of the first row" });
    const y = (n, of) => 11 + ((n + 0.5) * 22 * units) / of;
    const outer = 4;
    for (let unit = 0; unit < units; unit++) {
      for (let end = 0; end < outer; end++) {
        const gone = keep[unit] ? "" : "gone";
        svg.append(element("line", { x1: 30, y1: y(end, outer), x2: 160, y2: y(unit, units), class: gone }));
        svg.append(element("line", { x1: 160, y1: y(unit, units), x2: 290, y2: y(end, outer), class: gone }));
      }
    }
    for (let end = 0; end < outer; end++) {
      for (const cx of [30, 290]) svg.append(element("circle", { cx, cy: y(end, outer), r: 6, class: "kept" }));
    }
    for (let unit = 0; unit < units; unit++) {
      svg.append(element("circle", { cx: 160, cy: y(unit, units), r: 6, class: keep[unit] ? "kept" : "dropped" }));
    }
    return svg;
  }

  function show() {
    const out = field("out");
    try {
      const request = asked();
      const keep = drawn(request);
      const kept = keep.filter(Boolean).length;
      field("error").textContent = "";
      field("hits").textContent = request.method.hits;
      field("count").textContent =
        `${kept} of ${keep.length} kept (${((100 * kept) / keep.length).toFixed(1)} %; expected ${(100 * (1 - request.p)).toFixed(1)} %). ` +
        (request.p < 1 ? `Kept elements are multiplied by 1 / (1 - p) = ${(1 / (1 - request.p)).toPrecision(5)}.` : "");
      field("grid").replaceChildren(grid(request, keep));
      field("network").replaceChildren(network(request, keep));
      field("python").textContent = python(request);
      out.dataset.keep = keep.map(Number).join("");
      field("value").textContent = request.p.toFixed(2);
      const told = new URLSearchParams(FIELDS.map((name) => [name, name === "mirror" ? (request.mirror ? "1" : "") : field(name).value]));
      history.replaceState(null, "", `#${told}`);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      field("error").textContent = `${error.message}.`;
      delete out.dataset.keep;
    }
  }

  /** The shape and the shared axes that belong to the method. */
  function follow() {
    const method = METHODS[field("method").value];
    field("shape").value = method.shape;
    field("shared").value = method.shared(method.shape.split(",").length).join(", ");
    for (const name of ["shared", "start", "mirror"]) field(name).disabled = Boolean(method.exact);
  }

  function begin() {
    for (const [name, { title }] of Object.entries(METHODS)) field("method").append(new Option(title, name));
    follow();
    const given = new URLSearchParams(location.hash.slice(1));
    if (METHODS[given.get("method")]) {
      field("method").value = given.get("method");
      follow();
    }
    for (const name of FIELDS.slice(1)) {
      if (!given.has(name)) continue;
      if (name === "mirror") field(name).checked = given.get(name) === "1";
      else field(name).value = given.get(name);
    }
    field("method").addEventListener("change", follow);
    field("form").addEventListener("input", show);
    field("form").addEventListener("submit", (event) => event.preventDefault());
    show();
  }

  document.addEventListener("DOMContentLoaded", begin);
})();
