"""Two real processes, started by torchrun on the loopback, train under each framework."""

from pathlib import Path

import pytest
from libraries import needs
from processes import needs_gloo, run_in_processes

pytestmark = needs_gloo


@pytest.mark.long
@needs("transformers")
@needs("accelerate")
def test_the_trainers_processes_are_as_one():
    run_in_processes(Path(__file__).with_name("transformers_worker.py"), 2)


@pytest.mark.long
@needs("lightning")
def test_lightnings_processes_draw_their_parts_of_a_mask():
    run_in_processes(Path(__file__).with_name("lightning_worker.py"), 2)


@needs("accelerate")
@pytest.mark.long
def test_accelerates_processes_are_as_one():
    run_in_processes(Path(__file__).with_name("accelerate_worker.py"), 2)
