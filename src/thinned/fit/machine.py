"""What a result was computed on, as the report says it."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["machine"]

CPU_FACTS = Path("/proc/cpuinfo")  # Linux; elsewhere Python's answer must do


def machine() -> str:
    """The system, the processor and the number of cores that this process may use."""
    import joblib

    cores = joblib.cpu_count()
    return (
        f"{platform.system()} {platform.machine()}, {_processor()}, "
        f"{cores} core{'s' if cores != 1 else ''}"
    )


def _processor() -> str:
    if CPU_FACTS.is_file():
        for line in CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "processor unknown"
