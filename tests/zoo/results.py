"""What was found of each model, kept from run to run while versions and code are the same."""

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import thinned

# The libraries, and the file here that builds their models.
LIBRARIES = {
    "transformers": "architectures",
    "timm": "pictures",
    "peft": "adapters",
    "torch_geometric": "graphs",
}
HERE = Path(__file__).parent
DECIDE = ("trial", "runs", "subject", "arguments", "shrinking", "particulars")


def versions():
    found = {"Python": platform.python_version()}
    for name in ("torch", "transformers", "timm", "peft", "torch_geometric", "accelerate", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def _digest(library):
    """Of all that decides what is found: the code of Thinned, the trial, the versions."""
    package = Path(thinned.__file__).parent
    files = [*sorted(package.rglob("*.py")), *(HERE / f"{name}.py" for name in DECIDE)]
    files.append(HERE / f"{LIBRARIES[library]}.py")
    digest = hashlib.sha256(json.dumps(versions()).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def is_built(answer):
    return "not built" not in answer


def is_whole(answer):
    """Whether all was tried. Of what could not be built there is nothing more to try."""
    return not answer["quick"] or not is_built(answer)


class Results:
    def __init__(self, library, folder):
        self.file = Path(folder) / f"{library}.jsonl"
        self.digest = _digest(library)

    def read(self, earlier=False):
        """The answers of this code and these versions by name; of two the later one.

        earlier : with those of earlier codes, where this one has none.
        """
        if not self.file.exists():
            return {}
        whole = [
            line for line in self.file.read_text().splitlines(keepends=True) if line[-1] == "\n"
        ]
        answers = [json.loads(line) for line in whole]
        ours = [a for a in answers if self.is_ours(a)]
        return {a["name"]: a for a in [*(answers if earlier else []), *ours]}

    def is_ours(self, answer):
        """Whether it is an answer of this code and these versions."""
        return answer["of"] == self.digest

    def done(self, quick):
        """The names that a run, a quick one or a whole one, need not try."""
        return {name for name, a in self.read().items() if quick or is_whole(a)}

    def add(self, answer):
        """In one write, so that lines of two processes do not mix."""
        line = json.dumps({**answer, "of": self.digest}) + "\n"
        file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
