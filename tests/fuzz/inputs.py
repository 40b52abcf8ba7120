"""Values to call with, as expressions of Python, so that a call reads as one line and is replayed
by reading it. In each pool the simplest stand first: what is shrunk moves to the front.

GOOD : {parameter, or "function.parameter": expressions that are right, or right beside others}
ODD : what may be taken or refused anywhere, but never answered in another way.
WRONG : {parameter: what must be refused there}
"""

import decimal
import fractions
import math
import warnings

import ml_dtypes
import numpy as np

import thinned

from .surface import rows

FLOATS = ("float32", "float64", "float16", "bfloat16")


class Namespace(dict):
    """What an expression may name: arrays are those of one backend."""

    def __init__(self, backend):
        super().__init__(
            Address=thinned.Address,
            Decimal=decimal.Decimal,
            Fraction=fractions.Fraction,
            Window=thinned.Window,
            inf=math.inf,
            math=math,
            nan=math.nan,
            np=np,
            thinned=thinned,
        )
        self.backend = backend
        self |= {"x": self.x, "given": self.given, "bad": bad, "fitted": fitted, "ran": ran}

    def __missing__(self, name):
        if name in ("torch", "nn"):
            import torch

            return {"torch": torch, "nn": torch.nn}[name]
        if name in ("jax", "jnp"):
            import jax

            return {"jax": jax, "jnp": jax.numpy}[name]
        if name in MADE:
            return MADE[name]
        raise KeyError(name)

    def x(self, shape=(2, 3), dtype="float32", seed=0, layout="plain"):
        """An array of the backend: seed 0 counts from 1, others are drawn, some not finite."""
        return self._of(values(shape, dtype, seed), dtype, layout)

    def given(self, where, place=0, seed=0, dtype="float32", layout="plain"):
        """An array that the row of `where` is tried with."""
        array = rows()[where].sample.inputs(seed)[place]
        if array.dtype.kind != "f":
            dtype = str(array.dtype)
        return self._of(array, dtype, layout)

    def _of(self, array, dtype, layout):
        with np.errstate(over="ignore"):
            array = array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        if self.backend == "numpy":
            return LAYOUTS[layout](array)
        if self.backend == "jax":
            import jax.numpy as jnp

            return jnp.asarray(array)
        import torch

        wide = array.astype(np.float64) if dtype in FLOATS else array
        tensor = torch.from_numpy(np.array(wide)).to(getattr(torch, dtype))
        return tensor if layout == "plain" or tensor.ndim < 2 else _strided(tensor)


def _strided(tensor):
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


def values(shape, dtype, seed):
    n = math.prod(shape)
    if seed == 0 or dtype not in FLOATS:
        return (np.arange(n) % 7 + 1).reshape(shape)
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal(n) * np.exp(rng.uniform(-9, 9, n))
    if seed % 3 == 0:
        strange = [math.inf, -math.inf, math.nan, -0.0, 1e-40, 65504.0, 3.3e38]
        numbers = np.where(rng.random(n) < 0.3, rng.choice(strange, n), numbers)
    return numbers.reshape(shape)


def _strided_array(array):
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    return wide[..., 0]


def _read_only(array):
    array.setflags(write=False)
    return array


class Subclass(np.ndarray):
    """An array class of a user's, with nothing of its own."""


LAYOUTS = {
    "plain": lambda array: array,
    "columns": np.asfortranarray,
    "strided": _strided_array,
    "reversed": lambda array: array[..., ::-1].copy()[..., ::-1] if array.ndim else array,
    "read-only": _read_only,
    "swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "subclass": lambda array: array.view(Subclass),
    "masked": np.ma.array,
    "matrix": lambda array: np.matrix(array) if array.ndim <= 2 else array,
}
OURS = ("plain", "columns", "strided", "reversed", "read-only")


def bad(kind):
    """Objects that have no short expression."""
    return {
        "float": _Float(),
        "shape": _Shape(),
        "text": type("Text", (str,), {})("float32"),
        "escape": "\x1b[31mred\x1b[0m\n::error::text",
        "cycle": _cycle(),
    }[kind]


