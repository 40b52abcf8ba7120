"""Run by test_jax_sharded.py, with eight devices of the CPU: prints what differs, and fails."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import thinned
import thinned.jax
from thinned import Address
from thinned.backends.jax import sharding
from thinned.kernel import use_kernel

AT = Address(seed=3, site="fc1", step=5)
X = np.random.default_rng(0).standard_normal((16, 24, 8)).astype(np.float32)
MEMBERS = np.arange(8)
SPECS = (P("a"), P(None, "b"), P(None, None, ("a", "b")), P("b", "a"), P(("b", "a")), P())
SENDING = re.compile(
    r"all-reduce|all-gather|all-to-all|collective|reduce-scatter|\bsend\b|\brecv\b"
)


def everything(x, at):
    """Each kind of draw in one program: masks, shared ones, Gaussians, words; gradients."""

    def loss(x):
        return (thinned.dropout(x, 0.3, at) ** 2).sum()

    return (
        thinned.dropout(x, 0.3, at),
        thinned.drop_path(x, 0.3, at),
        thinned.gaussian_dropout(x, 0.3, at),
        thinned.uniform_dropout(x, 0.3, at),
        thinned.alpha_dropout(x, 0.3, at),
        thinned.zoneout(x, x + 1, 0.3, at),
        jax.grad(loss)(x) / 2,
    )


def expected(x):
    twice = thinned.dropout(thinned.dropout(x, 0.3, AT), 0.3, AT)
    return (
        thinned.dropout(x, 0.3, AT),
        thinned.drop_path(x, 0.3, AT),
        thinned.gaussian_dropout(x, 0.3, AT),
        thinned.uniform_dropout(x, 0.3, AT),
        thinned.alpha_dropout(x, 0.3, AT),
        thinned.zoneout(x, x + 1, 0.3, AT),
        twice,
    )


NAMES = ("dropout", "drop_path", "gaussian", "uniform", "alpha", "zoneout", "gradient")
EXACT = ("dropout", "drop_path", "zoneout", "gradient")


def assert_same(found, wanted, what):
    for name, y, e in zip(NAMES, found, wanted, strict=True):
        y = np.asarray(y)
        if name in EXACT:
            assert (y == e).all(), f"{what}: {name} differs in {(y != e).mean():.3f}"
        else:
            assert ((y == 0) == (e == 0)).all(), f"{what}: {name} has another mask"
            assert np.allclose(y, e, rtol=1e-5, atol=1e-5), f"{what}: {name} differs"


def assert_local(text, spec, mesh, what):
    """No device sends anything, and none holds an array as large as the whole."""
    assert not SENDING.search(text), f"{what}: {SENDING.search(text).group()}"
    if spec != P():
        whole = ",".join(map(str, X.shape))
        assert f"[{whole}]" not in text, f"{what}: an array of the whole's shape"
        elements = [
            np.prod([int(n) for n in s.split(",")]) for s in re.findall(r"\[([\d,]+)\]", text)
        ]
        parts = np.prod(
            [mesh.shape[n] for s in spec if s for n in ((s,) if isinstance(s, str) else s)]
        )
        assert max(elements) <= X.size // parts, f"{what}: {max(elements)} elements at once"


def sharded_programs(kernel):
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind,) * 2)
        for spec in SPECS:
            what = f"{kernel} {kind} {spec}"
            x = jax.device_put(X, NamedSharding(mesh, spec))
            program = jax.jit(everything).lower(x, AT).compile()
            found = program(x, AT)
            assert_same(found, expected(X), what)
            if kernel != "reference":  # whose tables of blocks are counted apart
                assert_local(program.as_text(), spec, mesh, what)
            else:
                assert not SENDING.search(program.as_text()), what
            for y in found:
                assert y.sharding.is_equivalent_to(x.sharding, 3), f"{what}: {y.sharding}"


def within_a_mesh_that_is_set():
    """jax.set_mesh puts the mesh into the types of all that is traced and lowered under it, also of
    what each device does."""
    for kind, spec in ((AxisType.Auto, P("a", "b")), (AxisType.Explicit, P("a"))):
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind,) * 2)
        with jax.set_mesh(mesh):
            x = jax.device_put(X, NamedSharding(mesh, spec))
            program = jax.jit(everything).lower(x, AT).compile()
            assert_same(program(x, AT), expected(X), f"set_mesh {kind}")
            assert not SENDING.search(program.as_text()), kind
            steps = jax.device_put(np.arange(4), NamedSharding(mesh, P("a")))
            at_each = jax.vmap(lambda x, i: thinned.dropout(x, 0.3, AT.replace(step=i)), (None, 0))
            for i, y in enumerate(np.asarray(jax.jit(at_each)(jnp.asarray(X), steps))):
                assert (y == thinned.dropout(X, 0.3, AT.replace(step=i))).all()


def pure_programs_hold_a_part():
    """Of XLA's own operations, too, each device runs what its part takes: counted in arithmetic."""
    mesh = jax.make_mesh((8,), ("a",))
    x = np.ones((64, 1024), np.float32)

    def work(x):
        f = jax.jit(lambda x, at: thinned.dropout(x, 0.3, at))
        text = f.lower(x, AT).compile().as_text()
        return max(
            np.prod([int(n) for n in s.split(",")]) for s in re.findall(r"u32\[([\d,]+)\]", text)
        )

    alone = work(jax.device_put(x, jax.devices()[0]))
    part = work(jax.device_put(x, NamedSharding(mesh, P("a"))))
    assert part <= alone / 8 * 1.25, (part, alone)


