"""One module that drops or draws, written in many ways. Each takes what it calls: f(x) -> x."""

import contextlib
import functools

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from torch.utils.checkpoint import checkpoint

from thinned.torch import checkpoint_context


def dropped(x, training=True):
    return F.dropout(x, 0.25, training)


def noisy(x, training=True):
    """Noise of which no gate is made."""
    return x * torch.rand([]) if training else x


def skipped(x, training=True):
    """Stochastic depth as it is written by hand."""
    return torch.zeros_like(x) if training and torch.rand([]) < 0.5 else x


def wraps(f):
    def decorate(forward):
        @functools.wraps(forward)
        def inner(self, x):
            return f(forward(self, x), self.training)

        return inner

    return decorate


def bare(f):
    def decorate(forward):
        def inner(self, x):
            return f(forward(self, x), self.training)

        return inner

    return decorate


def passing(forward):
    @functools.wraps(forward)
    def inner(*args, **kwargs):
        return forward(*args, **kwargs)

    return inner


class Called:
    """A decorator that is an object."""

    def __init__(self, forward, f):
        self.inner, self.f = forward, f

    def __get__(self, owner, kind=None):
        return self if owner is None else functools.partial(self, owner)

    def __call__(self, owner, x):
        return self.f(self.inner(owner, x), owner.training)


class Noise:
    """A helper that is no module."""

    def __init__(self, f):
        self.f, self.table = f, {"f": f}

    def apply(self, x, training):
        return self.f(x, training)

    def __call__(self, x, training):
        return self.apply(x, training)

    @staticmethod
    def still(f, x, training):
        return f(x, training)

    def from_table(self, x, training):
        return self.table["f"](x, training)


def module(forward, base=nn.Module, **named):
    return type("Styled", (base,), {"forward": forward, **named})


def closure(f):
    def forward(self, x):
        return f(x, self.training)

    return module(forward)()


def table(f):
    calls = {"drop": f, "none": lambda x, training: x}

    def forward(self, x):
        return calls["drop"](x, self.training)

    return module(forward)()


def table_of_self(f):
    made = module(lambda self, x: self.calls[0](x, self.training))()
    made.calls = [f]
    return made


def nested_table(f):
    made = module(lambda self, x: self.calls["a"][0](x, self.training))()
    made.calls = {"a": (f, None)}
    return made


def partial_of_self(f):
    made = module(lambda self, x: self.call(x))()
    made.call = functools.partial(f, training=True)
    return made


def argument(f):
    def run(g, x, training):
        return g(x, training)

    return module(lambda self, x: run(f, x, self.training))()


def default(f):
    def forward(self, x, f=f):
        return f(x, self.training)

    return module(forward)()


def keyword_default(f):
    def forward(self, x, *, f=f):
        return f(x, self.training)

    return module(forward)()


def static(f):
    def forward(self, x):
        return self.call(x, self.training)

    return module(forward, call=staticmethod(f))()


def class_method(f):
    def call(cls, x, training):
        return f(x, training)

    return module(lambda self, x: self.call(x, self.training), call=classmethod(call))()


def property_of_self(f):
    return module(lambda self, x: self.call(x, self.training), call=property(lambda self: f))()


def cached(f):
    @functools.lru_cache
    def made(name):
        return f

    return module(lambda self, x: made("f")(x, self.training))()


def cached_property(f):
    def call(self):
        return f

    found = functools.cached_property(call)
    found.__set_name__(None, "call")
    return module(lambda self, x: self.call(x, self.training), call=found)()


def decorated(f):
    return module(wraps(f)(lambda self, x: x + 0.0))()


def decorated_bare(f):
    return module(bare(f)(lambda self, x: x + 0.0))()


def decorated_deep(f):
    return module(passing(passing(wraps(f)(passing(lambda self, x: x + 0.0)))))()


def decorated_inside(f):
    return module(passing(passing(lambda self, x: f(x, self.training))))()


def decorated_by_object(f):
    return module(Called(lambda self, x: x + 0.0, f))()


def decorated_of_torch(f):
    return module(wraps(f)(nn.Linear.forward), nn.Linear)(8, 8)


def decorated_by_context(f):
    @contextlib.contextmanager
    def context():
        yield

    return module(context()(lambda self, x: f(x, self.training)))()


def decorated_by_torch(f):
    return module(torch.enable_grad()(lambda self, x: f(x, self.training)))()


def not_compiled(f):
    return module(torch.compiler.disable(lambda self, x: f(x, self.training)))()


def in_a_checkpoint(f):
    def forward(self, x):
        return checkpoint(f, x, self.training, use_reentrant=False, context_fn=checkpoint_context)

    return module(forward)()


