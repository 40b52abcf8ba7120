"""On eight devices every mask is NumPy's, each device draws its own part, and nothing is sent; and
on two processes each draws its own part. Every row of the catalogue is what it is on one device,
however its x is divided."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# What sends more in training than in evaluation, where x is divided along its last axis or, of
# three and more, its second. docs/jax.md gives the reasons.
SENDING = {
    "drop_attention",
    "drop_block",
    "drop_head",
    "excitation_dropout",
    "k_of_n_dropout",
    "patch_dropout",
    "spectral_dropout",
}
# Products along a divided axis, and an order of the weights: they send in evaluation, too, and the
# compiler may choose otherwise which operand goes around.
PRODUCTS = {
    "bridgeout",
    "drop_connect",
    "lora_dropout",
    "shakeout",
    "sparse_lora_dropout",
    "sparse_variational_dropout",
    "targeted_dropout",
    "variational_dropout",
}


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


def methods_sending(*names):
    """By row of the catalogue what it sends, from a program of its own with four devices."""
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, str(Path(__file__).with_name("sharded_methods.py")), *names]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.long
def test_what_orders_or_transforms_an_axis_that_is_divided():
    assert set(methods_sending("k_of_n_dropout", "spectral_dropout")) <= SENDING


@pytest.mark.long
def test_every_method_on_every_mesh():
    found = methods_sending()
    assert len(found) > 50
    for name, ways in found.items():
        for way, (training, evaluation, *gradient) in ways.items():
            if way.endswith(" rows"):
                assert training == evaluation == sum(gradient) == 0, (name, way)
            elif name not in PRODUCTS | SENDING:
                assert training == evaluation == 0, (name, way)
    sending = {n for n, ways in found.items() if any(t > e for t, e, *_ in ways.values())}
    assert sending - PRODUCTS == SENDING
    page = (Path(__file__).parents[2] / "docs" / "jax.md").read_text(encoding="utf-8")
    for name in SENDING | PRODUCTS:
        assert f"`{name}`" in page, name
