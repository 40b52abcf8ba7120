"""The tests beside this one can fail: each planted fault is caught by the one named here."""

import itertools

import pytest
import torch
from versions import VERSION

from thinned import kernel
from thinned.backends.torch import (
    compiled_node,
    eager,
    fresh_seed,
    kernel as torch_memory,
    operators,
)
from thinned.torch.dropin import functional, modules, noise, seeds

import test_dropin_autograd as autograd  # isort: skip
import test_dropin_compile as compiling  # isort: skip
import test_dropin_modules as standing  # isort: skip
import test_dropin_values as values  # isort: skip


def by_python(patch):
    """Faults are planted in the Python form of what the compiled part does."""
    patch.setattr(compiled_node, "dropout", compiled_node._nothing)
    patch.setattr(compiled_node, "noise", compiled_node._nothing)


def another_mask_in_backward(patch):
    real = eager._Eager.backward

    def shifted(ctx, grad):
        at = ctx.how.draw.at
        other = torch_memory.Drawn(at.seed ^ 1, at.site, at.step, at.call)
        ctx.how = ctx.how._replace(draw=ctx.how.draw._replace(at=other))
        return real(ctx, grad)

    patch.setattr(eager._Eager, "backward", staticmethod(shifted))


def no_scale(patch):
    real = torch_memory.run
    patch.setattr(
        torch_memory, "run", lambda x, y, draw, scale=1.0, *rest: real(x, y, draw, 1.0, *rest)
    )


def no_scale_in_backward(patch):
    real = eager._Eager.backward

    def unscaled(ctx, grad):
        ctx.how = ctx.how._replace(scale=1.0)
        return real(ctx, grad)

    patch.setattr(eager._Eager, "backward", staticmethod(unscaled))


def seed_drawn_twice(patch):
    real = noise.fresh

    def drawn(x, p):
        seeds._drawn_seed(None)
        return real(x, p)

    patch.setattr(noise, "fresh", drawn)


def seed_drawn_again_in_backward(patch):
    real = eager._Eager.backward

    def drawn(ctx, grad):
        seeds._drawn_seed(None)
        return real(ctx, grad)

    patch.setattr(eager._Eager, "backward", staticmethod(drawn))


def mask_saved(patch):
    real = eager._Eager.forward

    def kept(ctx, x, *how):
        y = real(ctx, x, *how)
        ctx.save_for_backward(y != 0.0)
        return y

    patch.setattr(eager._Eager, "forward", staticmethod(kept))


def mask_held_without_saving(patch):
    real = eager._Eager.forward

    def kept(ctx, x, *how):
        y = real(ctx, x, *how)
        ctx.mask = y != 0.0
        return y

    patch.setattr(eager._Eager, "forward", staticmethod(kept))


def mask_saved_by_the_operator(patch):
    real = operators._Noised.forward

    def kept(ctx, x, array, *how):
        y = real(ctx, x, array, *how)
        ctx.save_for_backward(*ctx.to_save, y != 0.0)
        return y

    patch.setattr(operators._Noised, "forward", staticmethod(kept))
    patch.setattr(
        operators._Noised,
        "backward",
        staticmethod(lambda ctx, grad: (grad * ctx.saved_tensors[-1] * 2.0, *(None,) * 7)),
    )


def seed_drawn_again_by_the_compiler(patch):
    patch.setattr(fresh_seed, "get_proxy_mode", lambda: None)  # nothing is marked


def places_without_a_number(patch):
    patch.setattr(fresh_seed, "_places", itertools.repeat(0))


def forward_mode_gives_zero(patch):
    def zeros(ctx, tangent, *rest):
        return torch.zeros_like(tangent)

    patch.setattr(operators._Noised, "jvp", staticmethod(zeros))


def training_ignored(patch):
    for module in (modules.Dropout, modules.AlphaDropout):
        real = module.forward

        def always(self, x, real=real):
            mode, self.training = self.training, True
            try:
                return real(self, x)
            finally:
                self.training = mode

        patch.setattr(module, "forward", always)