def bodies_of_shard_map():
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind,) * 2)
        for spec, check in (
            (P("a"), True),
            (P("b", "a"), False),
            (P(None, None, ("a", "b")), True),
        ):

            def body(x, at, spec=spec):
                w = thinned.jax.window(x, spec)

                def loss(x):
                    return (thinned.dropout(x, 0.3, at, window=w) ** 2).sum()

                return (
                    thinned.dropout(x, 0.3, at, window=w),
                    thinned.drop_path(x, 0.3, at, window=w),
                    thinned.gaussian_dropout(x, 0.3, at, window=w),
                    thinned.uniform_dropout(x, 0.3, at, window=w),
                    thinned.alpha_dropout(x, 0.3, at, window=w),
                    thinned.zoneout(x, x + 1, 0.3, at, window=w),
                    jax.grad(loss)(x) / 2,
                )

            f = jax.shard_map(
                body, mesh=mesh, in_specs=(spec, P()), out_specs=(spec,) * 7, check_vma=check
            )
            x = jax.device_put(X, NamedSharding(mesh, spec))
            program = jax.jit(f).lower(x, AT).compile()
            assert_same(program(x, AT), expected(X), f"shard_map {kind} {spec}")
            assert not SENDING.search(program.as_text())
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    some = jax.shard_map(
        lambda x, at: thinned.dropout(x, 0.3, at, window=thinned.jax.window(x, P("a"))),
        mesh=mesh, in_specs=(P("a"), P()), out_specs=P("a"), axis_names={"a"},
    )  # fmt: skip
    y = jax.jit(some)(jax.device_put(X, NamedSharding(mesh, P("a", "b"))), AT)
    assert (np.asarray(y) == thinned.dropout(X, 0.3, AT)).all(), "shard_map over some axes"


def members_on_devices():
    mesh = jax.make_mesh((8,), ("m",))
    members = jax.device_put(MEMBERS, NamedSharding(mesh, P("m")))
    f = jax.jit(jax.vmap(lambda n, x: thinned.dropout(x, 0.3, AT.fold_in(n)), in_axes=(0, None)))
    y = f(members, X)
    assert (np.asarray(y) == [thinned.dropout(X, 0.3, AT.fold_in(n)) for n in MEMBERS]).all()
    assert y.sharding.spec[0] == "m", y.sharding
    assert not SENDING.search(f.lower(members, X).compile().as_text())


def steps_of_training():
    """scan over steps with the batch sharded: what one device gives."""
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))

    def run(x):
        def step(w, i):
            at = AT.replace(step=i)
            g = jax.grad(lambda w: (thinned.dropout(x @ w, 0.3, at) ** 2).mean())(w)
            return w - 0.1 * g, None

        return lax.scan(step, jnp.eye(24), jnp.arange(4))[0]

    x = X[:, :, 0]
    there = jax.jit(run)(jax.device_put(x, NamedSharding(mesh, P("a"))))
    np.testing.assert_allclose(there, jax.jit(run)(x), rtol=2e-5, atol=1e-6)


def uneven_parts():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    x = X[:13]

    @jax.jit
    def f(x, at):
        x = lax.with_sharding_constraint(x, NamedSharding(mesh, P("a")))
        return thinned.dropout(x, 0.3, at)

    assert (np.asarray(f(x, AT)) == thinned.dropout(x, 0.3, AT)).all()


