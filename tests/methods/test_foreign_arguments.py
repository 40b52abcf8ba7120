"""Arguments by the names of other libraries: which sentence answers them, and what it costs."""

import importlib
import inspect
import pickle

import numpy as np
import pytest
from libraries import needs

import thinned
from thinned.foreign_arguments import DROPS, KEEPS, SEEDS
from thinned.methods.table import every

AT = thinned.Address(seed=0, site="fc1", step=7)
X = np.ones(6, np.float32)
SENTENCES = {
    **dict.fromkeys(KEEPS, "is the probability to drop."),
    **dict.fromkeys(DROPS, "Use p, the probability to drop."),
    **dict.fromkeys(SEEDS, "use at=thinned.Address(seed=0"),
    "deterministic": "Use training=not deterministic.",
    "is_training": "Use training=is_training.",
    "noise_shape": "Use shared_axes, ",
    "inplace": "Use out=x to write into x.",
    "name": "use at=thinned.Address(seed=0, site=",
    "shared_axis": "Did you mean shared_axes?",
    "zyzzyva": "'zyzzyva' is no argument. The arguments are x, p, at, training,",
}


@pytest.mark.parametrize("name", sorted(SENTENCES))
@pytest.mark.parametrize("given", [{}, {"p": 0.5}, {"p": 0.5, "at": AT}])
def test_a_foreign_argument_of_dropout_gets_a_sentence(name, given):
    with pytest.raises(TypeError, match=rf"^dropout: '{name}' is no argument") as caught:
        thinned.dropout(X, **given, **{name: 0.5})
    assert SENTENCES[name] in str(caught.value)


def test_keep_mask_answers_too():
    with pytest.raises(TypeError, match=r"^keep_mask: 'keep_prob' .* p=1 - keep_prob"):
        thinned.keep_mask((2, 3), keep_prob=0.5, at=AT)


@pytest.mark.parametrize("function", [thinned.dropout, thinned.keep_mask])
def test_what_is_missing_is_named(function):
    first = X if function is thinned.dropout else (6,)
    with pytest.raises(TypeError, match=r"at must be a thinned.Address, got nothing"):
        function(first, 0.5)
    with pytest.raises(TypeError, match=r"p must be a float in \[0, 1\], got nothing\."):
        function(first, at=AT)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        function()


@pytest.mark.parametrize("function", [thinned.dropout, thinned.keep_mask])
def test_the_signature_shows_what_there_is_and_what_is_required(function):
    shown = inspect.signature(function).parameters
    assert "foreign" not in shown
    assert [n for n, p in shown.items() if p.default is p.empty] == [next(iter(shown)), "p", "at"]
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", thinned.methods.__all__)
def test_every_function_of_the_catalogue_answers(name):
    function = getattr(thinned, name)
    known = inspect.signature(function).parameters
    for foreign in ("keep_prob", "drop_rate", "rngs", "inplace", "noise_shape", "zyzzyva"):
        with pytest.raises(TypeError, match=rf"^{name}: '{foreign}' is no argument\.") as caught:
            function(1.0, **{foreign: 0.5})
        assert str(caught.value).endswith(f"The arguments are {', '.join(known)}.")
        if "p" in known and foreign in ("keep_prob", "drop_rate"):
            assert "the probability to drop" in str(caught.value)
    assert pickle.loads(pickle.dumps(function)) is function


ROWS = [row for row in every() if row.sample is not None]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_missing_p_or_address_is_named_in_either_mode(row):
    arrays = row.sample.inputs()
    for training in (True, False):
        how = {"training": training} if "training" in row.parameters else {}
        how |= row.sample.options
        with pytest.raises(TypeError, match=r"at must be a thinned\.Address, got nothing"):
            row.function(*arrays, **how, **({"p": 0.3} if row.has_p else {}))
        if row.has_p:
            with pytest.raises(TypeError, match=r"p must be .* got nothing"):
                row.function(*arrays, at=AT, **how)


CLASSIC = {
    ("dropout_forward", "keep_prob"): "its p is the probability to keep.",
    ("dropout_forward", "seed"): "dropout_param={'p': 0.5, 'mode': 'train', 'seed': 0}",
    ("vanilla_dropout", "p"): "Use keep=1 - p",
    ("vanilla_dropout", "keep_prob"): "Use keep, the probability to keep.",
    ("vanilla_dropout", "seed"): "Use rng=numpy.random.default_rng(0).",
    ("stochastic_deactivation", "keep_prob"): "Use p=1 - keep_prob",
    ("stochastic_deactivation", "random_state"): "Use seed.",
}


@pytest.mark.parametrize(("name", "given"), CLASSIC)
def test_the_forms_of_the_courses_answer_in_their_own_conventions(name, given):
    with pytest.raises(TypeError, match=rf"^{name}: '{given}' is no argument\. ") as caught:
        getattr(thinned.classic, name)([1.0], **{given: 0.5})
    assert CLASSIC[name, given] in str(caught.value)


def test_a_layer_of_numpy_answers():
    with pytest.raises(TypeError, match=r"^Dropout: 'rate' is no argument\. Use p, the prob"):
        thinned.numpy.Dropout(rate=0.5)


OF_MODELS = {
    ("adopt", "p"): "The model keeps its rates; thinned.torch.set_p",
    ("adopt", "generator"): "Use seed.",
    ("thin", "rate"): "The model keeps its rates",
    ("scaled_dot_product_attention", "dropout_p"): "Use p, the probability to drop.",
    ("flex_attention", "dropout_p"): "Use p, the probability to drop.",
    ("predict", "num_estimators"): "Use members, the number of thinned networks",
}


