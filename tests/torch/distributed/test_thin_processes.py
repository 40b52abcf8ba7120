"""Two real processes, started by torchrun on the loopback, train a thin model together."""

from pathlib import Path

import pytest
from processes import needs_gloo, run_in_processes

pytestmark = needs_gloo

WORKER = Path(__file__).with_name("thin_worker.py")


@pytest.mark.long
def test_processes_that_split_a_batch_train_as_one():
    run_in_processes(WORKER, 2)
