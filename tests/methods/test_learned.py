"""Learned noise: its law, its price, its modules, and that training moves it the right way."""

import copy
import math
import pickle

import numpy as np
import pytest
from libraries import library, needs
from scipy import integrate, stats
from sklearn.datasets import load_digits

import thinned
from thinned import Address
from thinned.methods import concrete, gates, variational
from thinned.methods.draws import Draws

from .trying import AT

torch = library("torch")
nn = library("torch.nn")
cross_entropy = library("torch.nn.functional").cross_entropy
checkpoint = library("torch.utils.checkpoint").checkpoint
adopt = library("thinned.torch").adopt
regularizer = library("thinned.torch").regularizer
release = library("thinned.torch").release

# PyTorch deprecates a part of itself that its compiler imports.
compiled = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is :DeprecationWarning")
SIGMAS = 6.0


def within(values, mean, variance):
    """Mean and variance of a sample along axis 0, against a law's."""
    n = len(values)
    assert (abs(values.mean(0) - mean) <= SIGMAS * np.sqrt(variance / n) + 1e-9).all()
    centred = (values - mean) ** 2
    spread = centred.std(0) / math.sqrt(n)
    assert (abs(centred.mean(0) - variance) <= SIGMAS * spread + 1e-9).all()
    assert np.max(variance) > 0


def over_u(f):
    """Mean and variance of f(u), u uniform in (0, 1), by the midpoint rule."""
    values = f((2 * np.arange(2**18) + 1) / 2**19)
    return values.mean(), values.var()


# ---------------------------------------------------------------------------------------- Concrete


def concrete_has_its_law():
    x = np.ones(100_000)
    for p, t in ((0.1, 0.1), (0.5, 0.1), (0.3, 2 / 3)):
        y = thinned.concrete_dropout(x, p, AT, temperature=t)
        odds = math.log(p / (1 - p))
        mean, variance = over_u(
            lambda u, o=odds, t=t, p=p: 1 / (1 + np.exp((o + np.log(u / (1 - u))) / t)) / (1 - p)
        )
        within(y, mean, variance)


def test_concrete_has_its_law():
    concrete_has_its_law()
    # The figures of the docstring.
    for p, off in ((0.1, 0.002), (0.3, 0.002), (0.5, 0.002), (0.9, 0.012)):
        odds = math.log(p / (1 - p))
        mean, variance = over_u(
            lambda u, o=odds, p=p: 1 / (1 + np.exp((o + np.log(u / (1 - u))) / 0.1)) / (1 - p)
        )
        assert abs(mean - 1) <= off
        assert variance * (1 - p) / p == pytest.approx(0.91, abs=0.01)


def test_concrete_is_differentiable_in_p():
    x = torch.linspace(-2, 2, 12, dtype=torch.float64)
    p = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: thinned.concrete_dropout(x, p, AT), (p,))
    same = thinned.concrete_dropout(x, 0.3, AT)
    torch.testing.assert_close(thinned.concrete_dropout(x, p, AT).detach(), same)
    with pytest.raises(ValueError, match="p must be below 1"):
        thinned.concrete_dropout(x, torch.tensor(1.0), AT)
    with pytest.raises(ValueError, match=r"p must be a float in \[0, 1\], got nan"):
        thinned.concrete_dropout(x, torch.tensor(math.nan), AT)
    with pytest.raises(TypeError, match="p must be one number"):
        thinned.concrete_dropout(x, torch.tensor([0.3]), AT)


def test_concrete_shares_draws_and_refuses():
    y = thinned.concrete_dropout(np.ones((2, 3, 4, 4)), 0.5, AT, shared_axes=(2, 3))
    assert (y == y[:, :, :1, :1]).all()
    assert len(np.unique(y[:, :, 0, 0])) == 6
    for temperature, error in ((0.0, ValueError), (math.nan, ValueError), ("cold", TypeError)):
        with pytest.raises(error, match="temperature must be a finite number above 0"):
            thinned.concrete_dropout(np.ones(3), 0.5, AT, temperature=temperature)


def test_the_entropy():
    for p in (0.1, 0.5, 0.9):
        wanted = -stats.bernoulli(p).entropy()
        assert thinned.concrete_entropy(p) == pytest.approx(float(wanted))
        at_tensor = thinned.concrete_entropy(torch.tensor(p, dtype=torch.float64))
        assert at_tensor.item() == pytest.approx(float(wanted))
    assert thinned.concrete_entropy(0.0) == thinned.concrete_entropy(1.0) == 0.0
    with pytest.raises(ValueError, match="concrete_entropy: p must be"):
        thinned.concrete_entropy(2.0)


