"""Tests in several real processes, which torchrun starts on the loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()),
    reason="torch.distributed with gloo is not in this build of PyTorch",
)

HERE = Path(__file__).parent


def run_in_processes(worker, number):
    """Runs the file `worker`, which ends by `leave`, in so many processes. All of them must pass.

    It may import what lies beside it and in the folders above, up to this one.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--local-addr", "127.0.0.1", f"--nproc-per-node={number}", str(worker)]
    places = [str(place) for place in worker.parents if place.is_relative_to(HERE)]
    places += filter(None, [os.environ.get("PYTHONPATH")])
    settings = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    settings |= {"PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]


def leave():
    """Ends a worker that has passed, when all have.

    Not by way of Python's own end: threads of gloo outlive their group, and before Python 3.14 one
    that lets go of a tensor in that time aborts the process.
    """
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
