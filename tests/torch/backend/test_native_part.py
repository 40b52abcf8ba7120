"""What is compiled for PyTorch: the same bits as without it, and none of what is not its to do."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch._dynamo import compiled_autograd
from versions import VERSION

import thinned
from thinned import kernel
from thinned.backends.base import Draw
from thinned.backends.torch import compiled_node, eager
from thinned.backends.torch.kernel import Drawn, Noise
from thinned.torch import functional
from thinned.torch.dropin import seeds
from thinned.window import Window, place

HERE = Path(__file__).parent
AT = thinned.Address(seed=2**63 + 11, site="native", step=9, call=3)

if os.environ.get("THINNED_TORCH") == "python" or kernel.uses_reference():
    pytest.skip("the compiled part is switched off", allow_module_level=True)
if VERSION < (2, 13):
    pytest.skip("the compiled part is for PyTorch 2.13 and newer", allow_module_level=True)


def test_it_is_there():
    """A build beside the PyTorch that is developed against has it."""
    assert compiled_node.is_compiled()


def noises():
    """Noise of every kind that it is given, on tensors of several shapes and layouts."""
    images = torch.randn(4, 6, 10, 10)
    tensors = {
        "flat": torch.randn(3000),
        "large": torch.randn(300_001),
        "permuted": torch.randn(30, 40, 5).permute(2, 0, 1),
        "channels_last": images.to(memory_format=torch.channels_last),
        "part": torch.randn(50, 60)[3:40, 5:33],
        "scalar": torch.randn(()),
        "empty": torch.randn(0, 4),
    }
    for name, x in tensors.items():
        n = x.dim()
        for shared in ((), tuple(range(1, n)), tuple(range(n))):
            for window in (None, Window(7) if n else None):
                where = place("test", tuple(x.shape), shared, window)
                for gaussian, fill, mirror in ((False, 0.0, False), (False, -1.5, True),
                                               (True, 0.0, True)):  # fmt: skip
                    how = Noise(Draw(AT, 2**30 + 77, where, mirror), 1.25, fill, gaussian)
                    yield name, x, how


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_values_and_gradients_are_those_of_the_python_form(dtype):
    for name, x, how in noises():
        x = x.detach().to(dtype).requires_grad_()
        with torch.no_grad():
            grad = torch.randn_like(x)
        y = eager.noise(x, None, how)
        assert "Noise" in y.grad_fn.name(), name
        expected = eager._eager(x, None, how, False)
        assert torch.equal(y, expected), name
        assert y.stride() == expected.stride(), name
        (dx,) = torch.autograd.grad(y, x, grad)
        (wanted,) = torch.autograd.grad(expected, x, grad)
        assert torch.equal(dx, wanted), name
        assert dx.stride() == wanted.stride(), name


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("shape", "dtype"), [((8, 8), torch.float32), ((3, 1, 5), torch.bfloat16), ((), torch.float64)]
)
def test_the_compiler_of_backward_passes_takes_the_node(shape, dtype):
    """Step by step, by one program: the numbers that a node keeps are the program's arguments."""
    torch.compiler.reset()
    compiler = torch.compile(backend="aot_eager")
    for step in range(3):
        gradients = []
        for backward in (nullcontext(), compiled_autograd._enable(compiler)):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(step)).to(dtype)
            x.requires_grad_()
            y = functional.dropout(x * 2, 0.5, True, at=AT.replace(step=step))
            assert "Noise" in y.grad_fn.name()
            with backward:
                (y * y).sum().backward()
            gradients.append(x.grad)
        assert torch.equal(*gradients), step
        assert step or gradients[0].dtype == dtype


def test_a_node_may_be_run_twice_and_its_derivative_again():
    x = torch.randn(40, requires_grad=True)
    keep = functional.dropout(torch.ones(40), 0.5, True, at=AT)
    y = functional.dropout(x**3, 0.5, True, at=AT)
    (first,) = torch.autograd.grad(y.sum(), x, retain_graph=True, create_graph=True)
    torch.testing.assert_close(first, 3 * x**2 * keep)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x, retain_graph=True)[0], first)
    torch.testing.assert_close(torch.autograd.grad(first.sum(), x)[0], 6 * x * keep)


def test_a_fresh_seed_is_the_one_that_python_draws():
    x = torch.randn(500)
    for seed in range(5):
        torch.manual_seed(seed)
        drawn = seeds._drawn_seed(None)
        after = torch.get_rng_state()
        torch.manual_seed(seed)
        y = compiled_node.dropout(x, 0.3, None, -1, None)
        assert torch.equal(torch.get_rng_state(), after)
        where = place("test", (500,), (), None)
        how = Noise(Draw(Drawn(drawn), round(0.3 * 2**32), where), 1 / 0.7)
        assert torch.equal(y, eager.make(x, how))