def test_the_regulariser_is_the_papers():
    layer = nn.Linear(7, 3)
    module = thinned.torch.ConcreteDropout(
        layer, 0.2, weight_regularizer=0.01, dropout_regularizer=0.1
    )
    square = sum(float(w.detach().square().sum()) for w in layer.parameters())
    wanted = 0.01 * square / 0.8 + 0.1 * 7 * (0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert module.regularizer().item() == pytest.approx(wanted, rel=1e-5)
    alone = thinned.torch.ConcreteDropout(p=0.2, features=7, dropout_regularizer=0.1)
    wanted = 0.1 * 7 * (0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert alone.regularizer().item() == pytest.approx(wanted, rel=1e-5)
    assert regularizer(nn.ModuleList([module, alone])).item() == pytest.approx(
        (module.regularizer() + alone.regularizer()).item()
    )
    with pytest.raises(ValueError, match="has no module that learns"):
        regularizer(layer)


# ------------------------------------------------------------------------------------- variational


def variational_has_its_moments():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((4, 5)), rng.standard_normal((3, 5)), rng.standard_normal(3)
    log_alpha = rng.standard_normal((3, 5))
    rows = {row.name: row for row in thinned.methods.every()}
    for name in ("variational_dropout", "sparse_variational_dropout"):
        function = rows[name].function
        ys = np.stack([function(x, w, log_alpha, Address(seed), bias=b) for seed in range(4000)])
        within(ys, *rows[name].moments.of(x, w, log_alpha, bias=b))
        # One draw per example and output: none knows of its neighbour.
        z = (ys - ys.mean(0)) / ys.std(0)
        assert abs((z[:, 0] * z[:, 1]).mean(0)).max() < SIGMAS / math.sqrt(len(z))
        assert abs((z[:, :, 0] * z[:, :, 1]).mean(0)).max() < SIGMAS / math.sqrt(len(z))


def test_variational_has_its_moments():
    variational_has_its_moments()


@pytest.mark.parametrize("name", ["variational_dropout", "sparse_variational_dropout"])
def test_variational_by_address(name):
    function = getattr(thinned, name)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((6, 5), (3, 5), (3, 5))]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    whole = function(*arrays, AT)
    np.testing.assert_allclose(function(*tensors, AT).detach(), whole, rtol=1e-5, atol=1e-4)
    parts = [
        function(arrays[0][a:b], *arrays[1:], AT, window=thinned.Window(a))
        for a, b in ((0, 2), (2, 6))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole)
    np.testing.assert_allclose(
        function(*arrays, AT) + function(*arrays, AT, mirror=True),
        2 * arrays[0] @ arrays[1].T,
        atol=1e-6,
    )
    assert torch.autograd.gradcheck(lambda *a: function(*a, AT), tensors)
    zero = torch.zeros(6, 5, requires_grad=True)
    function(zero, *tensors[1:], AT).sum().backward()
    assert torch.isfinite(zero.grad).all()
    for narrow in (np.float16, np.float32):
        assert function(*(a.astype(narrow) for a in arrays), AT).dtype == narrow
    with pytest.raises(ValueError, match=r"weight must be of shape \(out, 5\)"):
        function(arrays[0], arrays[1].T, arrays[2], AT)
    with pytest.raises(ValueError, match="axis 1 must be whole"):
        function(*arrays, AT, window=thinned.Window((0, 5), (6, 10)))


def test_sparse_evaluation_prunes():
    x, w = np.eye(2), np.array([[1.0, 2.0], [0.1, 3.0]])
    log_sigma2 = np.log([[1.0, 1.0], [1.0, 100.0]])  # alpha 1, .25; 100, 11
    y = thinned.sparse_variational_dropout(x, w, log_sigma2, AT, False)
    np.testing.assert_array_equal(y, np.array([[1.0, 2.0], [0.0, 3.0]]).T)
    with pytest.raises(ValueError, match=r"log_sigma2 must be of weight's shape"):
        thinned.sparse_variational_dropout(x, w, log_sigma2[0], AT)


def the_kl_is_the_true_one():
    """To .01 and a constant: -.5 ln alpha + E ln |1 + sqrt(alpha) z|; above 0, and falling."""
    log_alphas = np.linspace(-8, 8, 17)

    def true(a):
        s = math.exp(a / 2)
        mean, _ = integrate.quad(
            lambda v: math.log(abs(v)) * stats.norm.pdf(v, 1, s),
            1 - 12 * s,
            1 + 12 * s,
            points=[0.0, 1 - s, 1.0, 1 + s] if 12 * s > 1 else [1.0],
            limit=400,
        )
        return -0.5 * a + mean

    found = np.array([float(thinned.variational_kl(np.array([a]))) for a in log_alphas])
    apart = found - [true(a) for a in log_alphas]
    assert np.ptp(apart) < 0.02
    assert (found > 0).all()
    assert (np.diff(found) < 0).all()
    assert found[-1] < 1e-3


def test_the_kl_is_the_true_one():
    the_kl_is_the_true_one()
    two = thinned.variational_kl(torch.zeros(2, 3)).item()
    assert two == pytest.approx(6 * float(thinned.variational_kl(np.zeros(1))))
    extreme = torch.tensor([-200.0, 200.0], requires_grad=True)
    thinned.variational_kl(extreme).backward()
    assert torch.isfinite(extreme.grad).all()


# ---------------------------------------------------------------------------------------------- L0


def gates_have_their_law():
    t, x = 2 / 3, np.ones((100_000, 3))
    log_alpha = np.array([-1.0, 0.5, 2.0])
    z = thinned.hard_concrete(x, log_alpha, AT)
    for j, a in enumerate(log_alpha):

        def gate(u, a=a):
            s = 1 / (1 + np.exp(-(np.log(u / (1 - u)) + a) / t))
            return np.clip(1.2 * s - 0.1, 0.0, 1.0)

        within(z[:, j], *over_u(gate))
        shut, _ = over_u(lambda u, gate=gate: (gate(u) == 0).astype(float))
        assert abs((z[:, j] == 0).mean() - shut) <= SIGMAS * math.sqrt(shut / len(x))
        assert float(thinned.expected_l0(np.array([a]))) == pytest.approx(1 - shut, abs=1e-4)
        assert (z[:, j] == 1).any()


def test_gates_have_their_law():
    gates_have_their_law()


def test_gates_by_address():
    x, log_alpha = np.arange(1.0, 13.0).reshape(4, 3), np.zeros((4, 1))
    y = thinned.hard_concrete(x, log_alpha, AT)
    np.testing.assert_allclose(
        thinned.hard_concrete(torch.tensor(x), torch.tensor(log_alpha), AT), y, rtol=1e-5
    )
    part = thinned.hard_concrete(x[1:], log_alpha[1:], AT, window=thinned.Window(1))
    np.testing.assert_array_equal(part, y[1:])
    shared = thinned.hard_concrete(x, np.zeros(3), AT, shared_axes=(0,)) / x
    np.testing.assert_allclose(shared, shared[:1].repeat(4, 0))
    a = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: thinned.hard_concrete(torch.tensor(x), a, AT), (a,))
    wanted = np.clip(1.2 / (1 + np.exp([3.0, 0.0, -3.0])) - 0.1, 0, 1)
    np.testing.assert_allclose(
        thinned.hard_concrete(np.ones(3), np.array([-3.0, 0.0, 3.0]), AT, False), wanted
    )