def parts_of_samples():
    """Draws that a whole sample takes part in: nothing is sent where the batch alone is divided."""
    maps = np.ones((8, 4, 6, 10), np.float32)
    methods = {
        "blocks": lambda x: thinned.drop_block(x, 0.3, AT, block_size=3),
        "blocks, counted over the batch": lambda x: thinned.drop_block(
            x, 0.3, AT, block_size=(2, 3), rescale="batch"
        ),
        "heads": lambda x: thinned.drop_head(x, 0.3, AT),
    }
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind,) * 2)
        for name, method in methods.items():
            for spec in (P("a"), P("a", "b")):
                x = jax.device_put(maps, NamedSharding(mesh, spec))
                program = jax.jit(method).lower(x).compile()
                what = f"{name} {kind} {spec}"
                np.testing.assert_allclose(program(x), method(maps), rtol=1e-6, err_msg=what)
                if spec == P("a") and "batch" not in name:
                    assert not SENDING.search(program.as_text()), what


def outside_of_programs():
    """On explicit axes, without a program around and without jax.set_mesh, where types say how an
    array is divided and not over which devices."""
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
    steps = jax.device_put(np.arange(4), NamedSharding(mesh, P("a")))

    def blocks(x, at):
        return thinned.drop_block(x, 0.3, at, block_size=3)

    def alpha(x, at):
        return thinned.alpha_dropout(x, 0.3, at)

    def at_steps(method):
        return jax.vmap(lambda x, i: method(x, AT.replace(step=i)), (None, 0))

    def masked(x):
        return thinned.keep_mask(x.shape, 0.3, AT, like=x)

    def exact(x):
        return thinned.k_of_n_dropout(x, 0.3, AT)

    for spec in (P("a"), P("a", "b"), P(None, "b")):
        x = jax.device_put(X[:, :, 0], NamedSharding(mesh, spec))
        mask = jax.jit(masked)(x)  # a program that takes x for its sharding alone
        assert (np.asarray(mask) == masked(X[:, :, 0])).all(), f"keep_mask {spec}"
        assert mask.sharding.is_equivalent_to(x.sharding, 2), mask.sharding
        squared = jax.jit(jax.grad(lambda x: (masked(x) * x**2).sum()))(x)
        np.testing.assert_array_equal(squared, 2 * x * masked(x))
        assert jax.jit(jax.vmap(masked))(x).shape == x.shape
        for program in (exact, jax.jit(exact)):
            np.testing.assert_allclose(program(x), exact(X[:, :, 0]), rtol=1e-6)
    maps = np.random.default_rng(1).standard_normal((4, 8, 4, 6, 6)).astype(np.float32)
    each = np.stack([blocks(one, AT) for one in maps])
    for spec in (P("a"), P("a", "b"), P(None, "b")):
        x = jax.device_put(maps, NamedSharding(mesh, spec))
        one = jax.device_put(maps[0], NamedSharding(mesh, P(*spec[1:])))
        np.testing.assert_allclose(blocks(one, AT), each[0], rtol=1e-6, err_msg=f"{spec}")
        y = jax.vmap(lambda x: blocks(x, AT))(x)
        np.testing.assert_allclose(y, each, rtol=1e-6, err_msg=f"vmap {spec}")
    for name, method in {"blocks": blocks, "alpha": alpha}.items():
        wanted = np.stack([method(maps[0], AT.replace(step=i)) for i in range(4)])
        for program in (jax.jit(at_steps(method)), at_steps(method)):
            y = program(jnp.asarray(maps[0]), steps)
            np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6, err_msg=name)


def faults_are_caught():
    moved = sharding._moved
    try:
        sharding._moved = lambda words, starts, strides: words  # every device draws the first part
        sharding.partitioned.cache_clear()
        jax.clear_caches()
        mesh = jax.make_mesh((8,), ("a",))
        x = jax.device_put(X, NamedSharding(mesh, P("a")))
        try:
            assert_same(jax.jit(everything)(x, AT), expected(X), "fault")
        except AssertionError:
            return
        raise SystemExit("a mask that begins anew on every device went unnoticed")
    finally:
        sharding._moved = moved
        sharding.partitioned.cache_clear()
        jax.clear_caches()


if __name__ == "__main__":
    assert jax.device_count() == 8
    sharded_programs(thinned.kernel_info().name)
    within_a_mesh_that_is_set()
    bodies_of_shard_map()
    members_on_devices()
    steps_of_training()
    uneven_parts()
    parts_of_samples()
    outside_of_programs()
    faults_are_caught()
    use_kernel("reference")
    SPECS = SPECS[3:4]
    sharded_programs("reference")
    within_a_mesh_that_is_set()
    pure_programs_hold_a_part()
    print("all masks are NumPy's")
    sys.exit(0)
