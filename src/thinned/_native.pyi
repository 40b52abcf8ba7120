"""The compiled module: native/module.cpp."""

from enum import Enum
from typing import Any

class Law(Enum):
    bernoulli = 0
    gaussian = 1
    mask = 2
    words = 3
    raw_gaussian = 4

class Type(Enum):
    float32 = 0
    float64 = 1
    float16 = 2
    bfloat16 = 3

class Op(Enum):
    scale = 0
    select = 1
    affine = 2
    select_array = 3
    affine_array = 4

def apply(
    x: Any,
    y: Any,
    f: Any,
    law: Law,
    type: Type,
    op: Op,
    scale: float,
    fill: float,
    seed: int,
    site: int,
    step: int,
    call: int,
    threshold: int,
    mirror: bool,
    offset: int,
    strides: tuple[int, ...] | None,
    threads: int,
) -> None: ...
def apply_at(
    x: int,
    y: int,
    f: int,
    shape: tuple[int, ...],
    x_strides: tuple[int, ...],
    y_strides: tuple[int, ...],
    f_strides: tuple[int, ...],
    law: Law,
    type: Type,
    op: Op,
    scale: float,
    fill: float,
    seed: int,
    site: int,
    step: int,
    call: int,
    threshold: int,
    mirror: bool,
    offset: int,
    strides: tuple[int, ...] | None,
    threads: int,
) -> None: ...
def rows_forward(
    pointers: tuple[int, ...],
    rms: bool,
    eps: float,
    n: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    type: Type,
    wide: bool,
    scale: float,
    seed: int,
    site: int,
    step: int,
    call: int,
    threshold: int,
    mirror: bool,
    offset: int,
    threads: int,
) -> None: ...
def rows_backward(
    pointers: tuple[int, ...],
    rms: bool,
    parts: int,
    n: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    type: Type,
    wide: bool,
    scale: float,
    seed: int,
    site: int,
    step: int,
    call: int,
    threshold: int,
    mirror: bool,
    offset: int,
    threads: int,
) -> None: ...
def packed(
    out: Any,
    n: int,
    seed: int,
    site: int,
    step: int,
    call: int,
    threshold: int,
    mirror: bool,
    offset: int,
    threads: int,
) -> None: ...
def philox4x32_10(
    counter: tuple[int, int, int, int] | list[int], key: tuple[int, int] | list[int]
) -> list[int]: ...
def runnable() -> list[str]: ...
def built() -> list[str]: ...
def use(name: str) -> bool: ...
def used() -> str: ...
def use_reference(wanted: bool) -> None: ...
def set_num_threads(n: int) -> None: ...
def set_team(parallel: int, number: int) -> None: ...
def num_threads() -> int: ...
def threads_beside(n: int, allowed: int) -> int: ...

entry: Any
xla_noise: Any
xla_draw: Any
