"""Real processes, started by torchrun on the loopback: every mask is a part of the whole one."""

from pathlib import Path

import pytest
import torch
from processes import needs_gloo, run_in_processes

pytestmark = needs_gloo

WORKER = Path(__file__).with_name("worker.py")


@pytest.mark.one_in(2)
@pytest.mark.parametrize("processes", [2, 4])
def test_every_process_draws_its_part_of_the_mask(processes):
    run_in_processes(WORKER, processes)
    if torch.__version__ < (2, 7):
        pytest.skip("all passed but FSDP2, which in 2.6 asks streams of the CPU for events")


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 4])
def test_a_first_call_that_some_processes_make_says_what_it_waits_for(processes):
    run_in_processes(WORKER.with_name("apart.py"), processes)