def test_a_shut_gate_hides_what_is_behind_it():
    x = torch.tensor([math.inf, math.nan, 1.0], requires_grad=True)
    log_alpha = torch.full((3,), -50.0, requires_grad=True)
    y = thinned.hard_concrete(x, log_alpha, AT)
    y.sum().backward()
    assert torch.equal(y.detach(), torch.zeros(3))
    assert torch.equal(x.grad, torch.zeros(3))
    assert torch.equal(log_alpha.grad, torch.zeros(3))


def test_gates_refuse():
    with pytest.raises(ValueError, match=r"broadcasts to x's shape \(2, 3\), got shape \(2,\)"):
        thinned.hard_concrete(np.ones((2, 3)), np.zeros(2), AT)
    with pytest.raises(ValueError, match="an array that broadcasts"):
        thinned.hard_concrete(np.ones(3), np.zeros((1, 3)), AT)
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        thinned.expected_l0(np.zeros(2), -1.0)


# ----------------------------------------------------------------------------------------- modules

MODULES = {
    "ConcreteDropout": lambda m: m.ConcreteDropout(nn.Linear(5, 3), 0.3),
    "alone": lambda m: m.ConcreteDropout(p=0.3, features=5),
    "VariationalLinear": lambda m: m.VariationalLinear(5, 3),
    "per weight": lambda m: m.VariationalLinear(5, 3, alpha="weights", bias=False),
    "SparseVariationalLinear": lambda m: noisy(m.SparseVariationalLinear(5, 3)),
    "HardConcrete": lambda m: m.HardConcrete(5),
    "L0Linear": lambda m: m.L0Linear(5, 3),
    "SparseVariationalConv2d": lambda m: noisy(m.SparseVariationalConv2d(1, 2, 3, padding=1)),
}
over_modules = pytest.mark.parametrize("name", MODULES)


