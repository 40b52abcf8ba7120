"""thin: models that compute the kept units alone, against the same masks on whole arrays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import thinned
import thinned.jax.equinox as te
import thinned.jax.nnx as tn
from thinned.jax.thinning import bernoulli_units, room_for
from thinned.members import predict

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8)), jnp.float32)
AT = thinned.Address(3, "a", 2)


def close(a, b):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-4), a, b)


class Block(nnx.Module):
    """The feed-forward part of a transformer's layer."""

    def __init__(self, rngs, kind=nnx.Dropout, act=jax.nn.gelu):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.up = nnx.Linear(8, 128, rngs=rngs)
        self.drop = kind(0.5, rngs=rngs)
        self.down = nnx.Linear(128, 8, rngs=rngs)
        self.last = nnx.Dropout(0.1, rngs=rngs)
        self.act = act

    def __call__(self, x):
        return x + self.last(self.down(self.drop(self.act(self.up(self.norm(x))))))


class Model(nnx.Module):
    def __init__(self, kind=nnx.Dropout, act=jax.nn.gelu):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([Block(rngs, kind, act) for _ in range(2)])
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Stack(nnx.Module):
    """Layers with stacked parameters, run by scan, recomputed in the backward pass."""

    def __init__(self):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def made(rngs):
            return Block(rngs)

        self.blocks = made(nnx.Rngs(0))

    def __call__(self, x):
        run = nnx.remat(lambda x, block: block(x))
        return nnx.scan(run, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)


@nnx.jit
def step(model, x):
    return nnx.value_and_grad(lambda model: (model(x) ** 2).sum())(model)


def pure(state):
    return nnx.to_pure_dict(nnx.state(state, nnx.Param))


# ------------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 3, 64, 2048])
def test_kept_units_are_those_of_the_mask_in_an_array_of_known_length(n, p):
    kept = bernoulli_units("f", n, p, AT)
    mask = thinned.keep_mask(n, p, AT)
    assert kept.units.shape == (room_for(n, p),)
    assert len(set(np.asarray(kept.units))) == len(kept.units)
    np.testing.assert_array_equal(np.sort(kept.units[kept.alive]), np.flatnonzero(mask))
    whole = thinned.dropout(jnp.ones(n), p, AT)
    np.testing.assert_array_equal(kept.on_whole(jnp.ones(n)), whole)
    np.testing.assert_array_equal(kept.on(jnp.ones(len(kept.units))), whole[kept.units])


def test_the_room_is_beyond_any_draw_and_no_more():
    from math import comb

    for n, p in ((64, 0.5), (100, 0.9), (512, 0.5)):
        room = room_for(n, p)
        beyond = sum(comb(n, k) * (1 - p) ** k * p ** (n - k) for k in range(room + 1, n + 1))
        assert beyond <= 2.0**-64
    assert room_for(2048, 0.5) == 1236
    assert room_for(10**6, 0.5) < 504_900


def test_too_many_kept_units_are_nan(monkeypatch):
    monkeypatch.setattr("thinned.jax.thinning.room_for", lambda n, p: 3)
    assert np.isnan(bernoulli_units("f", 64, 0.5, AT).on(jnp.ones(3))).all()


# --------------------------------------------------------------------------------------------- NNX


def with_exact_counts():
    return Model(tn.KOfNDropout)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("make", [Model, with_exact_counts, Stack])
def test_thin_is_elementwise_with_gradients(make):
    thin, whole = make(), make()
    report = tn.thin(thin, X, seed=3)
    assert len(report.thin) == len(report.not_thin)
    tn.thin(whole, X, seed=3, execution="elementwise")
    losses = []
    for _ in range(3):
        (loss, g), (other, h) = step(thin, X), step(whole, X)
        close((loss, pure(g)), (other, pure(h)))
        losses.append(float(loss))
        tn.tick(thin)
        tn.tick(whole)
    assert len(set(losses)) == 3
    kernel = (pure(g)["blocks"] if make is Stack else pure(g)["blocks"][0])["up"]["kernel"]
    assert 0 < (kernel != 0).any(-2).sum(-1).max() < 100
    text = nnx.jit(lambda model, x: model(x)).lower(thin, X).as_text()
    room = 64 if make is with_exact_counts else room_for(128, 0.5)
    assert f"8x{room}xf32" in text
    assert "8x128xf32> ->" not in text