def training_assumed(patch):
    patch.setattr(functional, "_training", lambda who, training: True)


def negated_memory_read_as_it_lies(patch):
    patch.setattr(torch.Tensor, "is_neg", lambda self: False)


def strides_lost(patch):
    real = torch_memory.make
    patch.setattr(eager, "make", lambda x, *how: real(x, *how).contiguous())


def nothing_is_written_in_place(patch):
    patch.setattr(noise, "noise_", eager.noise)


def multiplied_by_the_mask(patch):
    real = torch_memory.make

    def product(x, how, out=None, array=None):
        y = x * real(torch.ones_like(x), how)
        return y if out is None else out.copy_(y)

    patch.setattr(eager, "make", product)


def of(check, *args):
    return lambda: check(*args)


consistent = autograd.test_the_backward_pass_has_the_mask_of_the_forward
layouts = values.test_any_layout_gives_the_same_values_and_torchs_strides
in_place = standing.test_inplace_writes_and_gives_back_the_input

CAUGHT = [
    (another_mask_in_backward, of(consistent, "dropout")),
    (another_mask_in_backward, of(consistent, "dropout2d")),
    (another_mask_in_backward, autograd.test_gradients_in_every_layout_are_those_of_the_mask),
    (no_scale, of(values.test_values_are_numpys_in_every_type, torch.bfloat16)),
    (no_scale, of(standing.test_share_and_mean, "Dropout", 0.5)),
    (no_scale_in_backward, autograd.test_gradients_in_every_layout_are_those_of_the_mask),
    (seed_drawn_twice, of(standing.test_one_call_draws_one_number, "Dropout")),
    (seed_drawn_again_in_backward, of(standing.test_one_call_draws_one_number, "Dropout")),
    (mask_saved, of(autograd.test_nothing_is_saved, "dropout")),
    (mask_saved, of(autograd.test_nothing_is_saved, "alpha_dropout")),
    (mask_held_without_saving, autograd.test_nothing_is_kept_in_other_ways),
    (forward_mode_gives_zero, compiling.test_forward_mode_goes_through_the_operator),
    (
        mask_saved_by_the_operator,
        of(compiling.test_a_few_words_are_saved, "aot_eager", {"at": compiling.AT}),
    ),
    (
        seed_drawn_again_by_the_compiler,
        of(compiling.test_a_short_memory_recomputes_the_mask_that_was, "Dropout", 0.1),
    ),
    (training_ignored, of(standing.test_evaluation_gives_the_input_itself, "Dropout")),
    (training_ignored, of(standing.test_evaluation_gives_the_input_itself, "AlphaDropout")),
    (strides_lost, of(layouts, "channels_last")),
    (negated_memory_read_as_it_lies, of(layouts, "negated")),
    (multiplied_by_the_mask, of(values.test_dropped_nan_and_infinity_are_zero, torch.float32)),
    (nothing_is_written_in_place, of(in_place, "Dropout")),
]

# From PyTorch 2.14 on no compiler merges operators that draw, with a number or without.
if VERSION < (2, 14):
    CAUGHT.append(
        (places_without_a_number, compiling.test_one_module_called_three_times_draws_three_masks)
    )

# What is missing shows as no exception where one is due.
NOT_RAISED = [
    (training_assumed, lambda: values.test_training_has_no_default(functional.dropout2d)),
]


@pytest.fixture(autouse=True)
def kernel_in_use():
    assert not kernel.uses_reference()
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(("fault", "check"), CAUGHT, ids=[fault.__name__ for fault, _ in CAUGHT])
def test_the_fault_is_caught(fault, check, monkeypatch):
    by_python(monkeypatch)
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(
    ("fault", "check"), NOT_RAISED, ids=[fault.__name__ for fault, _ in NOT_RAISED]
)
def test_silence_is_caught(fault, check, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check()
