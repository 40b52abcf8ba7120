"""torch.compile, torch.export and ONNX: one graph, no new program for a new p, step or seed, and
the values of eager mode."""

import warnings

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from versions import VERSION, through_the_compiler

import thinned
import thinned.torch
from thinned.backends.torch import fresh_seed, wire
from thinned.backends.torch.kernel import coordinates_of
from thinned.backends.torch.operators import noise_compiled
from thinned.torch import functional as F  # noqa: N812

AT = thinned.Address(seed=11, site="here", step=4, call=2)
NAMES = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that counts its programs, and runs them as they are."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, inputs):
        self.graphs.append(graph)
        return graph


def compiled(call, backend="aot_eager", **how):
    return torch.compile(call, fullgraph=True, backend=backend, **how)


def with_gradient(call, x):
    x = x.detach().clone().requires_grad_()
    y = call(x)
    y.pow(2).sum().backward()
    return y.detach(), x.grad


# -------------------------------------------------------------------------------------- as in eager


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inplace", [False, True])
def test_compiled_is_eager_at_an_address(name, inplace):
    x = torch.randn((2, 3, 4) if name == "dropout1d" else (2, 3, 4, 2))

    def call(x):
        return getattr(F, name)(x * 2.0, 0.4, True, inplace, at=AT)

    expected, found = with_gradient(call, x), with_gradient(compiled(call), x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(found[0] == 0.0, expected[0] == 0.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_inductor_gives_the_values_of_eager(dtype):
    x = torch.randn(33, 65).to(dtype)
    how = {"at": AT, "shared_axes": 0, "window": thinned.Window(5), "mirror": True}

    def call(x):
        return F.dropout(F.dropout(x, 0.3, True, **how), 0.1, True, at=AT)

    expected, found = with_gradient(call, x), with_gradient(compiled(call, "inductor"), x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_strides_are_eagers():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    for backend in ("aot_eager", "inductor"):
        y = compiled(lambda x: F.dropout(x, 0.4, True, at=AT), backend)(x)
        assert y.stride() == x.stride()
        assert torch.equal(y, F.dropout(x, 0.4, True, at=AT))
        torch._dynamo.reset()


def test_a_training_step():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 30), thinned.torch.Dropout(0.5), nn.ReLU(),
        thinned.torch.AlphaDropout(0.2), nn.Linear(30, 4),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    x = torch.randn(64, 20)
    target = x[:, :4].argmax(1)
    step = compiled(model, "inductor")
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(step(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert torch.equal(compiled(model.eval())(x), model(x))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_drawn_mask_is_one_mask_forward_and_backward_and_new_each_time(backend):
    module = thinned.torch.Dropout(0.5)
    call = compiled(module, backend)
    seen = set()
    for _ in range(4):
        x = torch.ones(300, requires_grad=True)
        y = call(x)
        y.sum().backward()
        assert torch.equal(y.detach(), x.grad)
        assert set(y.tolist()) == {0.0, 2.0}
        seen.add(bytes(y.bool().tolist()))
    assert len(seen) == 4
    torch.manual_seed(9)
    first = call(torch.ones(300))
    torch.manual_seed(9)
    assert torch.equal(call(torch.ones(300)), first)


@pytest.mark.parametrize("name", ["Dropout", "Dropout2d", "AlphaDropout"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_the_generator_gives_what_it_gives_in_eager(name, backend):
    module, x = getattr(thinned.torch, name)(0.4), torch.randn(4, 30, 2, 2)
    torch.manual_seed(9)
    expected = [module(x) for _ in range(3)]
    call = compiled(module, backend)
    call(x)
    torch.manual_seed(9)
    for y in expected:
        torch.testing.assert_close(call(x), y, rtol=1e-6, atol=1e-6)


def test_two_modules_of_one_graph_draw_apart():
    first, second = thinned.torch.Dropout(0.5), thinned.torch.Dropout(0.5)
    both = compiled(lambda x: (first(x), second(x)), "inductor")
    a, b = both(torch.ones(300))
    assert not torch.equal(a, b)


def test_one_module_called_three_times_draws_three_masks():
    """Compilers merge operators of equal arguments: each place in a program has a number."""
    drop, flip = thinned.torch.Dropout(0.5), thinned.torch.DropPath(0.5)
    call = compiled(lambda x: [m(x) for m in (drop, drop, drop, flip, flip)], "inductor")
    a, b, c, d, e = call(torch.ones(300, 2, requires_grad=True))
    assert len({bytes(y.bool().flatten().tolist()) for y in (a, b, c)}) == 3
    assert not torch.equal(d, e)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "Dropout1d", "DropPath"])
@pytest.mark.parametrize("budget", [1.0, 0.5, 0.1, 0.01] if VERSION >= (2, 8) else [1.0])
def test_a_short_memory_recomputes_the_mask_that_was(name, budget):
    """Parts of the forward pass run again in the backward pass; the seed is not drawn again."""
    module = getattr(thinned.torch, name)(0.5)
    weights = torch.eye(40) * 0.9

    def net(x):
        for _ in range(3):
            x = module(torch.tanh(x @ weights))
        return x

    x = torch.randn(6, 40, 40, dtype=torch.float32)
    tail = torch.randn(6, 40, 40)
    found = []
    for call in (net, compiled(net, "aot_eager_decomp_partition")):
        leaf = x.clone().requires_grad_()
        torch.manual_seed(12)
        with torch._functorch.config.patch(activation_memory_budget=budget):
            y = call(leaf)
            y.backward(tail)
        found.append((y.detach(), leaf.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


def test_a_pytorch_that_would_draw_again_is_refused(monkeypatch):
    """Which one before 2.8 does."""
    monkeypatch.setattr(fresh_seed, "_keeps_what_is_marked", False)
    call = compiled(thinned.torch.Dropout(0.5), "aot_eager_decomp_partition")
    x = torch.ones(4, 5, requires_grad=True)
    with (
        torch._functorch.config.patch(activation_memory_budget=0.5),
        pytest.raises(RuntimeError, match=r"adopt the model, or take PyTorch 2\.8"),
    ):
        call(x)
    torch._dynamo.reset()
    assert call(x).shape == x.shape


def test_the_public_function_compiles_without_a_word():
    x = torch.randn(6, 7)
    how = {"shared_axes": (0,), "window": thinned.Window(3)}

    def call(x):
        return thinned.dropout(x, 0.5, AT, **how), thinned.keep_mask((6, 7), 0.5, AT, like=x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, mask = compiled(call)(x)
    assert torch.equal(y, thinned.dropout(x, 0.5, AT, **how))
    assert torch.equal(mask, thinned.keep_mask((6, 7), 0.5, AT, like=x))
    found, expected = (
        with_gradient(c, x)
        for c in (
            compiled(lambda x: thinned.dropout(x, 0.3, AT)),
            lambda x: thinned.dropout(x, 0.3, AT),
        )
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_errors_come_through_the_compiler():
    x = torch.ones(4, 5)
    with pytest.raises(Exception, match=through_the_compiler("training must be given")):
        compiled(lambda x: F.dropout(x, 0.5))(x)
    with pytest.raises(Exception, match=through_the_compiler("the window does not fit")):
        compiled(lambda x: F.dropout(x, 0.5, True, at=AT, window=thinned.Window((3, 0), (4, 5))))(x)


# ------------------------------------------------------------------------------------ recompilation


def test_evaluation_compiles_to_nothing():
    counting = Counting()
    module = thinned.torch.Dropout(0.5).eval()
    torch.compile(lambda x: module(x) + 1.0, backend=counting, fullgraph=True)(torch.ones(3))
    assert [n.op for n in counting.graphs[0].graph.nodes].count("call_function") == 1


def test_p_in_a_buffer_changes_without_a_new_program():
    class Scheduled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("p", torch.tensor(0.5))

        def forward(self, x):
            return F.dropout(x, self.p, True, at=AT) + F.alpha_dropout(x, self.p, True, at=AT)

    counting, module, x = Counting(), Scheduled(), torch.randn(200)
    call = torch.compile(module, backend=counting, fullgraph=True)
    for p in (0.5, 0.1, 0.9, 1.0, 0.0, 0.25, 0.3, 0.4, 0.6, 0.7):
        module.p.fill_(p)
        rounded = module.p.item()
        expected = F.dropout(x, rounded, True, at=AT) + F.alpha_dropout(x, rounded, True, at=AT)
        torch.testing.assert_close(call(x), expected, rtol=1e-6, atol=1e-6)
    assert len(counting.graphs) == 1


def test_a_module_whose_p_is_a_tensor():
    counting, module = Counting(), thinned.torch.Dropout(0.5)
    module.p = torch.tensor(0.5)
    call = torch.compile(module, backend=counting, fullgraph=True)
    for p, expected in ((0.0, 1.0), (1.0, 0.0), (0.0, 1.0)):
        module.p.fill_(p)
        assert (call(torch.ones(90)) == expected).all()
    assert len(counting.graphs) == 1


def test_a_new_step_is_no_new_program():
    counting = Counting()

    def call(x, step):
        return F.dropout(x, 0.5, True, at=thinned.Address(seed=1, site=2, step=step))

    step_of = torch.compile(call, backend=counting, fullgraph=True)
    x = torch.randn(50)
    for step in range(3, 20):
        assert torch.equal(step_of(x, step), call(x, step))
    assert len(counting.graphs) <= 2  # one for the first number, one for all


def test_dynamic_shapes():
    counting = Counting()

    def call(x):
        return F.dropout(x, 0.5, True, at=AT) + F.dropout1d(x, 0.3, True, at=AT)

    dynamic = torch.compile(call, backend=counting, fullgraph=True, dynamic=True)
    for shape in ((4, 5, 6), (7, 5, 9), (9, 8, 33), (30, 3, 2)):
        x = torch.randn(shape)
        assert torch.equal(dynamic(x), call(x))
    assert len(counting.graphs) == 1
    torch._dynamo.reset()
    dynamic = compiled(call, "inductor", dynamic=True)
    for shape in ((4, 5, 6), (7, 5, 9)):
        x = torch.randn(shape)
        found, expected = with_gradient(dynamic, x), with_gradient(call, x)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


# ------------------------------------------------------------------------------------ what is saved


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("how", [{}, {"at": AT}], ids=["drawn", "addressed"])
def test_a_few_words_are_saved(backend, how):
    seen = []
    call = compiled(lambda x: F.dropout(x, 0.5, True, **how), backend)
    x = torch.randn(100, 100, requires_grad=True)
    with saved_tensors_hooks(lambda t: seen.append(t.numel()) or t, lambda t: t):
        call(x).sum().backward()
    assert sum(seen) <= 6 + x.dim() + 2  # the words of the draw, and its rate


# ---------------------------------------------------------------------- derivatives of the operator


def dropped(x):
    return F.dropout(x, 0.5, True, at=AT)


def drawn(x):
    return F.dropout(x, 0.5, True)


def registered(x):
    return noise_compiled(x, coordinates_of(AT), 2**31, 2.0)


# opcheck looks at .grad of an input that it made from another.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_the_operator_keeps_torchs_rules():
    noised, rate = torch.ops.thinned.noised.default, wire.pack_rate(2**31, 2.0)
    for shape, strides in (((4, 6), [6, 1]), ((4, 6), [0, 1])):
        words = wire.pack_place(AT, 3, strides)
        for requires_grad in (False, True):
            x = torch.randn(shape, requires_grad=requires_grad)
            for law in ("bernoulli", "gaussian", "gradient"):
                torch.library.opcheck(noised, (x, words, rate, 0.0, False, law))
        drop = (x, torch.tensor(-5), 2**31, 2.0, [] if strides[0] else strides)
        torch.library.opcheck(torch.ops.thinned.dropout.default, drop)
    x, f = (torch.randn(4, 6, requires_grad=True) for _ in range(2))
    words = wire.pack_place(AT, 0, [6, 1])
    torch.library.opcheck(noised, (x, words, rate, 0.0, True, "bernoulli", f))


def test_the_operator_is_differentiable_backwards():
    x = torch.randn(20, dtype=torch.float64, requires_grad=True)
    assert torch.equal(registered(x), F.dropout(x, 0.5, True, at=AT))
    assert torch.autograd.gradcheck(registered, x)
    assert torch.autograd.gradgradcheck(lambda x: registered(x).pow(2), x)


def test_forward_mode_goes_through_the_operator():
    x, tangent, further = torch.randn(3, 20)
    x.requires_grad_()
    for call in (registered, torch.compile(dropped, backend="aot_eager")):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x.detach(), tangent)
            y, along = forward_ad.unpack_dual(call(dual))
        assert torch.equal(y, F.dropout(x, 0.5, True, at=AT).detach())
        assert torch.equal(along, F.dropout(tangent, 0.5, True, at=AT))
    with forward_ad.dual_level():  # a derivative of it
        along = forward_ad.unpack_dual(registered(forward_ad.make_dual(x, tangent * x))).tangent
        (slope,) = torch.autograd.grad(along, x, further)
    assert torch.equal(slope, F.dropout(further, 0.5, True, at=AT) * tangent)


def test_forward_mode_at_a_seed_that_a_compiled_program_draws():
    x, tangent = torch.randn(2, 20)
    run = torch.compile(drawn, backend="aot_eager")
    torch.manual_seed(2)
    expected = run(x) / x * tangent
    torch.manual_seed(2)
    with forward_ad.dual_level():
        along = forward_ad.unpack_dual(run(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(along, expected)


def test_both_tangents_go_through_the_operator():
    words, rate = wire.pack_place(AT, 0, [6, 1]), wire.pack_rate(2**31, 2.0)

    def filled(x, f):
        return torch.ops.thinned.noised.default(x, words, rate, 0.0, False, "bernoulli", f)

    x, f = (torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(filled, (x, f), check_forward_ad=True)
    assert torch.autograd.gradcheck(lambda f: filled(x.detach(), f), f, check_forward_ad=True)


def test_derivatives_of_torch_func_go_through_the_operator():
    x, v = torch.randn(2, 20)

    def eager(x):
        return F.dropout(x, 0.5, True, at=AT)

    for transform in (
        lambda f: torch.func.grad(lambda x: (f(x) ** 2 * v).sum())(x),
        lambda f: torch.func.vjp(f, x)[1](v)[0],
        lambda f: torch.func.jvp(f, (x,), (v,))[1],
        lambda f: torch.func.jacrev(f)(x),
        lambda f: torch.func.jacfwd(f)(x),
        lambda f: torch.func.hessian(lambda x: (f(x) ** 3).sum())(x),
        lambda f: torch.func.vmap(torch.func.grad(lambda x: (f(x) ** 2).sum()))(v.reshape(4, 5)),
    ):
        torch.testing.assert_close(transform(registered), transform(eager))


@pytest.mark.parametrize("call", [dropped, drawn])
def test_a_compiled_function_takes_derivatives_of_torch_func(call):
    torch._dynamo.reset()
    gradient = torch.func.grad(lambda x: (call(x) * 3.0).sum())
    run = torch.compile(gradient, backend="aot_eager", fullgraph=True)
    x = torch.randn(20)
    torch.manual_seed(1)
    found = run(x)
    assert set(found.tolist()) == {0.0, 6.0}


def test_vmap_in_a_compiled_function():
    x = torch.randn(5, 30)
    call = torch.func.vmap(lambda x: F.dropout(x, 0.5, True, at=AT), randomness="same")
    assert torch.equal(compiled(call)(x), call(x))
    torch._dynamo.reset()
    for randomness, masks in (("same", 1), ("different", 5)):
        call = torch.func.vmap(lambda x: F.dropout(x, 0.5, True), randomness=randomness)
        y = compiled(call)(torch.ones(5, 90))
        assert len({bytes(row.bool().tolist()) for row in y}) == masks


# ------------------------------------------------------------------------------------------- export


class Net(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(6, 8), make.Dropout(0.5), nn.ReLU(), make.AlphaDropout(0.1), nn.Linear(8, 3)
        )
        self.image = make.Dropout2d(0.3)

    def forward(self, x):
        y = self.body(x)
        return self.image(y[:, :, None, None]).flatten(1)


def test_export_in_evaluation_is_that_of_torchs_own():
    mine, other = Net(thinned.torch).eval(), Net(nn).eval()
    other.load_state_dict(mine.state_dict())
    x = torch.randn(4, 6)
    found, expected = (torch.export.export(m, (x,)) for m in (mine, other))
    assert torch.equal(found.module()(x), other(x))
    targets = [str(n.target) for n in found.graph.nodes if "dropout" not in str(n.target)]
    assert not any("thinned" in name for name in targets)
    assert targets == [
        str(n.target) for n in expected.graph.nodes if "dropout" not in str(n.target)
    ]


def test_export_in_training_goes_by_the_operator():
    class Addressed(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, True, at=AT)

    x = torch.randn(4, 6)
    program = torch.export.export(Addressed(), (x,))
    assert torch.equal(program.module()(x), F.dropout(x, 0.5, True, at=AT))


def test_tracing_by_tensors_sees_the_operator():
    from torch.fx.experimental.proxy_tensor import make_fx

    x = torch.randn(4, 6)
    graph = make_fx(lambda x: F.dropout(x, 0.5, True, at=AT))(x)
    assert torch.equal(graph(x), F.dropout(x, 0.5, True, at=AT))
    other = torch.randn(4, 6)
    assert torch.equal(graph(other), F.dropout(other, 0.5, True, at=AT))


def test_a_scripted_trace_draws_anew():
    """torch.jit.trace is deprecated and in use: a mask as a constant of it would be a fault."""
    module, x = thinned.torch.Dropout(0.5), torch.ones(200)
    traced = torch.jit.trace(module, x, check_trace=False)
    first, second = traced(x), traced(x)
    assert set(first.tolist()) == set(second.tolist()) == {0.0, 2.0}
    assert not torch.equal(first, second)
    traced = torch.jit.trace(dropped, x)
    assert torch.equal(traced(3.0 * x), dropped(3.0 * x))


# The exporter's own words about itself and about the packages it is made of.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_in_evaluation(tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x = Net(thinned.torch).eval(), torch.randn(4, 6)
    file = tmp_path / "net.onnx"
    torch.onnx.export(model, (x,), str(file), dynamo=True, verbose=False)
    kinds = {node.op_type for node in onnx.load(str(file)).graph.node}
    assert "Dropout" not in kinds
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), rtol=1e-5, atol=1e-6)