def test_a_draw_is_seen_by_who_wants_to_see_it():
    class Looking(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    seen = []
    torch.manual_seed(5)
    unseen = seeds._drawn_seed(None)
    torch.manual_seed(5)
    with Looking():
        assert seeds._drawn_seed(None) == unseen
    assert any("random" in name for name in seen)


def not_its_own():
    yield "an int p", (torch.ones(3), 1, AT, -1, None)
    yield "p = 0", (torch.ones(3), 0.0, AT, -1, None)
    yield "p = 1", (torch.ones(3), 1.0, AT, -1, None)
    yield "NaN", (torch.ones(3), float("nan"), AT, -1, None)
    yield "no tensor", ([1.0], 0.5, AT, -1, None)
    yield "integers", (torch.arange(3), 0.5, AT, -1, None)
    yield "complex", (torch.ones(3, dtype=torch.complex64), 0.5, AT, -1, None)
    yield "sparse", (torch.eye(3).to_sparse(), 0.5, AT, -1, None)
    yield "meta", (torch.ones(3, device="meta"), 0.5, AT, -1, None)
    yield "negated", (torch.ones(3, dtype=torch.complex64).conj().imag, 0.5, AT, -1, None)
    yield "too few axes", (torch.ones(()), 0.5, AT, 1, None)
    yield "a subclass", (torch.ones(3).as_subclass(type("Own", (torch.Tensor,), {})), 0.5, AT, -1,
                         None)  # fmt: skip


@pytest.mark.parametrize("call", [c for _, c in not_its_own()], ids=[n for n, _ in not_its_own()])
def test_what_is_particular_is_left_to_python(call):
    assert compiled_node.dropout(*call) is None


def test_who_wants_to_see_the_call_sees_it():
    class Looking(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    seen = []
    x = torch.randn(100, requires_grad=True)
    y = functional.dropout(x, 0.5, True, at=AT)
    with Looking():
        y.sum().backward()
        again = functional.dropout(x.detach(), 0.5, True, at=AT)
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 2.0))
    assert torch.equal(again, y)
    assert seen.count("thinned.noised.default") == 2


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("value", "error"),
    [("python", ""), ("compiled", ""), ("fast", "THINNED_TORCH must be compiled or python, got")],
)
def test_the_environment_chooses(value, error):
    code = (
        "import thinned.torch; from thinned.backends.torch import compiled_node; "
        "print(compiled_node.is_compiled())"
    )
    settings = {**os.environ, "THINNED_TORCH": value}
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False
    )
    if error:
        assert error in done.stderr
    else:
        assert done.stdout.strip() == str(value == "compiled")


UNLOADABLE = """
import sys, warnings
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

class Broken(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.startswith("thinned._torch_") else None

    def exec_module(self, module):
        pass

    def create_module(self, spec):
        raise ImportError("undefined symbol: _ZN2at6detail")

sys.meta_path.insert(0, Broken())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch, thinned, thinned.torch
from thinned.backends.torch import compiled_node
assert not compiled_node.is_compiled()
print(*(str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)))
at = thinned.Address(3)
kept = thinned.dropout(torch.ones(9), 0.5, at).numpy() > 0
assert (kept == thinned.keep_mask(9, 0.5, at)).all()
"""


@pytest.mark.one_in(2)
@pytest.mark.parametrize("value", ["", "compiled"])
def test_a_part_that_does_not_load_costs_speed_alone_unless_it_was_asked_for(value):
    settings = {**os.environ, "THINNED_TORCH": value}
    done = subprocess.run(
        [sys.executable, "-c", UNLOADABLE], env=settings, capture_output=True, text=True
    )
    if value:
        assert done.returncode != 0
        assert "ImportError: undefined symbol" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "does not load (undefined symbol: _ZN2at6detail). Masks are the same" in done.stdout


@pytest.mark.long
def test_the_drop_ins_hold_without_it(request):
    """The tests of the drop-ins, in a process in which everything goes through Python."""
    warnings = "\n".join(request.config.getini("filterwarnings"))
    files = [
        HERE.parent / "dropin" / f"test_dropin_{name}.py"
        for name in ("autograd", "modules", "values")
    ]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-o", f"filterwarnings={warnings}", *map(str, files)),
        ],
        env={**os.environ, "THINNED_TORCH": "python"},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
