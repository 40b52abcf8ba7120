"""What stands in the table beside the law: names, fields, and arrays of other libraries."""

import importlib

import numpy as np
import pytest
from libraries import library

import thinned
from thinned.cli.main import main
from thinned.cli.methods import lines_of
from thinned.methods import LEFT_OUT, every, find
from thinned.methods.answers import ANSWERS
from thinned.methods.shown import place, tiles
from thinned.methods.table import _plainly, remark
from thinned.numpy import Dropout

from .trying import ROWS, name_of

AT = thinned.Address(seed=0, site="shown")

jax = library("jax")
jnp = library("jax.numpy")
torch = library("torch")

# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(("name", "row"), [
    ("early", "early_dropout"),
    ("late", "late_dropout"),
    ("annealed", "annealed_dropout"),
    ("curriculum", "curriculum_dropout"),
    ("antithetic", "stratified_dropout"),
    ("mirror", "stratified_dropout"),
    ("Stratified dropout", "stratified_dropout"),
    ("FLIP", "patch_dropout"),
    ("DropConnectLinear", "drop_connect"),
    ("SparseVariationalConv2d", "sparse_variational_dropout"),
    ("standard dropout", "vanilla_dropout"),
])  # fmt: skip
def test_a_row_is_found_by_what_people_call_it(name, row):
    assert find(name).name == row


# Names of arguments, of the field and of the first word alone, by the row that answers them.
CALLED = {
    "dropout": "mc_dropout MCDropout monte-carlo-dropout bayesian_dropout ensemble BALD inverted "
    "keep_prob hidden_dropout_prob hidden_dropout resid_pdrop embd_pdrop dropout_rate drop_rate "
    "drop_prob dropout_p proj_drop classifier_dropout bernoulli binary_dropout nn.Dropout "
    "classifier_dropout_prob seq_classif_dropout mlp_drop_rate head_drop_rate output_keep_prob "
    "dropout_ratio DropoutLayer noise_shape DropoutWrapper token_cutoff monte_carlo mask "
    "backward_pass random_seed member time_dropout expert_dropout epistemic rngs deterministic "
    "eval is_training broadcast_dims scale_by_keep dropout_add FusedDropout postnet_dropout "
    "inplace random_dropout nn.Dropout(p=0.5)",
    "vanilla_dropout": "vanilla VanillaDropout",
    "attention_dropout": "attention attn_pdrop attn_drop_rate attn_dropout attn_drop "
    "attention_dropout_rate attn_dropout_p sdpa flash_attention",
    "drop_path": "drop_path_rate droppath path stochastic_depth_prob survival_prob "
    "drop_connect_rate sd_prob FractalNet",
    "drop_connect": "dropconnect connect",
    "spatial_dropout": "channel channelwise channel_dropout spatial Dropout2d 2d_dropout DropoutNd "
    "drop_filter",
    "standout": "adaptive adaptive_dropout",
    "gaussian_dropout": "gaussian GaussianDropout",
    "gaussian_noise": "GaussianNoise additive_noise noise_injection input_noise noise",
    "uniform_dropout": "uniform",
    "variational_dropout": "variational vd",
    "locked_dropout": "locked rnn_dropout variational_rnn lockdrop dropout_W dropout_U",
    "recurrent_dropout": "recurrent recurrent_dropout_prob",
    "condition_dropout": "uncond_p",
    "modality_dropout": "modality_dropout_prob",
    "drop_block": "block dropblock batch_dropblock block_size",
    "drop_edge": "edge edge_dropout",
    "drop_node": "node node_dropout GRAND",
    "drop_head": "head",
    "layer_drop": "layer layer_dropout encoder_layerdrop progressive_layer_dropping PLD",
    "word_dropout": "word token_dropout mask_token",
    "embedding_dropout": "embedding",
    "alpha_dropout": "alpha selu_dropout selu",
    "concrete_dropout": "concrete gumbel_softmax",
    "patch_dropout": "mask_ratio MAE drop_token",
    "scheduled_drop_path": "scheduled_dropout dropout_decay",
    "hard_concrete": "l0",
    "sparse_variational_dropout": "ard",
    "lora_dropout": "lora",
    "annealed_dropout": "annealing",
    "targeted_dropout": "targeted",
    "nested_dropout": "nested ordered_dropout quantizer_dropout",
    "k_of_n_dropout": "k_of_n",
    "weight_drop": "weight_dropout wdrop",
    "masksembles": "Masksembles2D",
}


