"""On eight devices every mask is NumPy's, each device draws its own part, and nothing is sent; and
on two processes each draws its own part."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def test_eight_devices():
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, str(Path(__file__).with_name("sharded_worker.py"))]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "all masks are NumPy's" in done.stdout


def test_two_processes():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    worker = str(Path(__file__).with_name("process_worker.py"))
    settings = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    how = {"env": settings, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, worker, address, str(i)], **how) for i in range(2)]
    try:
        for process in started:
            out, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors[-4000:]
            assert "its part of the whole masks" in out
    finally:
        for process in started:
            process.kill()
