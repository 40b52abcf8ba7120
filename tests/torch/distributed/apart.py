"""Run by torchrun on every process: a first call that only some processes make, and its likes."""

import os
import threading
import time

import pytest
import torch
import torch.distributed as dist
from processes import leave
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import thinned
from thinned import members
from thinned.torch import adopt

X = torch.ones(4, 6)


def build(seed=1, **more):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))
    return model, adopt(model, seed=seed, ranks="split", **more).clock


def mask(model, rows=4):
    return model[1](X[:rows]) != 0


def wanted(rows=4, **more):
    size, rank = dist.get_world_size(), dist.get_rank()
    at = thinned.Address(1, "1", **more)
    whole = thinned.keep_mask((rows * size, 6), 0.5, at, like=X)
    return whole[rank * rows :][:rows]


def told(words, ask):
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=words):
        ask()
    return time.monotonic() - begun


def a_first_call_on_one_rank_only(last):
    """The others are at another collective, and make their first call when it is over."""
    model, clock = build()
    others = ", ".join(map(str, range(1, dist.get_world_size())))
    if dist.get_rank() == 0:
        words = f"rank 0 calls site '1' and waited 1 seconds for the first call of ranks? {others},"
        assert told(words + " which never came.*evaluation.*piece.*TIMEOUT", lambda: model(X)) < 30
        assert clock.drawn(0) == 0
    dist.barrier()
    if dist.get_rank() > 0:
        words = r"calls site '1' for the first time. Rank 0 called site '1' before, waited 1 sec"
        told(words, lambda: model(X))
        assert clock.drawn(0) == 0
    dist.barrier()
    assert torch.equal(mask(model), wanted())  # together, all is well
    if dist.get_rank() == last:
        mask(model)  # and a later one alone waits for nobody
        members.predict(model, X, members=2)
        model.eval()(X)
    dist.barrier()


def a_first_call_in_a_piece_and_in_evaluation_on_one_rank():
    model, clock = build()
    if dist.get_rank() == 0:
        model.eval()(X)
        model.train()
        with clock.piece(0):
            model(X)
    dist.barrier()
    assert torch.equal(mask(model), wanted())


def one_that_is_late_is_awaited():
    model, _ = build()
    if dist.get_rank() == 0:
        time.sleep(0.4)
    assert torch.equal(mask(model), wanted())


def rows_that_differ_are_told_to_all_each_time():
    model, clock = build()
    rank, size = dist.get_rank(), dist.get_world_size()
    for rows in (3, 4):
        mine = rows if rank == size - 1 else 2
        expected = [2] * (size - 1) + [rows]
        told(rf"equal sizes, got \[{', '.join(map(str, expected))}\]", lambda m=mine: model(X[:m]))
    assert torch.equal(mask(model), wanted())
    assert clock.even


def several_models_of_one_seed():
    models = [build()[0] for _ in range(3)]
    for model in models:
        assert torch.equal(mask(model), wanted())


def threads_of_one_rank_ask_once():
    model, clock = build()
    threads = [threading.Thread(target=model, args=(X,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.even
    assert clock.drawn(0) == 3


def a_part_of_all_processes():
    if dist.get_world_size() < 4:
        return
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    mine = groups[dist.get_rank() // 2]
    model, _ = build(group=mine)
    if dist.get_rank() < 2:  # the other group does not come, and is not awaited
        whole = thinned.keep_mask((8, 6), 0.5, thinned.Address(1, "1"), like=X)
        assert torch.equal(mask(model), whole[dist.get_rank() * 4 :][:4])
    dist.barrier()


def an_optimizer_of_all_ranks_ticks_once():
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 2))
    wrapped = DistributedDataParallel(model)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1)
    clock = adopt(wrapped, ranks="split", optimizer=optimizer).clock
    for step in range(1, 4):
        wrapped(X).sum().backward()
        optimizer.step()
        assert clock.step == step


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    one_that_is_late_is_awaited()
    os.environ["THINNED_RANKS_TIMEOUT"] = "1"
    a_first_call_on_one_rank_only(dist.get_world_size() - 1)
    os.environ["THINNED_RANKS_TIMEOUT"] = "soon"
    with pytest.raises(ValueError, match="THINNED_RANKS_TIMEOUT must be a number of seconds, got"):
        mask(build(seed=2)[0])
    del os.environ["THINNED_RANKS_TIMEOUT"]
    a_first_call_in_a_piece_and_in_evaluation_on_one_rank()
    rows_that_differ_are_told_to_all_each_time()
    several_models_of_one_seed()
    threads_of_one_rank_ask_once()
    a_part_of_all_processes()
    an_optimizer_of_all_ranks_ticks_once()
    leave()


if __name__ == "__main__":
    main()