def helper(f):
    made = module(lambda self, x: self.noise.apply(x, self.training))()
    made.noise = Noise(f)
    return made


def helper_called(f):
    made = module(lambda self, x: self.noise(x, self.training))()
    made.noise = Noise(f)
    return made


def helper_static(f):
    made = module(lambda self, x: self.noise.still(f, x, self.training))()
    made.noise = Noise(None)
    return made


def helper_table(f):
    made = module(lambda self, x: self.noise.from_table(x, self.training))()
    made.noise = Noise(f)
    return made


def helper_closure(f):
    noise = Noise(f)
    return module(lambda self, x: noise.apply(x, self.training))()


def helper_made(f):
    def forward(self, x):
        return Noise(f)(x, self.training)

    return module(forward)()


def inherited(f):
    def forward(self, x):
        return f(x, self.training)

    parent = module(forward)
    return type("Child", (parent,), {})()


def by_super(f):
    parent = module(lambda self, x: f(x, self.training))

    class Child(parent):
        def forward(self, x):
            return super().forward(x) + 0.0

    return Child()


def mixed_in(f):
    class Mixin:
        def noisy(self, x):
            return f(x, self.training)

    class Both(Mixin, nn.Module):
        def forward(self, x):
            return self.noisy(x)

    return Both()


def on_the_instance(f):
    made = nn.Identity()
    made.forward = lambda x: f(x, made.training)
    return made


def on_the_instance_partial(f):
    made = nn.Linear(8, 8)
    before = made.forward
    made.forward = functools.update_wrapper(functools.partial(f, training=True), before)
    return made


def bound_to_the_instance(f):
    made = nn.Identity()
    made.forward = (lambda self, x: f(x, self.training)).__get__(made)
    return made


def partial_method(f):
    def run(self, x, call):
        return call(x, self.training)

    return type("Styled", (nn.Module,), {"forward": functools.partialmethod(run, call=f)})()


def comprehension(f):
    return module(lambda self, x: [f(y, self.training) for y in (x,)].pop())()


def generator(f):
    def forward(self, x):
        return next(f(y, self.training) for y in (x,))

    return module(forward)()


def yielding(f):
    def forward(self, x):
        def each():
            yield f(x, self.training)

        return next(each())

    return module(forward)()


def nested(f):
    def forward(self, x):
        def inner(y):
            def innermost():
                return f(y, self.training)

            return innermost()

        return inner(x)

    return module(forward)()


def local_name(f):
    def forward(self, x):
        g = f
        return g(x, self.training)

    return module(forward)()


def reduced(f):
    def forward(self, x):
        return functools.reduce(lambda y, g: g(y, self.training), (f,), x)

    return module(forward)()


def mapped(f):
    def forward(self, x):
        return next(iter(map(f, (x,), (self.training,))))

    return module(forward)()


def other_name_for_self(f):
    class Other(nn.Module):
        def helper(this, x):  # noqa: N805 - what is tried
            return f(x, this.training)

        def forward(this, x):  # noqa: N805
            return this.helper(x)

    return Other()


def hook(f):
    layer = nn.Identity()
    layer.register_forward_hook(lambda module, given, y: f(y, module.training))
    return nn.Sequential(layer)


def hook_before(f):
    layer = nn.Identity()
    layer.register_forward_pre_hook(lambda module, given: f(given[0], module.training))
    return nn.Sequential(nn.Sequential(layer))


def function_of_autograd(f):
    class Through(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, training):
            return f(x, training)

        @staticmethod
        def backward(ctx, grad):
            return grad, None

    return module(lambda self, x: Through.apply(x, self.training))()


def module_in_a_dict(f):
    made = module(lambda self, x: self.held["a"](x))()
    made.held = {"a": closure(f)}
    return made


def module_in_a_closure(f):
    held = [closure(f)]
    return module(lambda self, x: held[0](x))()


def static_forward(f):
    return module(staticmethod(lambda x: f(x, True)))()


def class_forward(f):
    return module(classmethod(lambda cls, x: f(x, True)))()


class Unhashable:
    """A callable that is equal to others, and so has no hash."""

    def __init__(self, f):
        self.f = f

    def __eq__(self, other):
        return False

    def __call__(self, x):
        return self.f(x, True)


def object_on_the_instance(f):
    made = nn.Identity()
    made.forward = Unhashable(f)
    return made


STYLES = [
    value
    for value in list(vars().values())
    if getattr(value, "__module__", "") == __name__
    and callable(value)
    and not isinstance(value, type)
    and value not in (dropped, noisy, skipped, wraps, bare, passing, module)
]