def noisy(module):
    """Not at the start, where there is next to no noise to see."""
    nn.init.constant_(module.log_sigma2, -1.0)
    return module


def built(name):
    torch.manual_seed(1)
    return nn.ModuleDict({"site": MODULES[name](thinned.torch)})


def batch(name, rows=6):
    torch.manual_seed(2)
    x = torch.randn(6, 5)
    return (x.reshape(6, 1, 1, 5) if "Conv" in name else x)[:rows]


def run(model, x):
    """y and all gradients, of the regulariser too."""
    model.zero_grad()
    y = model["site"](x)
    (y.square().sum() + regularizer(model)).backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters())]


def same(found, expected, **how):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **how)


@over_modules
def test_a_module_alone_obeys_the_generator(name):
    model, x = built(name), batch(name)
    torch.manual_seed(4)
    first = run(model, x)
    assert all(torch.isfinite(g).all() and (g != 0).any() for g in first)
    torch.manual_seed(4)
    same(run(model, x), first)
    assert any(not torch.equal(run(model, x)[0], first[0]) for _ in range(5))
    model.eval()
    state = torch.get_rng_state()
    assert torch.equal(model["site"](x), model["site"](x))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.one_in(4)
@compiled
@over_modules
def test_adopted_compiled_recomputed_and_in_pieces(name):
    torch._dynamo.reset()
    model, x = built(name), batch(name)
    report = adopt(model, seed=3)
    clock = report.clock
    (row,) = report.rows
    assert (row.site, row.p, row.learned) == ("site", None, True)
    assert "learned" in str(report)

    def again():
        clock.buffer[2] = 0
        clock.tick()

    first = run(model, x)
    clock.tick()
    second = run(model, x)
    assert not torch.equal(first[0], second[0])
    again()
    model.zero_grad()
    y = checkpoint(model["site"], x, use_reentrant=False)
    (y.square().sum() + regularizer(model)).backward()
    same([y.detach(), *(p.grad for p in model.parameters())], second)
    again()
    parts = []
    for first_row in (0, 4):
        with clock.piece(first_row):
            parts.append(model["site"](x[first_row : first_row + 4]).detach())
    torch.testing.assert_close(torch.cat(parts), second[0])
    again()
    plain = model["site"].forward
    program = torch.compile(model["site"], fullgraph=True, backend="aot_eager")
    model.zero_grad()
    y = program(x)
    (y.square().sum() + regularizer(model)).backward()
    same([y.detach(), *(p.grad for p in model.parameters())], second)
    assert plain == model["site"].forward
    release(model)
    assert model["site"].site is None


