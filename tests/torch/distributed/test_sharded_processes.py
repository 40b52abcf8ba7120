"""Two real processes, started by torchrun on the loopback, save and resume a sharded model."""

from pathlib import Path

import pytest
import torch
from processes import needs_gloo, run_in_processes

pytestmark = needs_gloo


@pytest.mark.skipif(
    torch.__version__ < (2, 7), reason="FSDP2 of 2.6 asks streams of the CPU for events"
)
def test_a_sharded_training_resumes_bit_for_bit():
    run_in_processes(Path(__file__).with_name("sharded_worker.py"), 2)
