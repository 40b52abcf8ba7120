"""A file's bytes: whether it is worth parsing, its lines, and what `# noqa` silences."""

from __future__ import annotations

import ast
import io
import os
import re
import stat
import tokenize
import warnings
from functools import lru_cache

__all__ = [
    "UnreadableError",
    "encoding_of",
    "is_silenced",
    "lines_of",
    "may_matter",
    "package_of",
    "parse",
    "read",
]

# The tree of a file takes some hundred bytes for each byte of it. No file written by hand is near
# this; a table of data may be, and would take the machine's memory.
LARGEST = 8 * 2**20
# Of a notebook most is pictures.
LARGEST_NOTEBOOK = 64 * 2**20

# A file is parsed if it names a framework and one of the things that rules start from. Every rule
# starts from a name that comes to the file through an import, so that the framework's name is in
# the text; and each word below is the part that the names of one group of rules share. In a large
# package about one file in twenty remains, and looking for words is a small part of parsing.
_FRAMEWORKS: tuple[bytes, ...] = (
    b"torch",
    b"jax",
    b"flax",
    b"equinox",
    b"haiku",
    b"keras",
    b"tensorflow",
    b"thinned",
)
_FRAMEWORKS += (b"timm", b"paddle", b"flash_attn", b"xformers")
# Not the English word, which dropped tables and packets are spoken of with.
_DROP = re.compile(
    rb"[Dd]ropout|[Dd]rop(?!ped|ping|s\b|na\b|_last|_dup|_col|_index|_unused|_removed|\("
    rb"| (?![=:])|[-\n.,;'\"`])"
    rb"|(?:(?<!\.)|self\.\w*)[Dd]rop\("
)
_WORDS: tuple[bytes, ...] = (
    b"flash_attn",
    b"memory_efficient_attention",
    b"multi_head_attention_forward",
    b"scaled_dot_product_attention",
    b"jit.trace",
)
_WORDS += (b"stochastic_depth", b"StochasticDepth", b"mask_feature", b"MultiheadAttention")
_WORDS += (b"TransformerEncoderLayer", b"TransformerDecoderLayer", b"keep_mask", b"KeepMask")
_WORDS += (b"keep_prob", b"keepProb", b"train=True", b"training=True", b"deterministic=False")
_WORDS += (
    b"ernoulli(",
    b"ernoulli_(",
    b"GradientTape",
    b"set_learning_phase(",
    b".train(",
    b"def train(self",
    b"def eval(self",
)
_WORDS += (b"training_step", b"export.export(", b"LSTM(", b"GRU(", b"RNN(")
# Nothing by itself; together with a gradient step, training that may go wrong.
_WITH_STEPS = (b"no_grad", b"inference_mode", b".eval(")
_SEEDS = re.compile(rb"(?<!load_)(?<!get_)seed(?:_\w+)?\(")
_STEPS: tuple[bytes, ...] = (b".backward(", b"manual_backward(", b"apply_gradients", b".fit(")
_STEPS += (b"train_on_batch", b"def forward")
_STEPS += (b"def on_train_batch_", b"def on_before_", b"def on_after_")
# Weights that are loaded and run, in a file that sets no mode.
_QUIET = (b"no_grad", b"inference_mode")
_MODES = (b".eval(", b".train(")
# model.eval without brackets, and the flag that is set on one module alone.
_NAMED = re.compile(rb"\.(?:eval|train)[ \t]*(?:#[^\n]*)?(?:\r?\n|$)|\.training = (?:True|False)")

_NEWLINE = re.compile(r"\r\n|\r|\n")
_NOQA = re.compile(
    r"#\s*noqa(?P<codes>\s*:\s*[A-Z]+[0-9]+(?:(?:\s*,\s*|\s+)[A-Z]+[0-9]+)*)?(?![\w:])", re.I
)


class UnreadableError(Exception):
    """Why a file could not be read or parsed, and on which line."""

    def __init__(self, sentence: str, line: int = 1) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.line = line


