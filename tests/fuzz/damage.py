"""Damage: to bytes as disks and transfers do it, to JSON and tables as hands do it, with a seed."""

import copy
import json

STRANGE = (
    None, True, [], {}, "", "x", -1, 0, 1.5, 1e308, -0.0, 2**63, 10**400, [[]], {"a": 1},
    "\x1b[31m",
    "\u202e", "a\nb", "=1+1", "\ud800", ["", ""], [None], "nan", "1e999",
)  # fmt: skip
# Texts that json.dumps would not write.
RAW = ("NaN", "Infinity", "1e999", "9" * 5000, "[" * 5000, '"\\ud800"', "1" * 400 + ".5", "--1", "")
CELLS = (
    "", " ", "nan", "inf", "-inf", "1e999", "9" * 400, "text", '"', '"a', "a\nb", "\0", "\x1b[31m",
    "\u202e", "=HYPERLINK(1)", ",", ";", "\t", "1,5", "0x10", "True", "1e-320", "\ufeff", "None",
)  # fmt: skip


def bytes_of(rng, data):
    """Flipped bits, a cut, a hole, a piece said twice, or nothing left."""
    data, n = bytearray(data), len(data)
    match rng.integers(6):
        case 0 | 1:
            place = int(rng.integers(8 * n))
            data[place // 8] ^= 1 << place % 8
        case 2:
            del data[int(rng.integers(n)) :]
        case 3:
            first = int(rng.integers(n))
            del data[first : first + int(rng.integers(1, 9))]
        case 4:
            first = int(rng.integers(n))
            data[first:first] = data[first : first + 16]
        case 5:
            data = bytearray(rng.integers(0, 256, 64, dtype="uint8").tobytes()) if n % 2 else b""
    return bytes(data)


def paths_in(value, here=()):
    """Every place in a JSON value."""
    yield here
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, part in pairs:
        yield from paths_in(part, (*here, key))


def json_of(rng, text):
    """One place of a JSON text taken away, said twice or put for something else."""
    value = json.loads(text)
    *above, last = (places := [p for p in paths_in(value) if p])[rng.integers(len(places))]
    changed = copy.deepcopy(value)
    part = changed
    for key in above:
        part = part[key]
    match rng.integers(4):
        case 0:
            del part[last]
        case 1 | 2:
            part[last] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
        case 3:
            part[last] = "<here>"
            raw = RAW[rng.integers(len(RAW))]
            return json.dumps(changed).replace('"<here>"', raw)
    return json.dumps(changed)


def table_of(rng, lines):
    """Cells, lines, separators and quotes of a CSV table that hands and programs spoil."""
    lines = list(lines)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        cells = lines[at].split(",")
        match rng.integers(7):
            case 0 | 1 | 2:
                cells[rng.integers(len(cells))] = CELLS[rng.integers(len(CELLS))]
                lines[at] = ",".join(cells)
            case 3:
                lines[at] = ",".join(cells[:-1])
            case 4:
                lines[at] = lines[at] + ",1"
            case 5:
                lines.insert(at, lines[at])
            case 6:
                lines[at] = lines[at].replace(",", (";", "\t", ",,", " ")[rng.integers(4)])
    text = "\n".join(lines) + "\n"
    ways = ("utf-8", "utf-8", "utf-16", "latin-1", "utf-8-sig")
    return text.encode(ways[rng.integers(len(ways))], "replace")


# Pieces of Python that an audit has to look at closely, whole and broken.
PIECES = (
    "import torch\n", "import torch.nn.functional as F\n", "from torch import nn\n",
    "class A(nn.Module):\n",
    "    def forward(self, x):\n", "        return F.dropout(x, self.training)\n",
    "F.dropout(x, 0.5)\n",
    "F.dropout(*a, **k)\n", "F.dropout(p=1e999, training=None)\n", "nn.Dropout(-1)\n",
    "nn.Dropout(10**400)\n",
    "x = " + "(" * 60 + ")" * 60 + "\n", "lambda: (yield)\n",
    "async def f(): await F.dropout(x)\n", "\x0c",
    "match x:\n    case {'dropout': F.dropout(x, p=1)}: pass\n",
    "def dropout(dropout=dropout): global dropout\n",
    "import dropout as torch, torch as F\n", "del F\n", "x = f'{F.dropout(x)!r:{nn}}'\n",
    "'\\ud800'\n",
    "try:\n    import thinned\nexcept* ValueError:\n    pass\n", "# noqa: THN001\n", "# noqa\n",
    "\0", "\r",
    "é = nn.Dropout(.5)\n", "\u202e = 1\n", "for F in F: F.dropout(F)\n",
    "with F.dropout(x) as F: pass\n",
    "nn.Dropout(p=9" + "9" * 5000 + ")\n", "x = 1" + " + 1" * 3000 + "\n", "\\\n", "\t", "    ",
    "'''", '"', "[",
    "@F.dropout\n", "type X = nn.Dropout\n", "class F(F): F = F.F\n",
    "self.drop = nn.Dropout(self.drop)\n",
)  # fmt: skip


def source_of(rng):
    """A file for `thinned audit`: pieces in any order, and sometimes damaged in the end."""
    pieces = [PIECES[i] for i in rng.integers(len(PIECES), size=int(rng.integers(1, 12)))]
    text = "import torch.nn.functional as F\n" * int(rng.integers(2)) + "".join(pieces)
    data = text.encode(
        ("utf-8", "utf-16", "latin-1")[rng.choice(3, p=[0.9, 0.05, 0.05])], "replace"
    )
    return bytes_of(rng, data) if rng.random() < 0.3 and data else data


NAMES = (
    "plain.py", "a b.py", "\x1b[31mred\x1b[0m.py", "a\n::error::b.py", "a\rb.py", "\u202egnp.py",
    "\u2066a.py",
    "a\tb.py", "-rf.py", "--help.py", "'a'.py", '"a".py', "a%0Ab.py", "a:b,c.py", "\x07bell.py",
    "\x9b31m.py",
    "é\u0301.py", "\u2028line.py", "a" * 240 + ".py", "something.py", "%s{0}.py", "\udcff.py",
    "\u200b.py", "~.py",
)  # fmt: skip
