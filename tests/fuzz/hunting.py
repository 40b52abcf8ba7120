"""Many calls with one seed: every fault once, in its smallest form."""

import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

from . import making
from .calls import Call, backends, judge
from .making import Choices, drawn_call, smallest
from .surface import fuzzed, rows

KEPT = Path(__file__).parent / "kept" / "calls.jsonl"
JAX_EVERY = 40  # operation by operation JAX takes milliseconds where others take microseconds


class FaultError(AssertionError):
    """A call with a wrong answer."""

    def __init__(self, call, wrong):
        super().__init__(f"{call}\n    {wrong}")
        self.call, self.wrong = call, wrong


class Hunt:
    """Calls made so far, and the faults found, each kind of each function once."""

    def __init__(self, names, first_seed=0, tell=lambda found: None):
        self.names, self._source, self._tell = sorted(names), random.Random(first_seed), tell
        self.made, self.faults, self.calls = 0, [], Counter()
        self._known = set()

    def run(self, examples):
        """So many examples more, each some calls. A fault is made small, and then passed over."""
        for _ in range(examples):
            call, numbers = drawn_call(self.names, self._source)
            on = self._backends(call.function)
            wrong = self._judged(call, on)
            kind = (call.function, kind_of(wrong)) if wrong else None
            if kind is None or kind in self._known:
                continue
            self._known.add(kind)
            self.faults.append(self._small(call, numbers, wrong, on))
            self._tell(self.faults[-1])
        return self.faults

    def _small(self, call, numbers, wrong, on):
        def fails(other):
            found = self._judged(other, on)
            return found is not None and kind_of(found) == kind_of(wrong)

        if not fails(call):
            return FaultError(call, f"not every time: {wrong}")
        small = making.call(Choices(given=smallest(self.names, numbers, fails)), self.names)
        return FaultError(small, self._judged(small, on))

    def _backends(self, function):
        everywhere = backends(function)
        rare = len(everywhere) > 1 and (self.made // 4) % JAX_EVERY
        return [b for b in everywhere if not (rare and b == "jax")]

    def _judged(self, call, on):
        try:
            wrong, made = judge(call, on=on)
        except Exception as error:  # of the fuzz's own: a fault too, and no end of the hunt
            wrong, made = f"judged by an error {type(error).__name__}: {error}", 1
        self.made += made
        self.calls[call.function] += made
        return wrong


def kind_of(wrong):
    """The kind of a fault: what is said of it before its values."""
    return wrong.partition(":")[0][:40]


def drawn():
    """The functions that draw masks, which are fast to call; all others beside them."""
    fast = set(rows()) | {"thinned.keep_mask", "thinned.packed_mask"}
    fast |= {"thinned.Address", "thinned.Window"}
    return fast & set(fuzzed())


def beside():
    return set(fuzzed()) - drawn()


def kept(path=KEPT):
    return [Call.read(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def keep(faults, path=KEPT):
    """Add the smallest inputs to those that are tried from now on."""
    known = set()
    with suppress(FileNotFoundError):
        known = set(path.read_text(encoding="utf-8").splitlines())
    lines = [fault.call.line() for fault in faults]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in dict.fromkeys(lines) if line not in known)


def report(hunt):
    return json.dumps(
        {
            "made": hunt.made,
            "functions": len(hunt.calls),
            "faults": [(fault.call.line(), fault.wrong) for fault in hunt.faults],
        }
    )
