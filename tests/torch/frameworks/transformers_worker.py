"""Run by torchrun on every process: the Trainer's parallelism gives what one process gives."""

import sys
import tempfile
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from bert import ROWS, SEED, bert, rows, trainer, weights
from processes import leave
from transformers import Trainer

from thinned.torch import adopt
from thinned.torch.transformers import Dropout

# One mean over all rows, and not one of each process's tokens.
SETTINGS = {
    "optim": "sgd",
    "average_tokens_across_devices": False,
    "ddp_find_unused_parameters": False,
}


class Sharding(Trainer):
    """accelerate shards models on accelerators alone: it is told here that this is one."""

    def create_accelerator_and_postprocess(self):
        begin = AcceleratorState.__init__

        def told(state, *args, **kwargs):
            begin(state, *args, **kwargs)
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            state.distributed_type = DistributedType.FSDP
            state.fsdp_plugin = kwargs["fsdp_plugin"]

        AcceleratorState.__init__ = told
        try:
            super().create_accelerator_and_postprocess()
        finally:
            AcceleratorState.__init__ = begin


def trained(folder, resume=None, ranks=None, kind=Trainer, **more):
    settings = SETTINGS | {"per_device_train_batch_size": ROWS // 2} | more
    one = trainer(folder, [Dropout(SEED, ranks=ranks)], bert(layers=2), kind, **settings)
    one.train(resume_from_checkpoint=resume)
    return one


def whole(folder):
    """What one process alone gives, on all rows: a training by hand with the same numbers."""
    model = bert(layers=2).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    adopt(model, seed=SEED, ranks="replicated", optimizer=optimizer)
    data = rows()
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 1e-2 * (6 - step) / 6
        optimizer.zero_grad()
        batch = data[step * ROWS : (step + 1) * ROWS]
        words = torch.stack([row["input_ids"] for row in batch])
        labels = torch.tensor([row["labels"] for row in batch])
        model(input_ids=words, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    expected = weights(model)
    expected.pop("thinned_clock")
    return expected


def close(found, expected):
    assert found.keys() == expected.keys()
    return all(torch.allclose(found[n], expected[n], atol=1e-6) for n in found)


def full(one):
    state = one.model.state_dict().items()
    return {n: v.full_tensor() if hasattr(v, "full_tensor") else v.clone() for n, v in state}


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        one = trained(folder)
        assert dist.get_world_size() == 2
        shared = [own]
        dist.broadcast_object_list(shared, src=0)
        expected = whole(folder)
        assert close(weights(one.model), expected)

        resumed = trained(folder, resume=str(Path(shared[0]) / "checkpoint-2"))
        for name, value in weights(resumed.model).items():
            assert torch.equal(value, one.model.state_dict()[name]), name

        # The planted fault: processes with masks of their own are not one process.
        other = trained(folder, ranks="independent", save_strategy="no")
        assert not close(weights(other.model), expected)

        # Each process saves its shards, all in one folder; or the first one saves the whole, also
        # of the optimizer, which PyTorch then loads only where it has a state.
        for kind, optimizer in (("SHARDED_STATE_DICT", "sgd"), ("FULL_STATE_DICT", "adamw_torch")):
            together = Path(shared[0]) / kind
            sharding = {"optim": optimizer, "fsdp": True, "fsdp_config": {
                "version": 2, "transformer_layer_cls_to_wrap": "BertLayer",
                "state_dict_type": kind,
            }}  # fmt: skip
            AcceleratorState._reset_state()
            sharded = trained(together, kind=Sharding, **sharding)
            assert any(hasattr(p, "full_tensor") for p in sharded.model.parameters())
            assert optimizer != "sgd" or close(full(sharded), expected)
            AcceleratorState._reset_state()
            dist.barrier()
            more = trained(together, str(together / "checkpoint-2"), kind=Sharding, **sharding)
            ends = full(sharded), full(more)
            assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
            dist.barrier()
    sys.stdout.flush()
    leave()


if __name__ == "__main__":
    main()
