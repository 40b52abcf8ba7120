"""Two real processes, started by torchrun on the loopback, train a stack with LayerDrop."""

from pathlib import Path

from processes import needs_gloo, run_in_processes

pytestmark = needs_gloo


def test_skipped_layers_have_gradients_where_they_are_awaited():
    run_in_processes(Path(__file__).with_name("layer_drop_worker.py"), 2)
