"""On eight devices every mask is NumPy's, each device draws its own part, and nothing is sent."""

import os
import subprocess
import sys
from pathlib import Path


def test_eight_devices():
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, str(Path(__file__).with_name("sharded_worker.py"))]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "all masks are NumPy's" in done.stdout
