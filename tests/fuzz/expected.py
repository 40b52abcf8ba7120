"""The right values of a call, where a row's equation is simple: bits by the oracle, values by
y = f + s m (x - f), both written here once more from the pages of the methods."""

import math

import numpy as np

from . import oracle


def place_of(at):
    return oracle.Place(*(int(n) for n in (at.seed, at.site, at.step, at.call)))


def indices(shape, window, shared):
    """The logical index of each element, in C order, with the window that the call was given."""
    ndim = len(shape)
    shared = tuple(axis % ndim for axis in shared)
    start = whole = None
    if window is not None:
        start = tuple(window.start)
        start += (0,) * (ndim - len(start))
        whole = window.global_shape
    return oracle.indices(shape, start, whole, shared)


def axes_of(value):
    """An axis or several: a dict or a set without any, too."""
    try:
        return tuple(int(n) for n in value)
    except TypeError:
        return (int(value),)


def _all_but(*kept):
    return lambda ndim, options: tuple(a for a in range(ndim) if a not in kept)


def _none(ndim, options):
    return ()


def _given(ndim, options):
    return axes_of(options.get("shared_axes", ()))


def _channels(ndim, options):
    kept = (0, options.get("channel_axis", 1) % ndim)
    return tuple(a for a in range(ndim) if a not in kept)


# Who shares a draw, for every row whose mask is Bernoulli(1 - p) at the call's own address.
SHARED = {
    "thinned.attention_dropout": _none,
    "thinned.drop_key": _none,
    "thinned.drop_message": _none,
    "thinned.drop_node": _all_but(0),
    "thinned.drop_path": _all_but(0),
    "thinned.dropout": _given,
    "thinned.embedding_dropout": _all_but(0),
    "thinned.locked_dropout": lambda ndim, options: (options.get("time_axis", 1) % ndim,),
    "thinned.mixout": _none,
    "thinned.recurrent_dropout": _none,
    "thinned.spatial_dropout": _channels,
    "thinned.stochastic_depth": _all_but(),
    "thinned.vanilla_dropout": _given,
    "thinned.weight_drop": _none,
    "thinned.word_dropout": _none,
    "thinned.zoneout": _none,
    "thinned.torch.functional.dropout": _given,
}
PLAIN = {"thinned.drop_key", "thinned.stochastic_depth", "thinned.vanilla_dropout"}
PLAIN |= {"thinned.word_dropout", "thinned.zoneout"}
WORDS = {"thinned.gaussian_dropout", "thinned.uniform_dropout"}
LARGEST = 400  # elements: the oracle is slow


def rate(p):
    return float(p.item() if hasattr(p, "item") else p)


def expected(name, given):
    """(values, tolerance) in C order, or None where nobody says. `given`: the arguments' values,
    arrays as NumPy's; those that were left out are not there."""
    if name in ("thinned.keep_mask", "thinned.packed_mask"):
        return _bits(name, given)
    x = next((given[n] for n in ("x", "w", "input") if n in given), None)
    if x is None or x.size > LARGEST or given.get("at") is None or given.get("tokens") is not None:
        return None
    if x.dtype.kind == "c":
        return None
    if name == "thinned.k_of_n_dropout":
        return _k_of_n(x, given)
    if name in WORDS:
        return _noise(name, x, given)
    return _bernoulli(name, x, given) if name in SHARED else None


def _mirrored(given):
    return bool(given.get("mirror", False)) != bool(given["at"].mirrored)


def _keeps(shape, given, shared):
    at, p, mirror = place_of(given["at"]), rate(given["p"]), _mirrored(given)
    where = indices(shape, given.get("window"), shared)
    known = {i: oracle.kept(at, i, p, mirror) for i in set(where)}
    return [known[i] for i in where]


def _bits(name, given):
    shape = axes_of(given["shape"])
    if math.prod(shape) > LARGEST:
        return None
    bits = _keeps(shape, given, axes_of(given.get("shared_axes", ())))
    if name == "thinned.packed_mask":
        packed = [bits[i : i + 8] for i in range(0, len(bits), 8)]
        return [sum(bit << place for place, bit in enumerate(byte)) for byte in packed], 0.0
    return bits, 0.0


def _fills(name, x, given):
    if name == "thinned.drop_key":
        masked = x.reshape(-1) == -math.inf  # by somebody else, and stays so
        return [-math.inf if is_masked else -30720.0 for is_masked in masked.tolist()]
    if name == "thinned.word_dropout":
        return [given["unk"]] * x.size
    beside = {"thinned.mixout": "u", "thinned.zoneout": "h_previous"}.get(name)
    return [0.0] * x.size if beside is None else numbers(given[beside])


def numbers(array):
    if array.dtype.kind in "iub":
        return array.reshape(-1).tolist()
    return array.astype(np.float64).reshape(-1).tolist()


def _bernoulli(name, x, given):
    if given.get("training", True) is False:
        return None
    p, dtype = rate(given["p"]), x.dtype.name
    keeps = _keeps(x.shape, given, SHARED[name](x.ndim, given))
    scale = 1.0 if name in PLAIN else None
    fills = _fills(name, x, given)
    if name == "thinned.word_dropout":  # ids that are never replaced
        spare = given.get("spare", ())
        keeps = [k or value in spare for k, value in zip(keeps, numbers(x), strict=True)]
    y = [
        _one(value, keep, p, dtype, scale, fill)
        for value, keep, fill in zip(numbers(x), keeps, fills, strict=True)
    ]
    return y, 0.0


def _one(value, keep, p, dtype, scale, fill):
    if isinstance(value, int):
        return value if keep else fill
    return oracle.dropped_out(value, keep, p, dtype, scale, fill)


def _k_of_n(x, given):
    axes = axes_of(given.get("shared_axes", ()))
    if given.get("training", True) is False or given.get("window") is not None or axes:
        return None
    axis, p = int(given.get("axis", -1)) % x.ndim, rate(given["p"])
    keeps, k = oracle.k_of_n(place_of(given["at"]), x.shape, p, axis, _mirrored(given))
    scale = x.shape[axis] / k if k else 1.0
    dtype = x.dtype.name
    inner = p if 0 < k < x.shape[axis] else (0.0 if k else 1.0)
    y = [
        oracle.dropped_out(value, keep, inner, dtype, scale)
        for value, keep in zip(numbers(x), keeps, strict=True)
    ]
    return y, 0.0


def _noise(name, x, given):
    """x m in the arithmetic of libraries, which differ in the last digits."""
    p = rate(given["p"])
    if given.get("training", True) is False or p == 1:
        return None
    at, mirror = place_of(given["at"]), _mirrored(given)
    where = indices(x.shape, given.get("window"), axes_of(given.get("shared_axes", ())))
    if name == "thinned.gaussian_dropout":
        std = math.sqrt(p / (1 - p))
        m = [1 + std * oracle.gaussian(at, i, mirror) for i in where]
    else:
        s = math.sqrt(3 * p / (1 - p))
        m = [1 + s * (2 * oracle.uniform24(oracle.word(at, i, mirror)) - 1) for i in where]
    y = [value * each if p else value for value, each in zip(numbers(x), m, strict=True)]
    y = [oracle.rounded(value, x.dtype.name) for value in y]
    size = 1 + math.sqrt(3 * p / (1 - p))
    coarse = {"float16": 2e-3, "bfloat16": 2e-2}.get(x.dtype.name, 2e-5)
    return y, coarse * size