@pytest.mark.parametrize(("name", "row"), [
    (name, row) for row, names in CALLED.items() for name in names.split()
])  # fmt: skip
def test_a_row_is_found_by_the_fields_names(name, row):
    assert find(name).name == row


def test_answers_name_rows_and_hide_none():
    """A name answers once, and a row's or a library's own name is never taken from it."""
    rows = every()
    given = [_plainly(name) for answer in ANSWERS for name in answer.names]
    assert len(given) == len(set(given))
    own = {_plainly(name): row.name for row in rows for name in (row.name, row.title)}
    for answer in ANSWERS:
        assert answer.row in {row.name for row in rows} | {None}
        assert answer.row or answer.remark
        assert not {_plainly(name) for name in answer.names} & set(own)
        if answer.row:
            told = dict(lines_of(find(answer.row)))["found by"].split(", ")
            assert set(answer.names) <= set(told)


@pytest.mark.parametrize(("name", "told"), [
    ("mc_dropout", "thinned.members.predict(model, x, members=64)"),
    ("keep_prob", "p = 1 - keep_prob"),
    ("survival_prob", "p = 1 - survival_prob"),
    ("drop_connect_rate", "it is drop_path"),
    ("variational", "it is locked_dropout"),
    ("input_keep_prob", "p = 1 - input_keep_prob"),
])  # fmt: skip
def test_a_name_that_means_more_has_a_remark(name, told, capsys):
    assert told in remark(name)
    assert main(["methods", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert told in shown
    assert shown.index(told) < shown.index("formula")
    assert remark("dropout") == remark("drop_path") == remark("no such name") == ""


@pytest.mark.parametrize(("name", "told"), [
    ("swapout", "arXiv:1605.06465"),
    ("deep_ensemble", "thinned.members.predict"),
    ("SpecAugment", "arXiv:1904.08779"),
    # Their words are those of arguments, and yet none of them is plain dropout.
    ("BlockDrop", "arXiv:1711.08393"),
    ("DropActivation", "arXiv:1811.05850"),
    ("DropIn", "arXiv:1511.06951"),
    ("evolutional_dropout", "give them as p"),
    ("mixup", "it is no dropout"),
    # Subjects, of which there is a page.
    ("co-adaptation", "docs/learn/regulariser.md"),
    ("thinned networks", "docs/learn/networks.md"),
    ("conformal prediction", "docs/uncertainty.md"),
    ("ECE", "thinned.members.calibration"),
    ("pruning", "targeted_dropout"),
    ("causal_mask", "is not random"),
    ("MaxDropout", "arXiv:2007.13723"),
    # Kinds of models and of data, of which there is a table.
    ("LSTM", "docs/methods/which.md"),
    ("batch norm", "docs/methods/which.md"),
])  # fmt: skip
def test_what_is_no_row_is_explained(name, told, capsys):
    with pytest.raises(KeyError, match=f"{name} is not in the catalogue: .*{told}"):
        find(name)
    assert main(["methods", name]) != 0
    assert "is not in the catalogue" in " ".join(capsys.readouterr().err.split())


def test_a_row_without_a_paper_says_whose_it_is():
    without = {row.name for row in every() if not row.papers}
    assert without == {"k_of_n_dropout", "rank_dropout", "module_dropout"}
    assert find("k_of_n").source.startswith("This library.")
    for name in ("uniform_dropout", "attention_dropout", "drop_path", "feature_alpha_dropout"):
        assert find(name).source, name
        assert ("source", find(name).source) in lines_of(find(name))


def test_what_is_no_name_is_refused():
    for name in (None, 3, b"dropout"):
        with pytest.raises(TypeError, match=r"^find: name must be a string: a method's name, got "):
            find(name)
    for name in ("supernet", "keep", "mlp_rate", "router", "no_prob"):
        with pytest.raises(KeyError, match=f"no method is known as '{name}'"):
            find(name)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_was_left_out_is_told_with_the_reason(name):
    paper = LEFT_OUT[name].partition("It is ")[2].split(",")[0]
    for form in (name, name.upper(), name.lower().replace(" ", "_"), name.split()[0]):
        with pytest.raises(KeyError, match=f"{name} is not in the catalogue: .*{paper}"):
            find(form)


# ------------------------------------------------------------------------------------------ fields


@pytest.mark.parametrize("row", every(), ids=name_of)
def test_moments_and_places_are_told(row):
    assert row.moments.mean
    assert row.moments.variance
    room, _, name = row.where.rpartition(".")
    assert getattr(importlib.import_module(room), name) is row.function


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_the_law_is_that_of_the_moments(row):
    """A law whose moments are functions of p alone is that of y / x where nothing else varies."""
    if row.law is None or row.law.mean is None or row.moments.mean not in ("x", "(1 - p) x"):
        return
    mean, variance = row.moments.of(*row.sample.inputs(), p=row.sample.p, **row.sample.options)
    x = row.sample.inputs()[0]
    np.testing.assert_allclose(mean, row.law.mean(row.sample.p) * x)
    np.testing.assert_allclose(variance, row.law.variance(row.sample.p) * x**2)


def test_a_law_is_not_said_to_scale_beside_another_scale():
    for row in every():
        if row.law is not None and row.law.formula.startswith("m / (1 - p)"):
            assert row.scale == "1 / (1 - p)", row.name


def test_who_draws_nothing_has_no_fill_and_shares_nothing():
    for name in ("r_drop", "fraternal_dropout", "multi_sample_dropout", "early", "fast dropout"):
        row = find(name)
        assert (row.shared, row.fill) == ("", ""), name


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout", "mixout", "zoneout"])
def test_a_picture_shows_the_mask(name):
    row = find(name)
    found = np.stack(tiles(row)).reshape(-1, *tiles(row)[0].shape)
    shape, shared = found.shape, ()
    if name == "feature_alpha_dropout":
        shared = (2,)
    elif len(found) == 1:
        shape, found = found.shape[1:], found[0]
    keep = thinned.keep_mask(shape, row.sample.p, place(row), shared)
    np.testing.assert_array_equal(found != 0, keep)


def test_drop_blocks_moments_are_near_what_the_row_says():
    from thinned.methods.blocks import exact_gamma

    p, side, b = 0.2, 12, 3
    x = np.ones((1, 40, side, side))
    ys = [thinned.drop_block(x, p, AT.replace(step=i), block_size=b)[0] for i in range(150)]
    y = np.concatenate(ys)  # channels draw apart
    along = [min(i, side - b) - max(0, i - b + 1) + 1 for i in range(side)]
    kept = (1.0 - exact_gamma(p, (side, side), (b, b))) ** np.outer(along, along)
    mean = kept / kept.mean()
    np.testing.assert_allclose(y.mean(0), mean, atol=0.04)
    np.testing.assert_allclose(y.var(0), kept * (1.0 - kept) / kept.mean() ** 2, atol=0.04)
    assert mean.max() - mean.min() > 0.2


def test_random_erasing_hits_corners_least_and_nobody_more_often_than_p():
    x, p = np.ones((4000, 1, 9, 9)), 0.6
    hit = (thinned.random_erasing(x, p, AT, scale=(0.2, 0.4)) == 0).mean((0, 1))
    assert hit.max() < p
    corners = hit[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() < 0.5 * hit[4, 4]


# ----------------------------------------------------------------------------------------- vanilla


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_vanilla_dropout_is_the_papers(p):
    x = np.random.default_rng(0).standard_normal((7, 6))
    at = thinned.Address(3, "vanilla")
    keep = thinned.keep_mask(x.shape, p, at)
    np.testing.assert_array_equal(thinned.vanilla_dropout(x, p, at), np.where(keep, x, 0.0))
    tested = thinned.vanilla_dropout(x, p, at, training=False)
    np.testing.assert_array_equal(tested, x * (1.0 - p))
    rows = thinned.vanilla_dropout(x, p, at, shared_axes=(0,))
    np.testing.assert_array_equal(rows != 0, np.broadcast_to(
        thinned.keep_mask(x.shape, p, at, (0,)), x.shape
    ))  # fmt: skip
    if p < 1.0:
        scaled = thinned.dropout(x, p, at) * (1.0 - p)
        np.testing.assert_allclose(thinned.vanilla_dropout(x, p, at), scaled)


def test_vanilla_dropout_is_the_layers_in_numpy():
    layer, x = Dropout(0.3, at=AT, rescale="test"), np.ones((4, 5))
    for training in (True, False):
        np.testing.assert_array_equal(
            thinned.vanilla_dropout(x, 0.3, AT, training), layer.forward(x, training)
        )


# ------------------------------------------------------------------------ arrays of other libraries

X = np.ones((3, 5))


@pytest.mark.parametrize(("call", "name"), [
    (lambda x, z: thinned.mixout(x, z(3, 5), 0.5, AT), "mixout: u"),
    (lambda x, z: thinned.zoneout(x, z(3, 5), 0.5, AT), "zoneout: h_previous"),
    (lambda x, z: thinned.drop_connect(x, z(4, 5), None, 0.5, AT), "drop_connect: weight"),
    (lambda x, z: thinned.drop_connect(x, np.ones((4, 5)), z(4), 0.5, AT), "drop_connect: bias"),
    (lambda x, z: thinned.lora_dropout(x, np.ones((4, 5)), z(2, 5), np.ones((4, 2)), 0.5, AT),
     "lora_dropout: down"),
    (lambda x, z: thinned.variational_dropout(x, np.ones((4, 5)), z(4, 5), AT),
     "variational_dropout: log_alpha"),
    (lambda x, z: thinned.sparse_variational_dropout(x, np.ones((4, 5)), z(4, 5), AT),
     "sparse_variational_dropout: log_sigma2"),
    (lambda x, z: thinned.hard_concrete(x, z(5), AT), "hard_concrete: log_alpha"),
    (lambda x, z: thinned.r_drop((x, z(3, 5)), np.zeros(3, int)), "r_drop: an output"),
    (lambda x, z: thinned.fraternal_dropout((x, z(3, 5))), "fraternal_dropout: an output"),
])  # fmt: skip
def test_arrays_of_two_libraries_and_lists_are_refused(call, name):
    with pytest.raises(TypeError, match=f"^{name} must be an array of .* library .*, got Tensor"):
        call(X, torch.ones)
    with pytest.raises(TypeError, match=f"^{name} must be a numpy array or .*, got list"):
        call(X, lambda *shape: np.ones(shape).tolist())


def test_a_number_in_an_arrays_place_is_refused():
    with pytest.raises(TypeError, match=r"^variational_dropout: log_alpha must be a numpy"):
        thinned.variational_dropout(X, np.ones((4, 5)), -1.0, AT)


def test_numbers_of_numpy_are_numbers():
    x = np.ones((2, 1, 4, 4))
    for kind in (np.float32, np.int64):
        thinned.cutout(x, 1.0, AT, size=2, fill=kind(2))
        thinned.r_drop((X, X), np.zeros(3, int), alpha=kind(1))
        thinned.random_erasing(x, 1.0, AT, scale=(np.float32(0.1), kind(1)))
        thinned.lora_dropout(X, X, np.ones((2, 5)), np.ones((3, 2)), 0.5, AT, alpha=kind(1))
        assert thinned.masksembles_bank(8, AT, scale=np.float32(2)).shape == (4, 8)


def test_a_tiny_image_is_erased():
    for shape in ((6, 1, 1, 1), (6, 2, 2, 1), (6, 1, 3, 3)):
        for x in (np.ones(shape), torch.ones(shape), jnp.ones(shape)):
            y = np.asarray(thinned.random_erasing(x, 1.0, AT))
            assert (y == 0).any((1, 2, 3)).all()


@pytest.mark.parametrize("function", [thinned.expected_sigmoid, thinned.expected_relu])
def test_a_negative_variance_is_refused_where_it_can_be_seen(function):
    for kind in (np.asarray, torch.tensor, jnp.asarray):
        with pytest.raises(ValueError, match=r"variance must be 0 or more everywhere, got -4\.0\."):
            function(kind([1.0, 2.0]), kind([1.0, -4.0]))
    jax.jit(function)(jnp.ones(2), jnp.array([1.0, -4.0]))