class _Float:
    def __float__(self):
        return math.nan


class _Shape:
    shape = (2, 3)
    dtype = "float32"


def _cycle():
    found = []
    found.append(found)
    return found


def fitted(estimator):
    """An estimator's answers, trained on little."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 3))
    y = x[:, 0] > 0 if hasattr(estimator, "predict_proba") else x[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, that 3 epochs are few
        return estimator.fit(x, y).predict(x)


def ran(module, *arrays):
    """What a module makes of its input in training: the same after the same manual_seed."""
    import torch

    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append(module(*arrays))
    require_same(*found, "after the same manual_seed")
    return found[0]


def require_same(first, second, when):
    from .calls import DiffersError, same

    if not same(first, second):
        raise DiffersError(f"two answers {when}")


def _model():
    from torch import nn

    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))


def _cached():
    from thinned import classic

    return classic.dropout_forward(np.ones((2, 3)), {"mode": "train", "p": 0.5, "seed": 1})[1]


def _noised():
    from torch import nn

    return thinned.torch.weight_drop(nn.Linear(3, 2), "weight", 0.5)


def _adopted():
    model = _model()
    thinned.torch.adopt(model)
    return model


def _network():
    return thinned.numpy.Sequential(
        thinned.numpy.Linear(3, 4), thinned.numpy.Dropout(0.5), thinned.numpy.Linear(4, 2)
    )


class _Made(dict):
    """Names that stand for something made anew at each use: `model()`."""


MADE = _Made(
    model=_model,
    adopted=_adopted,
    cached=_cached,
    noised=_noised,
    network=_network,
)

_REAL = ("0.5", "0.25", "1.0", "2.0", "0.1", "3.0")
_COUNT = ("1", "2", "3", "4")
_FLAG = ("False", "True")
_P = (
    "0.5",
    "0.0",
    "1.0",
    "0.3",
    "0.1",
    "0.999",
    "1e-10",
    "2**-33",
    "1 - 2**-33",
    "np.float32(0.1)",
)
_P += ("0", "1", "Fraction(1, 3)", "np.float16(0.1)", "np.array(0.7)")
_PROBABILITIES = ("np.array([[.7, .3], [.2, .8]])", "[[.7, .3], [.2, .8]]", "np.ones((3, 2)) / 2")
_LABELS = ("np.array([0, 1])", "[0, 1]", "np.zeros(3, int)", "np.array([1, 2])", "['a', 'b']")
_COLUMN = ("np.array([1., 2.])", "[1., 2.]", "np.zeros(3)", "np.array([.5, nan])", "np.zeros(0)")
_MODEL = ("model()", "adopted()", "nn.Linear(3, 2)")
_SCHEDULE = ("0.5", "thinned.schedules.constant(0.5)", "thinned.schedules.linear(0., .5)")
_NAME = ("'weight'", "'bias'", "'none'", "''", "'weight.x'")
_AT = ("Address()", "Address(1)", "Address(2**64 - 1, 2**32 - 1, 2**32 - 2, 2**16 - 1)")
_AT += ("Address(seed=42, site='fc1', step=7)", "Address(3, 'naïve', 1, 255)", "Address(2**40)")

GOOD = {
    "p": _P,
    "at": _AT,
    "training": ("True", "False"),
    "mirror": _FLAG,
    "thinned.layer_drop.skip": ("True", "False"),
    "thinned.torch.LayerDrop.skip": ("None", "True", "False"),
    "thinned.torch.set_p.pattern": ("'*'", "'1'", "'nothing'"),
    "window": ("None", "Window(0)", "Window(3)", "Window(2**40)", "Window((1, 0))"),
    "x": ("x((2, 3))",),
    "input": ("x((2, 3))", "x((2, 3, 4))", "x((2, 3, 4, 2), 'float64', 1)", "x((2, 2, 2, 2, 2))"),
    "shape": ("3", "(2, 3)", "()", "(0, 2)", "(200,)", "(3, 1, 5)", "np.int64(4)", "[2, 2]"),
    "shared_axes": ("()", "0", "(0,)", "(1,)", "-1", "(0, 1)", "(-1, -2)", "[0]"),
    "bias": ("None", "True", "False"),
    "inplace": _FLAG,
    "axis": ("1", "-1", "0", "2"),
    "alpha": _REAL,
    "beta": ("(0.0, 1.0)", "(-1.0, 1.0)", "(0.5, 0.5)"),
    # PyTorch's own arguments, which it is handed as they are.
    "dtype": ("None",),
    "device": ("None", "'cpu'"),
    "thinned.numpy.Linear.dtype": ("np.float32", "np.float64", "'float64'"),
    "channel_axis": ("1", "-1", "2"),
    "head_axis": ("1", "2", "-1"),
    "time_axis": ("1", "0", "-1"),
    "class_axis": ("-1", "1"),
    "batch_axis": ("0", "1"),
    "model": _MODEL,
    "module": ("nn.Linear(3, 2)", "noised()", "model()"),
    "name": _NAME,
    "seed": ("0", "1", "2**32", "2**64 - 1", "np.uint64(7)"),
    "site": ("0", "'fc1'", "''", "2**32 - 1", "np.str_('fc1')", "'层.0'"),
    "step": ("0", "1", "2**32 - 2"),
    "call": ("0", "1", "2**16 - 1"),
    "start": ("0", "1", "(1, 2)", "(0, 0)"),
    "global_shape": ("None", "(4, 5)", "9"),
    "weight": ("x((3, 3))", "x((2, 3))"),
    "labels": _LABELS,
    "probabilities": _PROBABILITIES,
    "calibration_probabilities": _PROBABILITIES,
    "calibration_labels": _LABELS,
    "calibration_mean": _COLUMN,
    "calibration_std": ("None", *_COLUMN),
    "calibration_y": _COLUMN,
    "uncertainty": _COLUMN,
    "lower": _COLUMN,
    "upper": _COLUMN,
    "y": _COLUMN,
    "std": _COLUMN,
    "mean": ("x((2, 3))", "np.array([1., 2.])"),
    "variance": ("x((2, 3))", "np.array([1., 2.])", "None"),
    "members": ("np.array([[1., 2.], [2., 3.]])", "3", "2", "np.zeros((4, 2))"),
    "generator": ("None", "torch.Generator().manual_seed(3)"),
    "temperature": ("0.5", "0.1", "2 / 3", "1"),
    "activation": ("None", "'relu'", "'tanh'", "abs"),
    "gamma": ("0.5", "'exact'", "'simple'", "0.0", "1.0", "None", "10.0"),
    "scale": ("2.0", "1.0", "(0.02, 0.33)", "(0.1, 0.1)", "None", "1.5"),
    "ratio": ("(0.3, 3.3)", "(1.0, 1.0)"),
    "weight_decay": ("0.0", "0.1"),
    "max_norm": ("None", "1.0"),
    "execution": ("'elementwise'", "'thin'", "'auto'"),
    "fill": ("0.0", "1.0", "-2.5"),
    "log_alpha": ("x((3,))", "x((2, 3))", "x((3, 3))"),
    "log_sigma2": ("x((3, 3))",),
    "loss": ("None", "lambda y: y.sum()", "np.array([1., 2.])"),
    "features": ("4", "3", "16"),
    "n": ("4", "1", "2", "7"),
    "until": ("1.0", "0.5", "10", "None"),
    "level": ("'image'", "'batch'", "'channel'", "'pixel'"),
    "size": ("2", "1", "(1, 2)", "16"),
    "rescale": ("'sample'", "'batch'", "'train'", "'test'", "'none'"),
    "inference": ("'gaussian'", "'mean'"),
    "edges": ("x((2, 5), 'int64')", "np.array([[0, 1, 2], [1, 2, 0]])", "np.zeros((2, 0), int)"),
    "nodes": ("None", "9", "3"),
    "directed": _FLAG,
    "exact": _FLAG,
    "outputs": ("[x((2, 3)), x((2, 3), 'float32', 1)]", "(x((2, 3)),)", "x((2, 2, 3))"),
    "bins": ("15", "1", "2"),
    "tau": _REAL,
    "w": ("x((2, 3))", "x((3, 4), 'float64', 1)"),
    "u": ("x((2, 3))",),
    "target": ("'weights'", "'units'", "np.array([[1., 2.]])"),
    "sites": ("None", "('a',)", "(3,)"),
    "thinned.jax.thin_mlp.layers": ("[(x((3, 4)), None), (x((4, 2)), x((2,)))]",),
    "thinned.jax.thin_mlp.activation": ("abs", "[abs]"),
    "*parts": ("(0.5, 0.2)", "(thinned.schedules.constant(0.1), 0.5)", "()"),
    "threshold": ("3.0", "0.0"),
    "steps": ("None", "2", "100"),
    "hidden_layer_sizes": ("(4,)", "(3, 3)", "4"),
    "solver": ("'adam'", "'sgd'"),
    "learning_rate_init": ("0.01",),
    "learning_rate": ("0.01", "0.1"),
    "batch_size": ("'auto'", "8", "None"),
    "max_iter": ("3", "1"),
    "tol": ("1e-4", "0.0"),
    "n_iter_no_change": ("3",),
    "early_stopping": _FLAG,
    "validation_fraction": ("0.1", "0.5"),
    "momentum": ("0.9", "0.0"),
    "shuffle": _FLAG,
    "random_state": ("0", "None", "np.random.RandomState(1)"),
    "warm_start": _FLAG,
    "verbose": ("False",),
    "keep": ("0.5", "1.0", "True", "False"),
    "block_size": ("2", "1", "(1, 2)", "7"),
    "shared_channels": _FLAG,
    "with_noise": _FLAG,
    "class_weight": ("None", "'balanced'"),
    "weights": ("None", "np.ones(3)"),
    "penalty": ("0.0", "0.01"),
    "free": ("1", "2"),
    "calibration_lower": _COLUMN,
    "calibration_upper": _COLUMN,
    "logits": _PROBABILITIES,
    "standard_error": ("0.1", "0.0"),
    "score": ("lambda *a: np.size(a[0])", "lambda *a: np.ones(3)"),
    "confidence": ("0.95", "0.5"),
    "*arrays": ("(np.array([[.7, .3], [.2, .8]]), np.array([0, 1]))", "(np.array([1., 2.]),)"),
    "key": ("jax.random.key(0)", "jax.random.PRNGKey(3)", "x((1, 2, 3, 4))"),
    "layer": ("lambda h: h + h", "None", "nn.Linear(3, 2)"),
    "norm": _REAL,
    "per_batch": _FLAG,
    "by": ("'element'", "'column'"),
    "width": ("1", "2", "3"),
    "forward": ("'shake'", "'even'"),
    "backward": ("'shake'", "'even'", "'keep'"),
    "c": ("0.1", "0.0", "1.0"),
    "weak": ("'drawn'", "'dropped'", "'zero'"),
    "network": ("network()",),
    "scores": ("np.array([[1., 2.], [0., 3.]])", "np.zeros((3, 2))"),
    "prefix": ("1", "0", "2", "(0, 2)"),
    "null": ("0", "x((3,))", "x((2, 3))", "x((3,), 'int64')", "False"),
    "sizes": ("None", "(1, 2)", "(3,)", "(2, 1, 1)"),
    "keep_one": _FLAG,
    "rank_axis": ("-1", "1"),
    "walks": _COUNT,
    "length": _COUNT,
    "thinned.dropout_path.start": ("'node'", "'edge'"),
    "return_mask": _FLAG,
    "return_indices": _FLAG,
    "value": (*_SCHEDULE, "x((1, 2, 3, 4))"),
    "prune": _FLAG,
    "inputs": ("torch.ones(2, 3)", "(torch.ones(2, 3),)"),
    "input_size": ("3", "4"),
    "hidden_size": ("4", "2"),
    "num_layers": ("1", "2"),
    "batch_first": _FLAG,
    "dropout": ("0.0", "0.5"),
    "bidirectional": _FLAG,
    **{f"{n}_p": ("0.0", "0.3", "False", "1.0") for n in ("input", "between", "output")},
    **{f"{n}_p": ("0.0", "0.3") for n in ("recurrent", "weight", "zoneout_hidden")},
    "zoneout_cell_p": ("0.0", "0.3"),
    "recurrent": ("'candidate'", "'state'", "'gates'"),
    "unk": ("0", "3"),
    "spare": ("()", "(1, 2)"),
    "optimizer": ("None",),
    "ranks": ("None", "'split'", "'independent'", "'replicated'"),
    "group": ("None",),
    "schedule": ("None", *_SCHEDULE),
    "dout": ("np.ones((2, 3))",),
    "cache": ("cached()",),
    "dropout_param": ("{'mode': 'train', 'p': 0.5, 'seed': 1}", "{'mode': 'test', 'p': 0.5}"),
    "grad": ("np.ones((2, 3))",),
    "rng": ("np.random.default_rng(0)", "None", "np.random.RandomState(0)"),
    "out": ("None", "x((2, 3))"),
    "tokens": ("None", "x((2, 2), 'int64')"),
    "inverted": _FLAG,
    "kappa": ("0.15", "0.0"),
    "like": ("None", "x((2, 3))", "x((1,), 'float64')"),
    "down": ("x((2, 3))",),
    "up": ("x((2, 2))",),
    "bank": ("np.ones((2, 3), bool)", "thinned.masksembles_bank(3, Address(1), n=2)"),
    "binning": ("'width'", "'count'"),
    "share": ("'member'", "'none'", "'batch'"),
    "progress": ("None", "lambda done, all: None"),
    "antithetic": _FLAG,
    "fair": _FLAG,
    "quantiles": ("None", "(0.1, 0.9)", "0.5"),
    "task": ("None", "'classification'", "'regression'"),
    "output": ("None", "lambda y: y"),
    "evidence": ("x((2, 3))",),
    "other": ("x((2, 3))",),
    "s": ("x((2, 3))",),
    "samples": ("None", "2"),
    "beta_1": ("0.9", "0.0"),
    "beta_2": ("0.999", "0.0"),
    "epsilon": ("1e-8",),
    "n_in": ("3", "1"),
    "n_out": ("2", "1"),
    "init": ("'he'", "'glorot'", "'zeros'"),
    "*layers": ("(thinned.numpy.Linear(3, 2),)", "(thinned.numpy.ReLU(),)", "()"),
    "prediction": ("np.array([[1., 2.]])",),
    "function": ("lambda step, total: 0.5", "lambda step, total: 1.5"),
    "depends_on": ("'steps'", "'depth'"),
    "after": ("0.5", "10"),
    "end": ("0.5", "0.0"),
    "starts": ("(0, 0.5)", "(0, 10)"),
    "member": ("0", "1"),
    "fn": ("lambda x, at: thinned.dropout(x, 0.5, at)", "lambda x, at: x"),
    "expected": ("None",),
    "draws": ("4", "400"),
    "tolerance": ("6.0",),
    "weight_regularizer": ("5e-8", "0.0"),
    "dropout_regularizer": ("1e-3",),
    "embedding": ("nn.Embedding(9, 3)", "nn.Linear(3, 2)"),
    "proj_size": ("0", "2"),
    "layers": ("[nn.Linear(3, 3), nn.ReLU()]", "[]"),
    "linear": ("nn.Linear(3, 2)",),
    "rank": ("2", "1"),
    "in_channels": _COUNT,
    "out_channels": _COUNT,
    "in_features": ("3", "1"),
    "out_features": ("2", "1"),
    "kernel_size": ("1", "3", "(1, 3)"),
    "stride": ("1", "2"),
    "padding": ("0", "1"),
    "measure": _FLAG,
    "k": ("0", "1"),
    "reference": ("None", "torch.ones(2, 3)"),
    "query": ("x((1, 2, 3, 4))", "x((2, 3, 4))"),
    "attn_mask": ("None", "torch.ones(3, 3, dtype=torch.bool)", "torch.ones(3, 3)"),
    "is_causal": _FLAG,
    "enable_gqa": _FLAG,
    "groups": ("1", "2"),
    # Where one function means another thing by the name.
    "thinned.members.predict.members": ("2", "5", "3"),
    "thinned.members.predict.x": ("torch.ones(2, 3)",),
    "thinned.members.sequence_members.model": (
        "nn.Sequential(nn.Embedding(5, 3), nn.Dropout(.5), nn.Linear(3, 2))",
    ),
    "thinned.members.sequence_members.x": ("torch.ones(2, 3, dtype=torch.int64)",),
    "thinned.stratified_dropout.members": ("3", "2", "1"),
    "thinned.torch.adopt.optimizer": ("None", "torch.optim.SGD(nn.Linear(1, 1).parameters(), .1)"),
    "thinned.torch.audit.loss": ("None", "lambda y: y.sum()"),
    "thinned.torch.audit.steps": ("2", "1"),
    "thinned.torch.audit.measure": ("False",),
    "thinned.methods.find.name": ("'dropout'", "'nn.Dropout'", "'timm.DropPath'", "'zone out'"),
    "thinned.fast_dropout_moments.bias": ("None", "x((2,))"),
    "thinned.fast_dropout_moments.weight": ("x((2, 3))",),
    "thinned.drop_connect.bias": ("None", "x((5,))"),
    "thinned.schedules.early.shape": ("'constant'", "'linear'"),
    "thinned.schedules.piecewise.p": ("(0.1, 0.5)", "(0.5,)"),
    "thinned.schedules.late.p": ("0.5", "0.0"),
    "thinned.testing.assert_expectation_kept.x": ("np.ones((2, 3))",),
    "thinned.classic.stochastic_deactivation.x": ("np.ones((2, 3))",),
    "thinned.classic.dropout_forward.x": ("np.ones((2, 3))",),
    "thinned.classic.vanilla_dropout.x": ("np.ones((2, 3))",),
    "thinned.layer_drop.layer": ("lambda h: h + h", "lambda h: h"),
    "thinned.fraternal_dropout.loss": ("None", "lambda y: (y * y).sum()"),
    "thinned.multi_sample_dropout.loss": ("lambda y: (y * y).sum()",),
    "thinned.r_drop.labels": ("x((2,), 'int64') % 3",),
    "thinned.numpy.squared_error.target": ("np.array([[1., 2.]])", "np.zeros((2, 2))"),
    "thinned.numpy.batches.n": ("7", "0", "1"),
    "thinned.numpy.batches.at": (*_AT, "None"),
    "thinned.numpy.Dropout.at": (*_AT, "None"),
    "thinned.numpy.Linear.at": (*_AT, "None"),
    "thinned.classic.vanilla_dropout.rng": ("np.random.default_rng(0)", "None"),
    "thinned.torch.scaled_dot_product_attention.scale": ("None", "0.5"),
    "thinned.set_num_threads.n": ("1", "2", "2**15 - 1"),
}

ODD = (
    "None", "0", "-1", "nan", "inf", "''", "True", "[]", "()", "{}", "1.5", "50", "-0.0", "0.5j",
    "10**400", "-10**400", "2**64", "2**63", "2**31", "1e308", "1e-320", "object()", "float",
    "'p'", "b'1'", "'0.5'", "[0.5]", "(1, 2, 3)", "{1: 2}", "range(3)", "iter([1])", "slice(1)",
    "...", "lambda *a, **k: None", "Fraction(1, 3)", "Decimal('0.5')", "np.float32(0.5)",
    "np.int8(-1)", "np.bool_(True)", "np.array(0.5)", "np.array([0.5])", "np.array('a')",
    "np.array(None)", "np.zeros(0)", "np.zeros((2, 3))", "np.ones(2, 'O')",
    "np.ones((2, 3), '>f8')", "np.ones((2, 3), 'S4')", "np.ones((2, 3), complex)",
    "np.ones((2, 3), np.longdouble)", "np.ones((2, 3), int)", "np.ones((2, 3), 'M8[s]')",
    "np.zeros(2, 'i4,f4')", "np.matrix([[1., 2.], [3., 4.]])",
    "np.ma.array([1., 2.], mask=[0, 1])", "np.ones((1,) * 40)", "np.full((2, 3), nan)",
    "x((2, 3))", "x((0, 3))", "x(())", "x((2, 3), 'int64')", "x((2, 3), 'bool')",
    "x((5,), 'float64', 3)", "Address(1)", "Window(1)", "Window((0, 0), (2, 3))", "type",
    "NotImplemented", "bad('float')", "bad('shape')", "bad('text')", "bad('escape')",
    "bad('cycle')", "'\\ud800'", "'a' * 5000", "[10**400]", "('a', 'b')", "torch.ones(2, 3)",
    "torch.tensor(0.5)", "torch.ones(2, 3, device='meta')", "torch.ones(2, 3).to_sparse()",
    "torch.ones(2, 3, dtype=torch.cfloat)", "torch.nn.Parameter(torch.ones(2, 3))",
    "jnp.ones((2, 3))", "jnp.float32(0.5)",
    "torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(3, 3)])",
)  # fmt: skip

_NO_NUMBER = ("object()", "'0.5'", "{}", "0.5j", "lambda *a, **k: None", "float", "b'1'")
_NO_P = ("None", "True", "nan", "1.5", "-1", "50", "inf", "10**400", "[0.5]", *_NO_NUMBER)
_NO_FLAG = ("None", "0", "1.5", "'True'", "[]", "np.zeros(3)", "object()")
_NO_ARRAY = ("None", "[1., 2.]", "1.5", "'x'", "object()", "(1, 2)", "x((2, 3), 'complex64')")
WRONG = {
    "p": _NO_P,
    "at": ("None", "0", "'fc1'", "(1, 2, 3)", "object()", "Address", "{}"),
    "training": _NO_FLAG,
    "mirror": _NO_FLAG,
    "fair": _NO_FLAG,
    "window": ("0", "(0, 1)", "'0'", "object()", "slice(1)", "Window(10**30)"),
    "x": _NO_ARRAY,
    "w": _NO_ARRAY,
    "shared_axes": ("64", "-65", "(0, 0)", "'0'", "1.5", "None", "object()", "nan"),
    "shape": ("-1", "'3'", "1.5", "None", "(2, -1)", "(2**63, 2)", "10**400"),
    "axis": ("64", "1.5", "'0'", "None", "10**400", "object()"),
    "seed": ("-1", "2**64", "1.5", "'0'", "10**400", "nan", "object()"),
    "step": ("-1", "2**32 - 1", "1.5", "'0'", "None", "nan"),
    "call": ("-1", "2**16", "1.5", "'0'", "None"),
    "site": ("-1", "2**32", "1.5", "b'fc1'", "None", "'\\ud800'"),
}
# A window of a mask that every row shares, or of an axis that it does not reach, is not looked at.
FREE = {"thinned.jax.address.step", "thinned.jax.address.call", "thinned.numpy.batches.at"}
# Wrong for every other function.
TAKEN = {
    (name, row.arrays[0], "x((2, 3), 'complex64')")
    for name, row in rows().items()
    if "complex" in row.takes
}
# Right, and more than this machine holds.
HUGE = {("thinned.numpy.batches", "n", "2**31")}
