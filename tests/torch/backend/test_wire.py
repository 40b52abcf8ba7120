"""The wire: what one operator packs the next one reads; every operator keeps PyTorch's rules."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from versions import VERSION

import thinned
from thinned import Address
from thinned.backends.torch import wire
from thinned.backends.torch.address import DRAWN, PLACED
from thinned.backends.torch.in_cuda_graph import TOLD
from thinned.backends.torch.in_inductor import DROP_BITS, NOISED_BITS
from thinned.backends.torch.operators import BERNOULLI, NOISED
from thinned.backends.torch.packed import PACKED_ROWS
from thinned.torch import adopt
from thinned.torch.attention.functional import ATTENTION
from thinned.torch.clock.in_graphs import CLOCK, LOCATED, OWN_P
from thinned.torch.fused.add import ADD
from thinned.torch.fused.norm import NORM
from thinned.torch.thinning.layers import KEPT_UNITS
from thinned.window import Window, place

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is :DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is :DeprecationWarning"),
]

AT = Address(2**64 - 3, site="fc", step=2**32 - 2, call=7)
SHAPE = (3, 4, 5)


@pytest.mark.parametrize("shared", [(), (1,), (0, 2)])
@pytest.mark.parametrize("window", [None, Window((2, 0, 1), (9, 4, 6))])
def test_what_is_packed_is_read(shared, window):
    where = place("test", SHAPE, shared, window)
    packed = wire.pack_place(AT, where.offset, where.strides)
    assert torch.equal(packed, wire.words_of(AT, where))
    draw = wire.read(packed, 0.25 * 2**32, SHAPE, True)
    assert Address(*draw.at) == AT == Address(*wire.address(packed))
    assert (draw.place, draw.threshold, draw.mirror) == (where, 2**30, True)


def test_an_axis_that_words_do_not_speak_of_shares_its_draws():
    x, words = torch.ones(2, *SHAPE), wire.words_of(AT, place("test", SHAPE))
    rate = wire.pack_rate(2**31, 2.0)
    y = NOISED(x, words, rate, 0.0, False, BERNOULLI)
    assert torch.equal(y[0], y[1])
    assert torch.equal(y[0], thinned.dropout(x[0], 0.5, AT))


def test_the_integers_of_the_compiled_part_are_read():
    two = 0x4000000000000000  # the bits of 2.0
    numbers = [-3, AT.site, AT.step, AT.call, 2**30, 1, 0, two, 6, 20, 5, 1]
    draw, *how = wire.read_native(numbers, SHAPE)
    assert Address(*draw.at) == AT
    assert how == [2.0, 0.0, False]
    assert (draw.threshold, draw.mirror, draw.place.offset) == (2**30, True, 6)
    assert draw.place.strides == (20, 5, 1)
    assert wire.read_native(numbers[:9], SHAPE).draw.place.strides == (20, 5, 1)


OURS = torch.ops.thinned
OPERATORS = {
    "attention", "attention_backward", "bias_dropout_add", "clock", "drawn", "drop", "drop_bits",
    "dropout", "dropout_add_norm", "dropout_add_norm_backward", "flash", "flash_backward", "heard",
    "heard_bits", "kept_units", "located", "noised", "noised_bits", "own_p", "packed_rows",
    "placed", "seed", "told",
}  # fmt: skip


def operators():
    """Every operator that is read or handed words, and arguments for it."""
    model = nn.Sequential(nn.Dropout(0.5))
    clock = adopt(model, seed=1).clock
    site, none = model[0].site.words, torch.empty(0, dtype=torch.int64)
    live, p = clock.snapshot(), torch.tensor(0.3, dtype=torch.float64)
    words, rate = wire.words_of(AT, place("test", SHAPE)), wire.pack_rate(2**30, 4 / 3)
    alone, window = wire.pack_address(AT), wire.pack((2, 0, 1, 9, 4, 6))
    yield CLOCK, (clock.buffer, clock.identity, clock.counts)
    yield LOCATED, (live, site, None, SHAPE, (1,), 0, (), (), False)
    yield LOCATED, (live, site, p, SHAPE, None, 0, (1, 0, 0), (9, 4, 5), False)
    yield OWN_P, (clock.buffer, clock.identity, site)
    yield PLACED, (alone, none, (1, 2), "test", (), (), SHAPE, (), 2**47)
    yield PLACED, (alone, window, (), "test", SHAPE, (1,), (3, 4, 1), (2,), 2**42)
    for law in ("mask", "words", "gaussian"):
        yield DRAWN, (torch.ones(2), words, torch.tensor(2**30), SHAPE, False, law)
    yield TOLD, (words, rate, 0.5, True, SHAPE, (), torch.device("cpu"))
    q, k, v = (torch.randn(3, n, 2, requires_grad=True) for n in (4, 5, 5))
    yield ATTENTION, (q, k, v, None, words, rate, 0.5, False, False)
    q, k, v = (x.detach() for x in (q, k, v))
    out = ATTENTION(q, k, v, None, words, rate, 0.5, False, False)
    how = (words, rate, 0.5, False, False)
    yield OURS.attention_backward.default, (out, q, k, v, None, False, *how)
    yield PACKED_ROWS, (torch.ones(2), words, torch.tensor(2**30), SHAPE, False)
    yield NOISED_BITS, (words, rate, False, SHAPE, (1,), torch.device("cpu"))
    yield DROP_BITS, (torch.tensor(-5), 2**30, 200, torch.device("cpu"))
    for operator in (OURS.drop.default, OURS.dropout.default):
        yield operator, (torch.randn(SHAPE), torch.tensor(-5), 2**30, 4 / 3, [])
    yield NOISED, (torch.randn(SHAPE), words, rate, 0.0, False, "bernoulli")
    yield KEPT_UNITS, (alone, torch.tensor(0.5).double(), 40)
    x, row = torch.randn(SHAPE), torch.randn(SHAPE[-1])
    yield ADD, (x.clone().requires_grad_(), row, x, words, rate, False)
    yield NORM, (x.clone().requires_grad_(), x, row, None, words, rate, x.dtype, True, 0.1, False)
    rows = torch.ones(SHAPE[:-1])
    given = (x, None, x, row, rows, rows, words, rate, False, 0.1, False)
    yield OURS.dropout_add_norm_backward.default, given


# opcheck looks at .grad of an input that it made from another.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_every_operator_keeps_torchs_rules():
    """But for a seed, which is drawn, and four that only kernels in Triton make values for: those
    are asked in tests/gpu_code."""
    asked = set()
    for operator, arguments in operators():
        asked.add(operator._schema.name.removeprefix("thinned::"))
        torch.library.opcheck(operator, arguments)
    assert OPERATORS - asked == {"flash", "flash_backward", "heard", "heard_bits", "seed"}


def test_there_are_no_other_operators():
    """Each is one more thing that the compiled part and a device have to know."""
    known = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeExplicitAutograd")
    ours = {name.split("::")[1] for name in known if name.startswith("thinned::")}
    assert ours == OPERATORS


def test_kept_units_at_the_words_of_an_address():
    kept, scale, alive = KEPT_UNITS(wire.pack_address(AT), torch.tensor(0.5).double(), 40)
    mask = torch.from_numpy(thinned.keep_mask(40, 0.5, AT))
    assert torch.equal(kept, mask.nonzero().squeeze(1))
    assert scale == 2.0
    assert alive.all()


@pytest.mark.parametrize("kind", [nn.Dropout, nn.AlphaDropout])
def test_forward_mode_goes_through_a_compiled_site(kind):
    torch._dynamo.reset()
    (x, tangent), found = torch.randn(2, 8), []
    for compiled in (False, True):
        model = nn.Sequential(kind(0.5))
        adopt(model, seed=1)
        # From 2.14 on Dynamo refuses tensors with a tangent, and runs such a call as it is.
        whole = VERSION < (2, 14)
        run = torch.compile(model, backend="aot_eager", fullgraph=whole) if compiled else model
        with forward_ad.dual_level():
            found.append(forward_ad.unpack_dual(run(forward_ad.make_dual(x, tangent))))
    assert torch.equal(found[0].primal, found[1].primal)
    assert torch.equal(found[0].tangent, found[1].tangent)
    torch._dynamo.reset()


def test_a_compiled_site_leaves_integers_alone_at_p_0_and_refuses_them_else():
    torch._dynamo.reset()
    model = nn.Sequential(nn.Dropout(0.0))
    adopt(model, seed=1)
    run = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.arange(8)
    assert torch.equal(run(x), x)
    model[0].p = 0.5
    with pytest.raises(TypeError, match="floating"):
        run(x)
    torch._dynamo.reset()


def test_fault_an_axis_in_front_is_taken_for_one_behind(monkeypatch):
    real = wire.placed

    def behind(shape, offset, strides):
        lost = len(shape) - len(SHAPE)
        return real(shape, offset, [*strides[lost:], *strides[:lost]])

    monkeypatch.setattr(wire, "placed", behind)
    with pytest.raises(AssertionError):
        test_an_axis_that_words_do_not_speak_of_shares_its_draws()
