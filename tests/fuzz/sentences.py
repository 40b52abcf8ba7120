"""What counts as a sentence of ours, in one place.

A refusal is ours if all of this holds; anything else that is raised is a fault:

1. its class is one of CLASSES itself or the package's own of one, not some library's subclass;
2. it was raised by a line of the package: the innermost frame lies in src/thinned;
3. its text begins with a public name, or with "thinned", and a colon: "dropout: p must be ...";
4. it ends as a sentence does and holds printable characters only, so that no terminal obeys it.
"""

import re
from functools import cache
from pathlib import Path

import thinned

CLASSES = (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError)
CLASSES += (NotImplementedError, OverflowError, AssertionError)
HERE = Path(thinned.__file__).parent.as_posix() + "/"
# What a method of a class says of itself carries the method's name behind the class's.
_BEGINS = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)(?:\([^)]*\))?: \S")


@cache
def _names():
    from .surface import PARTS, surface

    names = {part for name in surface() for part in name.split(".")}
    return names | PARTS | {"thinned"}


def text_of(error):
    """KeyError shows its text quoted; what it was given is the text."""
    return str(error.args[0]) if len(error.args) == 1 else str(error)


def raised_by_a_model(error):
    """Whether the forward of a module of PyTorch's own raised it."""
    frame, inside = error.__traceback__, False
    while frame is not None:
        code = frame.tb_frame.f_code
        inside |= code.co_name == "forward" and "/torch/nn/modules/" in code.co_filename
        frame = frame.tb_next
    return inside


def fault(error):
    """Why this is no sentence of ours, or None where it is one."""
    text = text_of(error)
    kind = type(error)
    own = kind.__module__.partition(".")[0] == "thinned" and issubclass(kind, CLASSES)
    if kind not in CLASSES and not own:
        return f"class {type(error).__module__}.{type(error).__name__}"
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = Path(frame.tb_frame.f_code.co_filename).as_posix() if frame else ""
    if not where.startswith(HERE):
        return f"raised by {where.rpartition('site-packages/')[2] or 'nobody'}"
    begins = _BEGINS.match(text)
    if not begins or not set(begins[1].split(".")) & _names():
        return "does not begin with a public name"
    if not text.rstrip().endswith((".", "?", "!", ")")):
        return "ends in the middle of a sentence"
    if not all(c.isprintable() or c == "\n" for c in text):
        return "holds a character that is not printable"
    return None
