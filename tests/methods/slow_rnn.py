"""LSTM and GRU in NumPy, row by row and step by step: slow, obvious, and with masks by address.

Nothing of thinned.torch is used: masks are thinned.keep_mask's, at the addresses that the layers'
documentation names.
"""

import numpy as np
import torch

import thinned
from thinned import Address, Window

SEED, SITE = 7, "rnn"
HERE = Address(SEED, SITE)
# Steps of the logical array that a sequence begins, as documented.
ROOM = 2**20


class Masks:
    """Multipliers, 1 / (1 - p) or 0, of row n, step t; where `plain`, 1 or 0."""

    def __init__(self, at, rows, steps, first=0):
        self.at, self.rows, self.steps, self.first = at, rows, steps, first

    def _at(self, purpose, layer, direction):
        number = 16 * (2 * layer + direction) + purpose
        return self.at.fold_in(number) if number else self.at

    def each_step(self, purpose, layer, direction, units, p):
        """(N, T, units)"""
        window = Window((self.first, 0, 0), (self.first + self.rows, ROOM, units))
        at, shape = self._at(purpose, layer, direction), (self.rows, self.steps, units)
        return thinned.keep_mask(shape, p, at, window=window)

    def locked(self, purpose, layer, direction, units, p):
        """(N, units)"""
        at = self._at(purpose, layer, direction)
        return thinned.keep_mask((self.rows, units), p, at, window=Window(self.first))

    def weight(self, layer, direction, shape, p):
        return thinned.keep_mask(shape, p, self._at(8, layer, direction))


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def scaled(keep, p):
    return keep / (1.0 - p) if p < 1.0 else np.zeros(keep.shape)


def run(kind, state, x, lengths, options, masks, training=True, states=None):
    """x (N, T, F) -> output (N, T, ways H), zero behind the ends; and the last states, each
    (layers ways, N, H). state: the layer's state_dict, as arrays."""
    options = dict(options)
    layers, ways = options.pop("num_layers", 1), 1 + options.pop("bidirectional", False)
    hidden = state["weight_hh_l0"].shape[1]
    count = 2 if kind == "LSTM" else 1
    if states is None:
        states = [np.zeros((layers * ways, len(x), hidden))] * count
    ends = [s.copy() for s in states]

    def p(name):
        value = options.get(name, 0.0)
        return options["p"] if value is True else value

    for layer in range(layers):
        if training:
            locked = p("input_p") if layer == 0 else p("between_p")
            if locked:
                x = x * scaled(masks.locked(0, layer, 0, x.shape[2], locked), locked)[:, None]
            if layer and p("dropout"):
                each = masks.each_step(9, layer, 0, x.shape[2], p("dropout"))
                x = x * scaled(each, p("dropout"))
        y = np.zeros((*x.shape[:2], ways * hidden))
        for way in range(ways):
            end = f"_l{layer}" + ("_reverse" if way else "")
            w_ih, w_hh = state["weight_ih" + end], state["weight_hh" + end]
            nothing = np.zeros(len(w_ih))
            b_ih, b_hh = (state.get(f"bias_{k}" + end, nothing) for k in ("ih", "hh"))
            if training and p("weight_p"):
                w_hh = w_hh * scaled(masks.weight(layer, way, w_hh.shape, p("weight_p")),
                                     p("weight_p"))  # fmt: skip
            for n in range(len(x)):
                now = [s[layer * ways + way, n] for s in states]
                times = range(lengths[n])
                for t in reversed(times) if way else times:
                    how = Step(masks, options, p, training, layer, way, n, t, hidden)
                    step = lstm_step if kind == "LSTM" else gru_step
                    now = step(x[n, t], now, w_ih, w_hh, b_ih, b_hh, how)
                    y[n, t, way * hidden : (way + 1) * hidden] = now[0]
                for s, value in zip(ends, now, strict=True):
                    s[layer * ways + way, n] = value
        x = y
    if training and p("output_p"):
        keep = masks.locked(0, layers, 0, x.shape[2], p("output_p"))
        x = x * scaled(keep, p("output_p"))[:, None]
    return x, ends


class Step:
    """The noise of one step of one row."""

    def __init__(self, masks, options, p, training, layer, way, n, t, hidden):
        self.masks, self.p, self.training = masks, p, training
        self.gal = options.get("recurrent") == "gal"
        self.layer, self.way, self.n, self.t, self.hidden = layer, way, n, t, hidden

    def _drawn(self, purpose, p):
        return self.masks.each_step(purpose, self.layer, self.way, self.hidden, p)[self.n, self.t]

    def into_gate(self, h, gate):
        p = self.p("recurrent_p")
        if not (self.training and self.gal and p):
            return h
        return h * scaled(self.masks.locked(4 + gate, self.layer, self.way, len(h), p)[self.n], p)

    def candidate(self, g):
        p = self.p("recurrent_p")
        if not self.training or self.gal or not p:
            return g
        return g * scaled(self._drawn(1, p), p)

    def zoned(self, name, new, old):
        p = self.p(f"zoneout_{name}_p")
        if not p:
            return new
        if not self.training:
            return (1.0 - p) * new + p * old
        return np.where(self._drawn({"hidden": 2, "cell": 3}[name], p), new, old)


def _parts(w, n):
    return np.split(w, n)


def lstm_step(x, states, w_ih, w_hh, b_ih, b_hh, how):
    h, c = states
    a = [
        wi @ x + bi + wh @ how.into_gate(h, gate) + bh
        for gate, (wi, wh, bi, bh) in enumerate(
            zip(*(_parts(w, 4) for w in (w_ih, w_hh, b_ih, b_hh)), strict=True)
        )
    ]
    i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), np.tanh(a[2]), sigmoid(a[3])
    new_c = f * c + i * how.candidate(g)
    new_h = o * np.tanh(new_c)
    return [how.zoned("hidden", new_h, h), how.zoned("cell", new_c, c)]


def gru_step(x, states, w_ih, w_hh, b_ih, b_hh, how):
    (h,) = states
    into = [wi @ x + bi for wi, bi in zip(_parts(w_ih, 3), _parts(b_ih, 3), strict=True)]
    back = [
        wh @ how.into_gate(h, gate) + bh
        for gate, (wh, bh) in enumerate(zip(_parts(w_hh, 3), _parts(b_hh, 3), strict=True))
    ]
    r, z = sigmoid(into[0] + back[0]), sigmoid(into[1] + back[1])
    n = np.tanh(into[2] + r * back[2])
    return [how.zoned("hidden", z * h + (1.0 - z) * how.candidate(n), h)]


def arrays_of(layer):
    return {name: w.detach().numpy() for name, w in layer.state_dict().items()}


def double(seed, *shape):
    values = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(values, dtype=torch.float64)
