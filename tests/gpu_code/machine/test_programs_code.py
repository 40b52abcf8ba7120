"""What Inductor makes of dropout among its neighbours: one kernel in Triton, compiled for devices
that are not here. Inductor is told to write Triton for the CPU, and stopped before it runs it; or
lowers a graph of fake tensors on a CUDA device that it is told of."""

import re
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import torch
from conftest import Driver
from machine_code import compiled, read
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned
import thinned.torch
from thinned.backends.torch import devices, in_inductor

P = 0.1
ELEMENTS, WARPS = 1024, 4


class WrittenError(Exception):
    """A program was written."""


@pytest.fixture
def programs(monkeypatch):
    """What Inductor wrote of functions that were called."""
    import triton
    from torch._inductor import config
    from torch._inductor.graph import GraphLowering

    found, write = [], GraphLowering.codegen

    def codegen(self):
        code, *_ = write(self)
        found.append(code.value)
        raise WrittenError

    monkeypatch.setattr(GraphLowering, "codegen", codegen)
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver(), raising=False)
    monkeypatch.setattr(devices, "_interpreting", True)

    def program(function, *arguments):
        torch._dynamo.reset()
        options = config.patch(cpu_backend="triton", fx_graph_cache=False)
        with options, pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as seen:
            torch.compile(function, fullgraph=True)(*arguments)
        assert isinstance(seen.value.inner_exception, WrittenError), seen.value
        return found.pop()

    return program


def kernels(program):
    """name -> source, of the kernels in a program."""
    return dict(re.findall(r"async_compile\.triton\('(\w+)', '''(.*?)'''", program, re.DOTALL))


def machine_code(name, source, folder, target="sm_90"):
    """A pointwise kernel as a launch would compile it."""
    (signature,) = re.findall(r"'signature': (\{.*?\})", source)
    plain = re.sub(r"@triton_heuristics.*?\n(?=@triton\.jit)", "", source, flags=re.DOTALL)
    plain = re.sub(r"triton_helpers\.set_driver_to_\w+\(\)", "", plain)
    file = folder / f"{name}.py"
    file.write_text(plain, encoding="utf-8")
    spec = spec_from_file_location(name, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    types = eval(signature)
    constants = {n: ELEMENTS for n, kind in types.items() if kind == "constexpr"}
    types = {n: kind for n, kind in types.items() if n not in constants}
    kernel = getattr(module, name)
    even = [n for n, kind in types.items() if kind[0] != "*"]
    return read(compiled(kernel, target, types, constants, WARPS, even=even, fused=True))


def arrays():
    x = torch.empty(64, 4096, dtype=torch.bfloat16)
    return x, torch.empty(4096, dtype=torch.bfloat16), torch.empty_like(x)


def ours(x, bias, residual):
    return thinned.torch.functional.dropout(F.gelu(x + bias), P, True) + residual


def theirs(x, bias, residual):
    return F.dropout(F.gelu(x + bias), P, True) + residual


def per_element(code):
    return len(code) * 32 * WARPS / ELEMENTS


def test_bias_gelu_dropout_and_add_are_one_kernel(programs, tmp_path, monkeypatch):
    program = programs(ours, *arrays())
    ((name, source),) = kernels(program).items()
    assert "gelu" in name
    assert program.count("torch.ops.thinned.drop_bits.default(") == 1
    assert "torch.ops.thinned.drop.default(" not in program
    ((other, their_source),) = kernels(programs(theirs, *arrays())).items()
    for target in ("sm_80", "sm_90", "sm_100"):
        code = machine_code(name, source, tmp_path, target)
        assert code.stack == 0
        assert code.count("STG.E.128") > 0
        # Rounded before the residual is added, as the steps are.
        assert code.ptx.count("cvt.rn.bf16") >= 2 * code.count("STG.E.128")
        # A word is looked up where theirs draws one for each element.
        assert per_element(code) < per_element(machine_code(other, their_source, tmp_path, target))
    assert "philox" not in source
    monkeypatch.setenv("THINNED_INDUCTOR", "operators")
    apart = programs(ours, *arrays())
    assert len(kernels(apart)) == 2
    assert "torch.ops.thinned.drop.default(" in apart


def test_norms_take_the_words_too(programs):
    def layer(x, bias, residual):
        return F.layer_norm(residual + thinned.torch.functional.dropout(x, P, True), (4096,), bias)

    program = programs(layer, *arrays())
    assert len(kernels(program)) == 1


# ------------------------------------------------------------------------- for a device that is not


@pytest.fixture
def written_for_cuda(monkeypatch):
    """What Inductor writes of a function for fake tensors on an H200."""
    import triton
    from torch._inductor import compile_fx, scheduler
    from torch._inductor.debug import DebugContext
    from torch._inductor.graph import GraphLowering
    from torch._inductor.runtime.hints import DeviceProperties
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    h200 = DeviceProperties(
        type="cuda", index=0, multi_processor_count=132, cc=90, major=9, warp_size=32,
        regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048,
    )  # fmt: skip
    monkeypatch.setattr(DeviceProperties, "create", classmethod(lambda cls, device: h200))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: h200)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(scheduler, "has_triton", lambda *_: True)
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver(), raising=False)
    monkeypatch.setattr(in_inductor, "uses_triton", lambda device: device.type == "cuda")

    def program(function, *like):
        mode = FakeTensorMode(shape_env=ShapeEnv())
        with mode:
            given = [torch.empty(shape, dtype=dtype, device=d) for shape, dtype, d in like]
            table = compile_fx.select_decomp_table()
            graph = make_fx(function, decomposition_table=table)(*given)
        lowering = GraphLowering(graph, example_inputs=given, shape_env=mode.shape_env)
        with (
            V.set_fake_mode(mode),
            V.set_debug_handler(DebugContext()),
            V.set_graph_handler(lowering),
        ):
            lowering.run(*given)
            code, _ = lowering.codegen()
        return code.value

    return program


@pytest.mark.parametrize("graphs", [False, True], ids=["default", "cuda graphs"])
def test_a_program_for_a_cuda_device(graphs, written_for_cuda, tmp_path):
    there = torch.device("cuda:0")

    def layer(x, bias, residual, words, rate):
        h = F.gelu(x + bias)
        how = (words, rate, 0.0, False)
        if not graphs:
            return torch.ops.thinned.noised.default(h, *how, "bernoulli", None, []) + residual
        told = torch.ops.thinned.told.default(*how, x.shape, [], there)
        return torch.ops.thinned.heard.default(h, told, [], False, None) + residual

    half = torch.bfloat16
    rows = ((64, 4096), half, there)
    told = ((8,), torch.int64, "cpu"), ((2,), torch.float64, "cpu")
    program = written_for_cuda(layer, rows, ((4096,), half, there), rows, *told)
    ((name, source),) = kernels(program).items()
    bits = "heard_bits" if graphs else "noised_bits"
    assert program.count(f"torch.ops.thinned.{bits}.default(") == 1
    assert program.count(".run(") == 1
    code = machine_code(name, source, tmp_path)
    assert code.stack == 0
    assert code.count("STG.E.128") > 0
