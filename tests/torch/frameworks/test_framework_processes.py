"""Two real processes, started by torchrun on the loopback, train under each framework."""

from pathlib import Path

import pytest
import transformers  # noqa: F401 - what the worker needs
from processes import needs_gloo, run_in_processes

pytestmark = needs_gloo


@pytest.mark.long
def test_the_trainers_processes_are_as_one():
    run_in_processes(Path(__file__).with_name("transformers_worker.py"), 2)