def read(path: str) -> bytes:
    """Return the bytes of a regular file of moderate size."""
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            os.listdir(path)
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableError("The file is no regular file.")
        largest = LARGEST_NOTEBOOK if path.endswith(".ipynb") else LARGEST
        if found.st_size > largest:
            size, most = found.st_size / 2**20, largest // 2**20
            raise UnreadableError(f"The file has {size:.0f} MiB, and at most {most} are read.")
        with open(path, "rb") as stream:
            return stream.read(largest + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(f"The file could not be read: {reason}.") from None


def may_matter(data: bytes) -> bool:
    """Say whether any rule could find something in a file of these bytes."""
    if not any(name in data for name in _FRAMEWORKS):
        # A loop that trains may be handed all that is a framework's, and so may settings.
        settles = b".config." in data and b"drop" in data and b"transformers" in data
        return settles or (b".backward(" in data and b".train(" in data)
    if any(word in data for word in _WORDS):
        return True
    if (b"drop" in data or b"Drop" in data) and _DROP.search(data) is not None:
        return True
    if _NAMED.search(data) is not None:
        return True
    # What builds the optimizer may train and evaluate by functions of other files.
    if b".parameters()" in data and b"optim." in data:
        return True
    if b".eval(" in data and (b"nnx" in data or b"compute_loss" in data):
        return True
    if b"training=False" in data and b"def call(" in data:
        return True
    if b"equinox" in data and (b"vmap(" in data or b"inference" in data):
        return True
    if b"from_pretrained(" in data and b".backward(" in data:
        return True
    if any(word in data for word in _STEPS) and (
        any(word in data for word in _WITH_STEPS)
        or (b"seed" in data and _SEEDS.search(data) is not None)
    ):
        return True
    loads = b".load_state_dict(" in data and any(word in data for word in _QUIET)
    return loads and not any(word in data for word in _MODES)


def parse(data: bytes) -> ast.Module:
    """Return the tree of a file. Nothing of it is run or compiled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and the like are not our subject
        try:
            return ast.parse(data)
        except SyntaxError as error:
            raise UnreadableError(
                f"The file does not parse: {_one_line(error.msg)}.", max(1, error.lineno or 1)
            ) from None
        except (RecursionError, MemoryError):
            raise UnreadableError("The file is nested too deeply to be parsed.") from None
        except (ValueError, UnicodeError, LookupError, OverflowError) as error:
            raise UnreadableError(f"The file does not parse: {_one_line(str(error))}.") from None


def _one_line(message: str) -> str:
    return " ".join(message.split()).rstrip(".")


def lines_of(data: bytes) -> list[str]:
    """Return the lines as Python counts them, for a file that parsed."""
    try:
        text = data.decode(encoding_of(data), errors="replace")
    except (SyntaxError, LookupError):
        text = data.decode("utf-8", errors="replace")
    return _NEWLINE.split(text)


def encoding_of(data: bytes) -> str:
    """Return the encoding that a script says it has, UTF-8 where it says none.

    Raises
    ------
    SyntaxError if it is unknown.
    """
    return tokenize.detect_encoding(io.BytesIO(data).readline)[0]


def is_silenced(lines: list[str], first: int, last: int, code: str) -> bool:
    """Say whether a `# noqa` on one of the lines `first` to `last`, from 1, silences `code`."""
    for number in {first, last}:
        line = lines[number - 1] if number <= len(lines) else ""
        match = _NOQA.search(line)
        if match is None or not _is_comment(line, match.start()):
            continue
        if match["codes"] is None or code in re.findall(r"[A-Z]+[0-9]+", match["codes"].upper()):
            return True
    return False


def _is_comment(line: str, at: int) -> bool:
    """Whether the `#` is one, and no part of a string that this line holds."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip()).readline):
            if token.type == tokenize.COMMENT:
                start = token.start[1] + len(line) - len(line.lstrip())
                return start <= at < start + len(token.string)
    except (tokenize.TokenError, SyntaxError):  # brackets that close on another line
        return line.count('"', 0, at) % 2 == 0 and line.count("'", 0, at) % 2 == 0
    return False


def package_of(path: str) -> str:
    """Return the dotted name of the package that the file is in, "" for none."""
    return _package(os.path.dirname(os.path.abspath(path)))


@lru_cache(maxsize=4096)
def _package(folder: str) -> str:
    parent, name = os.path.split(folder)
    if not name or not os.path.isfile(os.path.join(folder, "__init__.py")):
        return ""
    above = _package(parent)
    return f"{above}.{name}" if above else name
