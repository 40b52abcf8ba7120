"""Check a thinned that is installed as users have it: a wheel, and NumPy beside it.

    python check_installed.py mask_vectors.json

Asserts that a bare import loads no framework, and then, for every kernel that this processor runs,
that masks and values are those of the published vectors. Prints what was checked.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

before = set(sys.modules)
import thinned  # noqa: E402

loaded = {name.partition(".")[0] for name in set(sys.modules) - before}

from thinned import kernel  # noqa: E402


def bits(text: str, count: int) -> Any:
    """Keep bits from hexadecimal, the first element in the lowest bit of the first byte."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    return np.unpackbits(packed, bitorder="little")[:count].astype(bool)


def check_package() -> None:
    foreign = loaded - {"thinned", "numpy", *sys.stdlib_module_names}
    assert not foreign, foreign
    assert importlib.metadata.version("thinned") == thinned.__version__
    assert files("thinned").joinpath("py.typed").is_file()


def check_vectors(vectors: dict[str, Any]) -> int:
    """How many vectors were compared."""
    compared = 0
    for entry in vectors["keep"]:
        at = thinned.Address(**entry["address"])
        start, count = entry["start"], entry["count"]
        window = thinned.Window((start,), (start + count,))
        mask = thinned.keep_mask(count, entry["p"], at, window=window, mirror=entry["mirror"])
        assert np.array_equal(mask, bits(entry["keep"], count)), entry
        compared += 1
    for entry in vectors["shared_axes"]:
        at, shared = thinned.Address(**entry["address"]), tuple(entry["shared_axes"])
        mask = thinned.keep_mask(entry["shape"], entry["p"], at, shared)
        assert np.array_equal(mask.reshape(-1), bits(entry["keep"], mask.size)), entry
        compared += 1
    for entry in vectors["values"]:
        if entry["dtype"] == "bfloat16":  # a type of ml_dtypes, which is not there
            continue
        stored = np.dtype(entry["dtype"]).newbyteorder("<")
        x = np.frombuffer(bytes.fromhex(entry["x"]), stored)
        y = thinned.dropout(x, entry["p"], thinned.Address(**entry["address"]))
        assert y.astype(stored).tobytes().hex() == entry["y"], entry
        compared += 1
    return compared


def check_threads() -> None:
    """An array that several threads share comes out as it does from one."""
    x = np.ones((1024, 1025), np.float32)
    at = thinned.Address(seed=3, site="fc1", step=2)
    alone, together = np.full_like(x, np.nan), np.full_like(x, np.nan)
    thinned.set_num_threads(1)
    thinned.dropout(x, 0.3, at, out=alone)
    thinned.set_num_threads(4)
    thinned.dropout(x, 0.3, at, out=together)
    assert np.array_equal(alone, together)
    assert np.array_equal(alone != 0, thinned.keep_mask(x.shape, 0.3, at))


def main(file: str) -> None:
    vectors = json.loads(Path(file).read_text(encoding="utf-8"))
    check_package()
    print(thinned.kernel_info())
    for name in thinned.kernel_info().runnable:
        kernel.use_kernel(name)
        assert thinned.kernel_info().name == name
        print(f"{name}: {check_vectors(vectors)} vectors")
        check_threads()
    print(f"thinned {thinned.__version__} on Python {sys.version.split()[0]}: as published")


if __name__ == "__main__":
    main(sys.argv[1])
