"""Public packages, each installed alone in a folder, to be read and scanned."""

import subprocess
import sys
from pathlib import Path


def installed(below: Path, name: str, version: str) -> Path:
    """Return the folder that a package is installed in, after installing it where it is not."""
    home = below / f"{name}-{version}"
    if not home.is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
        subprocess.run([*command, "--target", str(home), f"{name}=={version}"], check=True)
    return home