def test_a_call_of_no_input_thins_a_perceptron_and_release_undoes_it():
    model = Model()
    before = nnx.graphdef(model)
    assert tn.thin(model).thin == ("blocks.0.drop", "blocks.1.drop")
    with pytest.raises(ValueError, match="adopted already"):
        tn.thin(model)
    assert type(model).__name__ == "Model"
    assert isinstance(model, Model)
    tn.release(model)
    assert nnx.graphdef(model) == before


def test_evaluation_is_the_whole_network_and_so_are_layers_called_by_themselves():
    model, plain = Model(), Model()
    tn.thin(model)
    for one in (model, plain):
        one.eval()
    close(model(X), plain(X))
    model.train()
    assert model.blocks[0].up(X).shape == (6, 128)
    assert model.blocks[0].drop(jnp.ones((2, 128))).shape == (2, 128)
    view = nnx.view(model, deterministic=True)
    close(view(X), plain(X))


@pytest.mark.long
def test_the_optimizer_ticks_and_a_resumed_model_goes_on():
    def made():
        model = Model()
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        tn.thin(model, seed=2, optimizer=optimizer)
        return model, optimizer

    @nnx.jit
    def train(model, optimizer):
        loss, g = nnx.value_and_grad(lambda model: (model(X) ** 2).mean())(model)
        optimizer.update(model, g)
        return loss

    model, optimizer = made()
    first = [train(model, optimizer) for _ in range(2)]
    state = jax.tree.map(jnp.copy, nnx.state((model, optimizer)))
    rest = [train(model, optimizer) for _ in range(2)]
    again = made()
    nnx.update(again, state)
    assert [train(*again) for _ in range(2)] == rest
    assert first[0] != rest[0]


def test_masks_are_those_of_pytorch_thin():
    torch = pytest.importorskip("torch")
    import thinned.torch

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Dropout(0.5),
                torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Dropout(0.3),
                torch.nn.Linear(32, 2),
            )  # fmt: skip

        def forward(self, x):
            return self.layers(x)

    theirs, rngs = Theirs(), nnx.Rngs(0)
    ours = nnx.Sequential(
        nnx.Linear(8, 64, rngs=rngs), jax.nn.relu, nnx.Dropout(0.5), nnx.Linear(64, 32, rngs=rngs),
        jnp.tanh, nnx.Dropout(0.3), nnx.Linear(32, 2, rngs=rngs),
    )  # fmt: skip
    for i in (0, 3, 6):
        weight = theirs.layers[i].weight.detach().numpy()
        ours.layers[i].kernel.set_value(jnp.asarray(weight.T))
        ours.layers[i].bias.set_value(jnp.asarray(theirs.layers[i].bias.detach().numpy()))
    reports = thinned.torch.thin(theirs, seed=7), tn.thin(ours, seed=7)
    assert str(reports[0]) == str(reports[1])
    close(ours(X), theirs(torch.tensor(np.asarray(X))).detach().numpy())
    found = predict(ours, X, members=5)
    wanted = predict(theirs, torch.tensor(np.asarray(X)), members=5)
    assert found.execution == "thin"
    close(found.mean, wanted.mean)


class Called(nnx.Module):
    """up, drop, down, called by a function of the three and x."""

    def __init__(self, call, kind=nnx.Linear, drop=None):
        rngs = nnx.Rngs(0)
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), kind(16, 16, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs) if drop is None else drop
        self.call = call

    def __call__(self, x, on=False):
        return self.call(self, x, on)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda m, x, on: m.down(jax.nn.sigmoid(m.drop(m.up(x)))), "does not keep 0"),
        (lambda m, x, on: m.down(m.drop(jax.nn.softmax(m.up(x)))), "before it, which is not el"),
        (lambda m, x, on: m.down(jnp.flip(m.drop(m.up(x)), -1)), "flip lies between"),
        (lambda m, x, on: m.down(m.drop(m.up(x)) * jnp.ones(16)), "from the same units"),
        (lambda m, x, on: m.down(m.drop(m.up(x) + jnp.arange(16.0))), "before it, which is not el"),
        (lambda m, x, on: m.drop(m.up(x)), "no layer lies between it and the result"),
        (lambda m, x, on: m.down(m.drop(x @ jnp.ones((8, 16)))), "dot_general lies before it"),
        (lambda m, x, on: (m.down(m.drop(h := m.up(x))), h), "and the result"),
        (lambda m, x, on: m.down(m.drop(m.drop(m.up(x)))), "another dropout"),
        (lambda m, x, on: m.down(m.down(m.drop(m.up(x)))), "'down' is called more than once"),
        (lambda m, x, on: m.down(h := m.drop(m.up(x))) + m.down(h), "several layers"),
        (lambda m, x, on: m.down(m.drop(m.up(x), deterministic=on)), "its call has deterministic="),
        (lambda m, x, on: m.down(m.up(x)), "does not call it with this input"),
        (lambda m, x, on: m.down(nnx.jit(lambda d, h: d(h))(m.drop, m.up(x))), "one layer alone"),
    ],
)
def test_where_no_site_runs_thin_the_error_says_why_and_the_model_stays(call, why):
    model = Called(call)
    before = nnx.graphdef(model)
    with pytest.raises(
        ValueError, match=f"no dropout of the model can run thin .*{why}.*Use adopt"
    ):
        tn.thin(model, X, False)
    assert nnx.graphdef(model) == before


