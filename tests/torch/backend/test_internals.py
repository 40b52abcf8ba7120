"""Names from PyTorch's inside: without any one of them, its feature is lost and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch  # noqa: F401 - where it is absent, the whole file is skipped

import thinned
from thinned.backends.torch import internals

ROOT = Path(thinned.__file__).parent

# Each set of names in a child of its own, which is forked once PyTorch is loaded. A name is looked
# for under another one, as if this PyTorch had renamed it; PyTorch itself keeps it.
SCRIPT = """
import importlib.util, os, sys, traceback, warnings
import torch
from torch import nn

def without(names):
    spec = importlib.util.find_spec("thinned.backends.torch.internals")
    source = open(spec.origin, encoding="utf-8").read()
    for name in names:
        # Keys of modes are asked for by their last word.
        word = name if f'"{name}"' in source else name.rpartition(".")[2]
        assert source.count(f'"{word}"') == 1, name
        source = source.replace(f'"{word}"', f'"{word}_renamed"')
    room = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = room
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        exec(compile(source, spec.origin, "exec"), room.__dict__)
    texts = [str(one.message) for one in said]
    costs = {name: room.NAMES[name + "_renamed"] for name in names}
    for name in names:
        told = [t for t in texts if name.replace(":", ".") in t and costs[name] in t]
        assert len(told) == bool(costs[name]), (name, texts)
    assert len(texts) == sum(map(bool, costs.values())), texts

    import thinned
    import thinned.torch as tt
    at = thinned.Address(seed=1, site="a")
    x = torch.ones(4, 8, requires_grad=True)
    y = tt.functional.dropout(x, 0.5, training=True, at=at)
    y.sum().backward()
    keep = torch.tensor(thinned.keep_mask((4, 8), 0.5, at))
    assert torch.equal(y != 0, keep) and torch.equal(x.grad != 0, keep)
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tt.adopt(model, seed=3, optimizer=optimizer)
    drawn = model(torch.ones(4, 8))
    drawn.sum().backward()
    optimizer.step()
    tt.release(model)

for argument in sys.argv[1:]:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            without(argument.split(","))
        except BaseException:
            print("FAILED", argument)
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("done", argument, status)
"""

forks = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="names are taken away in forks of one process"
)


def tried(*sets):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *sets], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert failed == [], done.stdout[-6000:]
    assert done.stdout.count("done ") == len(sets)


@forks
def test_with_every_name_gone_plain_calls_go_on():
    names = sorted(internals.NAMES)
    assert len(names) > 20
    tried(",".join(names))


@forks
@pytest.mark.long
def test_a_name_that_is_gone_costs_its_feature_and_not_the_import():
    tried(*sorted(internals.NAMES))


def test_this_release_has_every_name():
    assert all(not name.endswith("_renamed") for name in internals.NAMES)


# What may say torch._something besides: what is built and tested for finished releases; and what
# lowers operators in Inductor's own terms, all of Inductor's in one file.
ELSEWHERE = {"torch/compat/torch_2_6.py", "backends/torch/in_inductor.py"}
PRIVATE = re.compile(r"\btorch\._[a-z]\w*\.?|\bfrom torch\._|import _pytree|\bforward_ad import _")


def _code(line):
    return re.sub(r'"[^"]*"', "", line.split("#")[0])


def test_names_without_a_promise_stand_in_one_file():
    found = {}
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if name == "backends/torch/internals.py" or name in ELSEWHERE:
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        hits = [line.strip() for line in lines if PRIVATE.search(_code(line))]
        if hits:
            found[name] = hits
    assert found == {}
