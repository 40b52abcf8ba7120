"""Generated calls with a fixed seed, inputs that were kept, and what the fuzz itself must do."""

import functools
import random

import numpy as np
import pytest

import thinned
from thinned.kernel import use_kernel

from . import expected, oracle
from .calls import ESTIMATORS, Call, backends, judge
from .hunting import KEPT, Hunt, beside, drawn, kept
from .inputs import FREE, GOOD, WRONG
from .making import Choices, call, covered, drawn_call, swept
from .sentences import fault
from .surface import APART, fuzzed, is_there, parameters, surface

SEED = 20261129
PARTS = 4


@pytest.fixture(params=thinned.kernel_info().runnable)
def kernel(request):
    before = thinned.kernel_info().name
    use_kernel(request.param)
    yield request.param
    use_kernel(before)


def told(faults):
    return "\n\n".join(map(str, faults))


@pytest.mark.one_in(6)
@pytest.mark.parametrize("part", range(PARTS))
def test_generated_calls_of_what_draws(kernel, part):
    names = sorted(drawn())[part::PARTS]
    hunt = Hunt(names, SEED + part)
    faults = hunt.run(150)
    assert not faults, told(faults)
    assert hunt.made > 150
    # Which functions a seed comes to is by chance; that most were is not.
    assert len(hunt.calls) > len(names) / 2


@pytest.mark.one_in(4)
@pytest.mark.parametrize("part", range(PARTS))
def test_generated_calls_of_what_stands_beside(part):
    hunt = Hunt(sorted(beside())[part::PARTS], SEED + part)
    faults = hunt.run(120)
    assert not faults, told(faults)


@pytest.mark.parametrize("call", kept(), ids=str)
def test_inputs_that_were_kept(call):
    if not (is_there(call.function) and backends(call.function)):
        pytest.skip(f"the library of {call.function} is not installed")
    wrong, _ = judge(call)
    assert wrong is None, f"{call}\n    {wrong}"


@pytest.mark.long
@pytest.mark.parametrize("function", [name for name in fuzzed() if name not in ESTIMATORS])
def test_each_odd_value_of_each_argument(function):
    on = [b for b in backends(function) if b != "jax" or len(backends(function)) == 1]
    wrong = [f"{call}\n    {found}" for call in swept(function) if (found := judge(call, on=on)[0])]
    assert not wrong, "\n\n".join(wrong)


def test_kept_inputs_are_calls_of_public_functions():
    assert KEPT.exists()
    assert set(filter(is_there, (call.function for call in kept()))) <= set(surface())


# --------------------------------------------------------------------------------- the fuzz itself


def test_every_public_function_is_fuzzed():
    assert not covered()
    assert set(filter(is_there, APART)) <= set(surface())
    unknown = {name for name in GOOD if name.startswith("thinned.") and is_there(name)}
    unknown -= {f"{function}.{name}" for function in fuzzed() for name in parameters(function)}
    assert not unknown


def test_a_new_row_is_fuzzed_by_itself(monkeypatch):
    monkeypatch.setitem(surface(), "thinned.new_dropout", lambda x, p, at, strength: x)
    assert "thinned.new_dropout: strength" in covered()
    assert WRONG.keys() <= GOOD.keys()
    assert all(name.rpartition(".")[0] in fuzzed() for name in FREE)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("dropout: p must be a float in [0, 1], got 2."), "raised by"),
        (np.exceptions.AxisError("dropout: axis 3 is out of bounds."), "class"),
        (OSError("thinned: no."), "class"),
    ],
)
def test_other_peoples_errors_are_no_sentences(error, why):
    with pytest.raises(type(error)) as caught:
        raise error
    assert fault(caught.value).startswith(why)


def test_ours_are():
    with pytest.raises(ValueError, match=r"^dropout: p must be") as caught:
        thinned.dropout(np.ones(3), 2, thinned.Address())
    assert fault(caught.value) is None


def wrong_of(function, **arguments):
    return judge(Call(f"thinned.{function}", tuple(arguments.items())), on=("numpy",))[0]


def planted(monkeypatch, function, fault):
    real = surface()[f"thinned.{function}"]
    put = functools.wraps(real)(lambda *a, **k: fault(real, *a, **k))
    monkeypatch.setitem(surface(), f"thinned.{function}", put)


def a_bare_error(real, *a, **k):
    return [][1]


def another_address(real, x, p, at, **k):
    return real(x, p, at.replace(call=at.call ^ 1), **k)


def a_write(real, x, p, at, **k):
    x[0] = 0
    return real(x, p, at, **k)


def a_wider_type(real, x, p, at, **k):
    return real(x, p, at, **k).astype(np.float64)


def by_chance(real, x, p, at, **k):
    return real(x, p, at.replace(seed=int(np.random.default_rng().integers(2**63))), **k)


def never_refuses(real, x, p, at, **k):
    return x


@pytest.mark.parametrize("fault", [a_bare_error, another_address, a_write, a_wider_type, by_chance])
def test_planted_faults_are_found(monkeypatch, fault):
    arguments = {"x": "x((3, 40))", "p": "0.5", "at": "Address(1)"}
    assert wrong_of("dropout", **arguments) is None
    planted(monkeypatch, "dropout", fault)
    assert wrong_of("dropout", **arguments) is not None


def test_wrong_input_that_is_answered_is_found(monkeypatch):
    planted(monkeypatch, "dropout", never_refuses)
    assert "p=nan" in wrong_of("dropout", x="x((3, 40))", p="nan", at="Address(1)")


def test_the_same_numbers_make_the_same_call():
    source, names = random.Random(SEED), sorted(fuzzed())
    for _ in range(300):
        made, numbers = drawn_call(names, source)
        assert call(Choices(given=numbers), names) == made
    assert len(call(Choices(), ["thinned.dropout"]).arguments) == 3  # nothing that can be left out


def test_a_fault_is_shrunk(monkeypatch):
    planted(monkeypatch, "packed_mask", a_bare_error)
    (fault,) = Hunt(["thinned.packed_mask"], SEED).run(50)
    assert str(fault.call) == "thinned.packed_mask(shape=3, p=0.5, at=Address())"


def test_every_row_with_a_bernoulli_mask_has_an_oracle():
    assert set(filter(is_there, expected.SHARED)) <= set(surface())
    assert expected.SHARED.keys() >= expected.PLAIN
    at = oracle.Place(1, 2, 3, 4)
    mask = thinned.keep_mask(300, 0.5, thinned.Address(*at))
    assert mask.tolist() == [oracle.kept(at, i, 0.5) for i in range(300)]