@over_modules
def test_modules_copy_pickle_save_and_show_themselves(name):
    model, x = built(name), batch(name)
    adopt(model, seed=3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin["site"](x), copy.deepcopy(model)["site"](x))
    other = built(name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    release(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()["site"](x), model.eval()["site"](x))
    kind = type(model["site"]).__name__
    assert repr(model["site"]).startswith(f"{kind}(")
    assert ((model["site"].p > 0) & (model["site"].p < 1)).all()
    with pytest.raises(AttributeError, match=f"{kind}: p is learned and cannot be set"):
        model["site"].p = 0.2


def test_a_schedule_cannot_take_a_learned_p():
    with pytest.raises(
        ValueError, match=r"matches site 'site', whose p no schedule can move: .*learned"
    ):
        adopt(built("ConcreteDropout"), schedule={"*": 0.1})


def test_evaluation_is_the_plain_layer():
    torch.manual_seed(0)
    x = torch.randn(6, 5)
    for kind in (thinned.torch.VariationalLinear, thinned.torch.SparseVariationalLinear):
        layer, plain = kind(5, 3).eval(), nn.Linear(5, 3)
        layer.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(layer(x), plain(x))
    conv = thinned.torch.SparseVariationalConv2d(1, 2, (3, 2), stride=2, padding=1).eval()
    plain = nn.Conv2d(1, 2, (3, 2), stride=2, padding=1)
    conv.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(2, 1, 6, 6)
    torch.testing.assert_close(conv(image), plain(image))
    with torch.no_grad():
        conv.log_sigma2.fill_(9.0)
    assert conv.sparsity() == 1.0
    assert torch.equal(conv(image), plain.bias.reshape(1, 2, 1, 1).expand(conv(image).shape))


@pytest.mark.long
def test_the_convolution_has_the_moments_of_noisy_weights():
    torch.manual_seed(0)
    conv = noisy(thinned.torch.SparseVariationalConv2d(2, 2, 3)).double()
    image = torch.randn(1, 2, 4, 4).double()
    adopt(conv, seed=1)
    ys = np.stack([conv(image).detach().numpy() for _ in range(3000)])
    variance = nn.functional.conv2d(image**2, conv.log_sigma2.exp()).detach().numpy()
    mean = nn.functional.conv2d(image, conv.weight, conv.bias).detach().numpy()
    within(ys, mean, variance)


@needs("torch")
def test_gates_of_a_module():
    layer = thinned.torch.L0Linear(5, 3)
    with torch.no_grad():
        layer.log_alpha.copy_(torch.tensor([-5.0, -5.0, 0.0, 5.0, 5.0]))
    assert layer.sparsity() == 0.4
    assert layer.gates.tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    assert layer.regularizer().item() == pytest.approx(3 * (1 - layer.p).sum().item(), rel=1e-5)
    x = torch.randn(2, 5)
    wanted = (x * layer.gates) @ layer.weight.T + layer.bias
    torch.testing.assert_close(layer.eval()(x), wanted)
    channels = thinned.torch.HardConcrete(4, axis=1)
    image = torch.ones(2, 4, 3, 3)
    y = channels(image)
    assert (y == y[:1, :, :1, :1]).all()
    with pytest.raises(ValueError, match="of length 4 along axis 1"):
        channels(torch.ones(2, 3))


@needs("torch")
def test_modules_refuse():
    m = thinned.torch
    with pytest.raises(TypeError, match=r"got float. p stands second"):
        m.ConcreteDropout(0.5)
    with pytest.raises(ValueError, match=r"features must be given.*no layer to tell"):
        m.ConcreteDropout()
    for make in (
        lambda p: m.ConcreteDropout(nn.Linear(2, 2), p),
        lambda p: m.VariationalLinear(2, 2, p=p),
        lambda p: m.L0Linear(2, 2, p=p),
    ):
        for p in (0.0, 1.0):
            with pytest.raises(ValueError, match=r"p must be inside \(0, 1\) to be learned"):
                make(p)
        with pytest.raises(ValueError, match=r"got 50\. Did you pass a percentage"):
            make(50)
    with pytest.raises(ValueError, match="alpha must be 'layer' or 'weights', got 'unit'"):
        m.VariationalLinear(2, 2, alpha="unit")
    with pytest.raises(ValueError, match="dropout_regularizer must be a finite number of at"):
        m.ConcreteDropout(nn.Linear(2, 2), dropout_regularizer=-1.0)


# ---------------------------------------------------------------------------------------- training


@pytest.fixture
def one_thread():
    """Matrices as small as these are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return torch.tensor(X[order] / 16, dtype=torch.float32), torch.tensor(y[order])


def train(model, inputs, labels, price, steps=250):
    """Fit; price(progress) weighs the regulariser. Returns the accuracy on rows 1400 to 1797."""
    rows = min(len(inputs), 1400) if len(inputs) > 400 else len(inputs)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    adopt(model, seed=0, optimizer=optimizer)
    batches = torch.Generator().manual_seed(0)
    for step in range(steps):
        chosen = torch.randint(rows, (min(rows, 128),), generator=batches)
        loss = cross_entropy(model(inputs[chosen]), labels[chosen])
        optimizer.zero_grad()
        (loss + price(step / steps) * regularizer(model)).backward()
        optimizer.step()
    return model.eval()


def accuracy(model, inputs, labels):
    return float((model(inputs[1400:]).argmax(1) == labels[1400:]).double().mean())


def concrete_p(rows):
    torch.manual_seed(0)
    X, y = digits()
    first, last = (
        thinned.torch.ConcreteDropout(
            layer, weight_regularizer=1e-4 / rows, dropout_regularizer=1 / rows
        )
        for layer in (nn.Linear(64, 64), nn.Linear(64, 10))
    )
    model = train(nn.Sequential(first, nn.ReLU(), last), X[:rows], y[:rows], lambda t: 1.0)
    return first.p.item(), last.p.item(), accuracy(model, X, y)


def concrete_learns_less_noise_from_more_data():
    few, many = concrete_p(100), concrete_p(1400)
    assert max(many[:2]) < 0.1 < min(few[:2])  # from p = .1, down and up
    assert many[2] > 0.95


@pytest.mark.usefixtures("one_thread")
def test_concrete_learns_less_noise_from_more_data():
    concrete_learns_less_noise_from_more_data()


@pytest.mark.usefixtures("one_thread")
def test_variational_learns_less_noise_from_more_data():
    X, y = digits()
    ps = []
    for rows in (100, 1400):
        torch.manual_seed(0)
        layer = thinned.torch.VariationalLinear(64, 10, p=0.5)
        train(layer, X[:rows], y[:rows], lambda t, n=rows: 1 / n)
        ps.append(layer.p.item())
    assert ps[1] < 0.45 < 0.55 < ps[0]
    assert accuracy(layer, X, y) > 0.9


@pytest.mark.usefixtures("one_thread")
def test_sparse_variational_prunes_most_weights_of_a_network_that_still_knows():
    X, y = digits()
    torch.manual_seed(0)
    layers = [thinned.torch.SparseVariationalLinear(*sizes) for sizes in ((64, 64), (64, 10))]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    assert layers[0].sparsity() < 0.05  # weights that begin next to 0
    train(model, X, y, lambda t: t / 1400, steps=600)
    assert layers[0].sparsity() > 0.7
    assert accuracy(model, X, y) > 0.93


@pytest.mark.usefixtures("one_thread")
def test_gates_shut_on_columns_of_noise():
    X, y = digits()
    noise = torch.randn(len(X), 32, generator=torch.Generator().manual_seed(0))
    inputs = torch.cat([X, noise], 1)
    torch.manual_seed(0)
    gated = thinned.torch.L0Linear(96, 64)
    model = train(nn.Sequential(gated, nn.ReLU(), nn.Linear(64, 10)), inputs, y, lambda t: 1e-4)
    open_gates = (gated.gates > 0).double()
    assert open_gates[64:].mean() < open_gates[:64].mean() - 0.2
    assert gated.p[64:].mean() > 0.5
    assert accuracy(model, inputs, y) > 0.9


# ---------------------------------------------------------------------------------- planted faults

uniform, gaussian = Draws.uniform, Draws.gaussian


def p_is_to_keep(patch):
    learnable = concrete._learnable
    patch.setattr(concrete, "_learnable", lambda draws, p: 1.0 - learnable(draws, p))


def uniform_in_the_middle(patch):
    patch.setattr(Draws, "uniform", lambda self, shared=(): 0.25 + 0.5 * uniform(self, shared))


def half_the_noise(patch):
    patch.setattr(Draws, "gaussian", lambda self, shape: 0.5 * gaussian(self, shape=shape))


def one_draw_per_example(patch):
    patch.setattr(
        Draws, "gaussian",
        lambda self, shape: gaussian(self, shape=shape)[..., :1] + np.zeros(shape),
    )  # fmt: skip


def the_sign_of_the_kl(patch):
    patch.setattr(variational, "K3", -variational.K3)


def an_unstretched_gate(patch):
    patch.setattr(gates, "GAMMA", -1e-9)


def the_rate_cannot_move(patch):
    patch.setattr(thinned.torch.ConcreteDropout, "probability", frozen)


def frozen(self):
    return torch.sigmoid(self.logit.detach())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (p_is_to_keep, concrete_has_its_law),
        (uniform_in_the_middle, concrete_has_its_law),
        (half_the_noise, variational_has_its_moments),
        (one_draw_per_example, variational_has_its_moments),
        (the_sign_of_the_kl, the_kl_is_the_true_one),
        (an_unstretched_gate, gates_have_their_law),
        (uniform_in_the_middle, gates_have_their_law),
        (the_rate_cannot_move, concrete_learns_less_noise_from_more_data),
    ],
)
def test_a_fault_is_caught(fault, check, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check()