@needs("torch")
@pytest.mark.parametrize(("name", "given"), OF_MODELS)
def test_what_takes_a_model_answers(name, given):
    import thinned.torch

    room = thinned.members if name == "predict" else thinned.torch
    with pytest.raises(TypeError, match=rf"^{name}: '{given}' is no argument\. ") as caught:
        getattr(room, name)(None, **{given: 0.5})
    assert OF_MODELS[name, given] in str(caught.value)


OTHERS = [
    ("thinned", "Address", "layer", "Use site."),
    ("thinned", "Address", "epoch", "Use step."),
    ("thinned", "set_num_threads", "threads", "The arguments are n."),
    ("thinned.schedules", "linear", "keep_prob", "The arguments are "),
    ("thinned.classic", "dropout_forward", "keep_prob", "its p is the probability to keep."),
]
OF_TORCH = [
    ("thinned.torch", "set_p", "keep_prob", "Use p=1 - keep_prob"),
    ("thinned.torch", "no_dropout", "zyzzyva", "The arguments are model."),
    ("thinned.torch", "audit", "zyzzyva", "The arguments are model, "),
    ("thinned.torch", "weight_drop", "dropout", "Use p, the probability to drop."),
    ("thinned.torch.functional", "dropout", "keep_prob", "Use p=1 - keep_prob"),
    ("thinned.torch.functional", "dropout", "train", "Use training=train."),
    ("thinned.torch.functional", "dropout", "noise_shape", "Use shared_axes, "),
    ("thinned.torch.functional", "dropout2d", "drop_prob", "Use p, the probability to drop."),
    ("thinned.torch.functional", "feature_alpha_dropout", "seed", "at=thinned.Address(seed=0"),
    ("thinned.torch.fused", "dropout_add_norm", "dropout_p", "Use p, the probability to drop."),
    ("thinned.torch.fused", "bias_dropout_add", "prob", "Use p, the probability to drop."),
]
OF_MEMBERS = [
    ("thinned.members.calibration", "expected_calibration_error", "n_bins", "Did you mean bins?"),
    ("thinned.members.calibration", "reliability", "num_bins", "Did you mean bins?"),
    ("thinned.members.calibration", "conformal_sets", "zyzzyva", "The arguments are "),
]
OF_ESTIMATORS = [
    ("thinned", "DropoutMLPClassifier", "dropout", "Use p, the probability to drop."),
    ("thinned", "DropoutMLPClassifier", "seed", "Use random_state."),
    ("thinned", "DropoutMLPRegressor", "epochs", "Use max_iter."),
    ("thinned", "DropoutMLPRegressor", "lr", "Use learning_rate_init."),
    ("thinned", "DropoutMLPRegressor", "alpha", "Use weight_decay."),
    ("thinned", "DropoutMLPClassifier", "hidden_units", "Use hidden_layer_sizes."),
    ("thinned.fit", "fit", "zyzzyva", "The arguments are data, target, "),
]
OF_JAX = [
    ("thinned.jax", "dot_product_attention", "dropout_rate", "Use p, the probability to drop."),
    ("thinned.jax.nnx", "adopt", "rngs", "Use seed."),
    ("thinned.jax.linen", "adopt", "zyzzyva", "The arguments are model, separator."),
    ("thinned.jax.equinox", "adopt", "zyzzyva", "The arguments are model, separator."),
    ("thinned.jax.haiku", "adopt", "zyzzyva", "The arguments are transformed."),
]


def _of(library, cases):
    return [pytest.param(*case, marks=needs(library)) for case in cases]


@pytest.mark.parametrize(
    ("room", "name", "given", "sentence"),
    [
        *OTHERS,
        *_of("torch", OF_TORCH),
        *OF_MEMBERS,
        *_of("sklearn", OF_ESTIMATORS),
        *_of("flax", OF_JAX),
    ],
)
def test_what_is_no_row_answers_too(room, name, given, sentence):
    function = getattr(importlib.import_module(room), name)
    first = [] if isinstance(function, type) else [None]
    with pytest.raises(TypeError, match=rf"^{name}: '{given}' is no argument\. ") as caught:
        function(*first, **{given: 0.5})
    assert sentence in str(caught.value)


def test_the_signatures_are_what_they_were():
    assert list(inspect.signature(thinned.Address).parameters) == ["seed", "site", "step", "call"]
    assert pickle.loads(pickle.dumps(AT)) == AT


MODULES = {
    "keep_prob": "Use p=1 - keep_prob",
    "drop_rate": "Use p, the probability to drop.",
    "seed": "seed",
    "training": "model.train() and model.eval()",
}


@needs("torch")
@pytest.mark.parametrize("name", MODULES)
def test_every_constructor_of_a_module_answers(name):
    import torch

    import thinned.torch

    answered = 0
    for kind in sorted(set(thinned.torch.__all__) - {"Clock"}):
        made = getattr(thinned.torch, kind)
        if not (isinstance(made, type) and issubclass(made, torch.nn.Module)):
            continue
        with pytest.raises(TypeError, match=rf"^{kind}: '{name}' is no argument\.") as caught:
            made(**{name: 0.5})
        known = str(caught.value).rpartition("The arguments are ")[2].rstrip(".").split(", ")
        if "p" in known or name not in ("keep_prob", "drop_rate"):
            assert MODULES[name] in str(caught.value).partition("is no argument")[2], kind
            answered += 1
    assert answered > 30


@needs("torch")
def test_a_constructor_is_what_it_was():
    import torch

    import thinned.torch

    assert list(inspect.signature(thinned.torch.Dropout).parameters) == ["p", "inplace"]
    assert thinned.torch.LayerDrop([torch.nn.ReLU()], 0.3).p == 0.3

    class Own(thinned.torch.DropEdge):
        def __init__(self, strength):
            super().__init__(p=strength)

    assert Own(strength=0.25).p == 0.25