def test_what_is_elementwise_may_be_written_by_hand():
    def call(m, x, on):
        h = m.up(x)
        h = m.drop(h * jax.nn.sigmoid(1.7 * h))
        return m.down(jnp.where(h > 0, h, 0.1 * h))

    thin, whole = Called(call), Called(call)
    tn.thin(thin, X, seed=1)
    tn.thin(whole, X, seed=1, execution="elementwise")
    close(thin(X), whole(X))


@pytest.mark.parametrize(
    ("drop", "why"),
    [
        (lambda: nnx.Dropout(0.0), "its rate is 0"),
        (lambda: nnx.Dropout(0.5, broadcast_dims=(0,)), "broadcast_dims"),
        (lambda: tn.KOfNDropout(0.5, axis=0), "its options"),
    ],
)
def test_dropout_that_draws_in_another_way_does_not_run_thin(drop, why):
    model = Called(lambda m, x, on: m.down(m.drop(m.up(x))), drop=drop())
    with pytest.raises(ValueError, match=why):
        tn.thin(model, X)


def test_code_that_goes_another_way_later_is_told_so():
    model = Called(lambda m, x, on: m.down(m.drop(m.up(x), deterministic=True if on else None)))
    tn.thin(model, X)
    with pytest.raises(RuntimeError, match="deterministic=, which came too late"):
        model(X, True)
    model = Called(lambda m, x, on: m.up(x) if on else m.down(m.drop(m.up(x))))
    tn.thin(model, X)
    with pytest.raises(RuntimeError, match="began and did not end"):
        model(X, True)
    model.drop.rate = 0.25
    with pytest.raises(ValueError, match=r"was 0.5 when the model was thinned, and is 0.25"):
        model(X)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match=r"an nnx\.Module"):
        tn.thin(eqx.nn.Linear(2, 2, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="execution must be"):
        tn.thin(Model(), execution="fast")
    with pytest.raises(ValueError, match=r"what the model takes is not known.*thin\(model, x\)"):
        tn.thin(Called(lambda m, x, on: m.down(m.drop(m.up(x[:, None, None, :8] + x.shape[5])))))


# ----------------------------------------------------------------------------------------- Equinox


class Feed(eqx.Module):
    up: eqx.nn.Linear
    drop: eqx.Module
    down: eqx.nn.Linear
    last: eqx.nn.Dropout

    def __init__(self, key, kind=eqx.nn.Dropout):
        a, b = jax.random.split(key)
        self.up, self.down = eqx.nn.Linear(8, 128, key=a), eqx.nn.Linear(128, 8, key=b)
        self.drop, self.last = kind(0.5), eqx.nn.Dropout(0.1)

    def __call__(self, x, *, key=None):
        keys = (None, None) if key is None else jax.random.split(key)
        h = self.drop(jax.nn.gelu(self.up(x)), key=keys[0])
        return x + self.last(self.down(h), key=keys[1])


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", [eqx.nn.Dropout, lambda p: te.KOfNDropout(p)])
def test_thin_equinox_is_elementwise_with_gradients(kind):
    model = Feed(jax.random.key(0), kind)
    thin, report = te.thin(model)
    whole, _ = te.thin(model, execution="elementwise")
    assert report.thin == ("drop",)

    @eqx.filter_jit
    def step(model, key):
        def loss(model):
            return (jax.vmap(lambda x: model(x, key=key))(X) ** 2).sum()

        return eqx.filter_value_and_grad(loss)(model)

    losses = []
    for i in range(2):
        (loss, g), (other, h) = (step(m, jax.random.key(i)) for m in (thin, whole))
        losses.append(float(loss))
        close((loss, jax.tree.leaves(g)), (other, jax.tree.leaves(h)))
    assert losses[0] != losses[1]
    assert 0 < (g.model.up.weight != 0).any(1).sum() < 100
    off = eqx.nn.inference_mode(thin)
    close(jax.vmap(off)(X), jax.vmap(eqx.nn.inference_mode(model))(X))
    at = thinned.jax.address(jax.random.key(1))
    close(thin(X[0], at=at), thin(X[0], key=jax.random.key(1)))
    with pytest.raises(RuntimeError, match="requires a key, or an address"):
        thin(X[0])
    with pytest.raises(ValueError, match="Give one of them"):
        thin(X[0], at=at, key=jax.random.key(1))


@pytest.mark.parametrize(
    ("between", "why"),
    [
        ([eqx.nn.Dropout(0.5), eqx.nn.Lambda(jax.nn.sigmoid)], "does not keep 0"),
        ([eqx.nn.LayerNorm(16), eqx.nn.Dropout(0.5)], "one layer alone"),
        ([eqx.nn.Dropout(0.0)], "its p is 0"),
        ([eqx.nn.Dropout(jnp.array(0.5))], "its p is an array"),
        ([te.Dropout(0.5, site="mine")], "a site of its own"),
    ],
)
def test_where_no_site_of_equinox_runs_thin_the_error_says_why(between, why):
    keys = jax.random.split(jax.random.key(0))
    first, last = eqx.nn.Linear(8, 16, key=keys[0]), eqx.nn.Linear(16, 2, key=keys[1])
    with pytest.raises(ValueError, match=f"can run thin.*{why}"):
        te.thin(eqx.nn.Sequential([first, *between, last]))


def test_wrong_arguments_of_equinox_are_refused():
    model, _ = te.thin(Feed(jax.random.key(0)))
    with pytest.raises(ValueError, match="thin already"):
        te.thin(model)
    with pytest.raises(TypeError, match=r"an eqx\.Module"):
        te.thin(Model())
    with pytest.raises(TypeError, match=r"thinned\.Address"):
        model(X[0], at=3)


# ------------------------------------------------------------------------------------------ members


def of_equinox():
    return Feed(jax.random.key(0))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("make", [Model, of_equinox])
def test_predict_runs_thin_what_it_runs_whole(make):
    plain, thin = make(), make()
    if make is Model:
        tn.thin(thin, seed=5)
    else:
        thin, _ = te.thin(thin)
    found = [
        predict(model, X, members=4, execution=how)
        for model in (plain, thin)
        for how in ("elementwise", "thin", "auto")
    ]
    told = [prediction.execution for prediction in found]
    assert told == ["elementwise", "thin", "elementwise", "elementwise", "thin", "thin"]
    for prediction in found[1:]:
        close(prediction.mean, found[0].mean)
        close(prediction.std, found[0].std)
    rows = [predict(model, X, members=2, share="row") for model in (plain, thin)]
    assert [prediction.execution for prediction in rows] == ["elementwise"] * 2
    close(rows[0].mean, rows[1].mean)
    one = [thinned.jax.member(model, 3)(X) for model in (plain, thin)]
    close(*one)


def test_a_thin_member_may_be_cut_out_of_a_thin_chain():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(8, 32, rngs=rngs), jax.nn.relu, nnx.Dropout(0.5), nnx.Linear(32, 2, rngs=rngs)
    )
    cut = thinned.jax.member(model, 3, execution="thin")(X)
    tn.thin(model)
    close(thinned.jax.member(model, 3, execution="thin")(X), cut)


def test_predict_says_where_it_cannot_run_thin():
    with pytest.raises(ValueError, match="'member' for execution='thin'"):
        predict(Model(), X, members=2, share="row", execution="thin")
    with pytest.raises(ValueError, match=r"got a function\. thinned\.jax\.thin_mlp"):
        predict(lambda x, at: thinned.dropout(x, 0.5, at), X, members=2, execution="thin")
    model = Called(lambda m, x, on: m.drop(m.up(x)))
    with pytest.raises(ValueError, match="predict: no dropout of the model can run thin"):
        predict(model, X, members=2, execution="thin")
