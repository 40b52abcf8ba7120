"""Examples run by themselves and say what they promise."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def said(name: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested_here():
    tested = {name.removeprefix("test_") + ".py" for name in globals() if name.startswith("test_")}
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested


def test_by_hand():
    found = {name: float(v) for name, v in re.findall(r"(\w+) accuracy (.*)", said("by_hand.py"))}
    assert found["train"] > 0.99
    assert found["test"] > 0.96


def test_torch_mlp():
    lines = [line.rpartition(" ")[::2] for line in said("torch_mlp.py").splitlines()]
    assert dict(lines) == {
        f"{name}, {question}": answer
        for name in ("digits", "DropoutMLP")
        for question, answer in {
            "train(): two passes equal?": "False",
            "train(): equal after the same seed?": "True",
            "eval():  two passes equal?": "True",
        }.items()
    }


def test_finetune_resume():
    first, second = said("finetune_resume.py").splitlines()
    assert first == "bit for bit the same: True"
    assert float(second.rpartition(" ")[2]) > 0.7


def test_learned_rates():
    lines = dict(line.split(": ", 1) for line in said("learned_rates.py").splitlines())
    found = {name: [float(v) for v in re.findall(r"\d\.\d+", line)] for name, line in lines.items()}
    few, many = (found[f"Concrete dropout, {n} digits"] for n in (100, 1400))
    assert max(many[1:3]) < few[0] < min(few[1:3])  # from p = .1 down, and up
    few, many = (found[f"Variational, {n} digits"] for n in (100, 1400))
    assert many[1] < few[0] < few[1]
    assert min(found["Sparse variational"][:2]) > 0.5
    pixels, noise, _ = found["L0"]
    assert noise < pixels - 0.2
    assert min(values[-1] for values in found.values()) > 0.75
