"""Many calls with one seed: every fault once, in its smallest form."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from .calls import Call, backends, calls, judge
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

    def __init__(self, names, first_seed=0, batch=200):
        self.names, self.seed, self.batch = sorted(names), first_seed, batch
        self.made, self.faults, self.calls = 0, [], Counter()
        self._known = set()

    def run(self, examples):
        """So many examples more, each some calls. A fault is shrunk, and then passed over."""
        while examples > 0:
            batch = min(self.batch, examples)
            found = self._batch(batch)
            self.seed += 1
            examples -= batch
            if found is not None:
                self.faults.append(found)
        return self.faults

    def _batch(self, examples):
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @seed(self.seed)
        @given(calls(self.names))
        def hunt(call):
            wrong = self._judged(call)
            if wrong and (call.function, kind_of(wrong)) not in self._known:
                raise FaultError(call, wrong)

        try:
            hunt()
        except FaultError as fault:
            self._known.add((fault.call.function, kind_of(fault.wrong)))
            return fault
        return None

    def _judged(self, call):
        everywhere = backends(call.function)
        rare = len(everywhere) > 1 and (self.made // 4) % JAX_EVERY
        wrong, made = judge(call, on=[b for b in everywhere if not (rare and b == "jax")])
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
