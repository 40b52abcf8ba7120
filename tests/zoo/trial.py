"""What is tried on one model: does it drop, is it adopted, and does all that adoption promises
hold."""

import re
import traceback
from pathlib import Path

import torch

import thinned
from thinned.torch import adopt, no_dropout, release, thin

from .runs import ROUNDING, buffers_kept, clock_of, compared, evaluation, floating, same, step

OURS = Path(thinned.__file__).parent
OTHER_SEEDS = (20, 30, 40)  # several, since a layer that is skipped may be so by chance
SENTENCE = re.compile(r"^[a-zA-Z_.]+(\([^)]*\))?: ")


def tried(subject, compiled=True, said=lambda stage: None):
    """A row: what was found. Values of checks: "yes", "-" where there is nothing to check, or what
    went wrong."""
    row = {"name": subject.name, "variant": subject.variant, "class": type(subject.model).__name__}
    trial = _Trial(subject, row, said)
    said("drops")
    trial.drops()
    said("adopt")
    if not trial.adopted():
        return row
    for check in (trial.replay, trial.pieces, trial.evaluation, trial.released, trial.checkpoints):
        said(check.__name__)
        check()
    if compiled:
        said("compiled")
        trial.compiled()
    for check in (trial.predict, trial.audit, trial.thin):
        said(check.__name__)
        check()
    return row


def line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def is_ours(error):
    """Whether an error is a sentence of the library's own: it says who speaks, and was raised in
    its code."""
    frames = traceback.extract_tb(error.__traceback__)
    raised_in = Path(frames[-1].filename) if frames else Path()
    return raised_in.is_relative_to(OURS) and bool(SENTENCE.match(str(error)))


class _Trial:
    def __init__(self, subject, row, said):
        self.subject, self.row, self.said = subject, row, said

    def _step(self, model, seed, clock_step=None):
        return step(model, self.subject.call, seed, clock_step)

    def drops(self):
        self.ran = model = self.subject.fresh()
        first, again, other = (self._step(model, seed) for seed in (1, 1, 2))
        self.original = first
        self.steady = compared(first, again)
        self.row["steady"] = self.steady
        self.allowed = ("bits", "rounding") if self.steady == "rounding" else ("bits",)
        self.row["drops"] = "yes" if not same(first, other) else "no"
        self.plain_eval = evaluation(model, self.subject.call)
        self.row["eval steady"] = same(self.plain_eval, evaluation(model, self.subject.call))

    def adopted(self):
        self.model = self.subject.fresh()
        try:
            self.report = adopt(self.model, seed=3)
        except Exception as error:
            self.row["adopted"] = line(error) if is_ours(error) else f"RAISED {line(error)}"
            return False
        self.row["adopted"] = "yes"
        return True

    def replay(self):
        self.replays = False
        try:
            self._replay()
        except Exception as error:
            self.row["replayed"] = f"RAISED {line(error)}"
        rows = self.report.rows
        self.row["sites"] = sum(r.reached for r in rows)
        self.row["not reached"] = [f"{r.site}: {r.done}" for r in self.report.not_reached]

    def _replay(self):
        self.at_3 = one = self._step(self.model, 10, 3)
        again = [compared(one, self._step(self.model, seed, 3)) for seed in OTHER_SEEDS]
        found = next((word for word in again if word != "bits"), "bits")
        self.replays = found in self.allowed
        self.row["replayed"] = "yes" if self.replays else found
        if self.steady not in ("bits", "rounding"):
            self.row["replayed"] = (
                f"- (the original: a second step with the same seed {self.steady})"
            )
            return
        if not self.replays:
            seeded = compared(one, self._step(self.model, 10, 3))
            if seeded in self.allowed:
                named = bool(self.report.not_reached)
                self.row["replayed"] = "with generators reseeded" + ("" if named else ", UNNAMED")
        other = self._step(self.model, 10, 4)
        equal = same(one, other)
        self.row["next step differs"] = ("no" if self.replays else "-") if equal else "yes"

    def pieces(self):
        """Rows one by one, each in a piece of its place, give what the whole batch gives."""
        with buffers_kept(self.model):
            asked = self.replays and self._rows_are_apart()
            self.row["pieces"] = self._pieces() if asked else "-"

    def _pieces(self):
        model = self.model
        clock = clock_of(model)

        def rows(first, last):
            clock.step = 3
            with clock.piece(first, rows=last - first, of=2), torch.no_grad():
                return first_with_rows(self._of_rows(model, first, last), last - first)

        try:
            whole, apart = rows(0, 2), torch.cat([rows(0, 1), rows(1, 2)])
        except Exception as error:
            return f"no: {line(error)}" if is_ours(error) else f"RAISED {line(error)}"
        return "yes" if near(whole, apart) else "differs"

    def _of_rows(self, model, first, last):
        given = self.subject.given
        if isinstance(given, dict):
            return model(**{name: t[first:last].clone() for name, t in given.items()})
        return model(*(t[first:last].clone() for t in given))

    def _rows_are_apart(self):
        """Whether the model without dropout gives a row in training the same answer alone and among
        others."""
        given = self.subject.given
        values = given.values() if isinstance(given, dict) else given
        if any(not isinstance(t, torch.Tensor) or t.dim() == 0 or len(t) != 2 for t in values):
            return False
        model = self.model
        try:
            with torch.no_grad(), no_dropout(model):
                whole = first_with_rows(self._of_rows(model, 0, 2), 2)
                apart = [first_with_rows(self._of_rows(model, i, i + 1), 1) for i in range(2)]
        except Exception:  # it does not take a single row
            return False
        return near(whole, torch.cat(apart))

    def evaluation(self):
        if not self.row["eval steady"]:
            self.row["evaluation"] = "-"
            return
        try:
            now = evaluation(self.model, self.subject.call)
        except Exception as error:
            self.row["evaluation"] = f"RAISED {line(error)}"
            return
        self.row["evaluation"] = "yes" if same(self.plain_eval, now) else "differs"

    def released(self):
        model, twin = self.model, self.ran
        try:
            release(model)
        except Exception as error:
            self.row["released"] = f"RAISED {line(error)}"
            return
        found = []
        for (name, module), was in zip(model.named_modules(), twin.modules(), strict=True):
            if type(module) is not type(was):
                found.append(f"class of {name}: {type(module).__name__}")
            elif changed := vars(module).keys() ^ vars(was).keys():
                found.append(f"attributes of {name}: {', '.join(sorted(changed))}")
        if list(model.state_dict()) != list(twin.state_dict()):
            found.append("keys of state_dict")
        now = compared(self.original, self._step(model, 1))
        if now not in self.allowed and self.steady in ("bits", "rounding"):
            found.append(f"training {now}")
        self.row["released"] = "; ".join(found[:3]) or "yes"

    # ---------------------------------------------------------------------------- checkpoints

    def checkpoints(self):
        for kind, switch in self.subject.checkpoints.items():
            self.said(f"checkpoints, {kind}")
            self.row[f"checkpoint {kind}"] = self._checkpoint(switch)

    def _checkpoint(self, switch):
        original = self.subject.fresh()
        try:
            switch(original)
            theirs = compared(self.original, self._step(original, 1))
        except Exception as error:
            return f"- (the original: {line(error)[:120]})"
        model = self.subject.fresh()
        adopt(model, seed=3)
        try:
            switch(model)
            ours = compared(self.at_3, self._step(model, 10, 3))
        except Exception as error:
            return line(error) if is_ours(error) else f"RAISED {line(error)}"
        if ours == "bits":
            return "yes"
        if theirs not in ("bits", "rounding"):
            return f"- (the original: {theirs})"
        return "yes, to rounding" if ours == "rounding" else ours

    # ------------------------------------------------------------------------------- compile

    def compiled(self):
        try:
            self.row["compiled"] = self._compiled()
        finally:
            torch._dynamo.reset()

    def _compiled(self):
        theirs = self._compiles(self.subject.fresh(), self.original, 1, None)
        if theirs not in ("bits", "rounding"):
            return f"- (the original: {theirs})"
        model = self.subject.fresh()
        adopt(model, seed=3)
        ours = self._compiles(model, self.at_3, 10, 3)
        return {"bits": "yes", "rounding": "yes, to rounding"}.get(ours, ours)

    def _compiles(self, model, eager, seed, clock_step):
        torch._dynamo.reset()
        program = torch.compile(model, backend="eager")
        if clock_step is not None:
            clock_of(model).step = clock_step
        try:
            now = step(model, lambda _: self.subject.call(program), seed)
        except Exception as error:
            return f"RAISED {line(error)}"
        return compared(eager, now)

    # ------------------------------------------------------------------------------ the rest

    def predict(self):
        self.row["predict"] = self._predicted()

    def _predicted(self):
        from thinned.members import predict

        def asked(model, **more):
            return predict(
                model, self.subject.given, members=3, keep=True, output=first_with_rows, **more
            )

        model = self.subject.fresh()
        try:
            whole = asked(model)
        except Exception as error:
            return f"no: {line(error)}" if is_ours(error) else f"RAISED {line(error)}"
        self.row["asleep"] = list(whole.not_reached)
        a, b, _ = whole.outputs
        if (a == b).all():
            return "members are equal"
        if not same(self.plain_eval, evaluation(model, self.subject.call)):
            return "the model has changed" if self.row["eval steady"] else "yes"
        if self.row["pieces"] == "-":
            return "yes"
        try:
            one_by_one = asked(model, batch_size=1)
        except Exception as error:
            return f"batch_size=1: {line(error)}"
        one = torch.from_numpy(one_by_one.outputs)
        if not near(torch.from_numpy(whole.outputs), one):
            return "members depend on batch_size"
        return "yes"

    def audit(self):
        from thinned.torch import audit

        model = self.subject.fresh()
        try:
            found = audit(model, self.subject.given, measure=False)
        except Exception as error:
            self.row["audit"] = f"no: {line(error)}" if is_ours(error) else f"RAISED {line(error)}"
            return
        self.row["audit"] = "yes"
        self.row["findings"] = sorted({f"{f.kind}: {f.site}" for f in found.findings})[:6]

    def thin(self):
        self.row["thin"] = self._thinned()

    def _thinned(self):
        model, whole = self.subject.fresh(), self.subject.fresh()
        try:
            report = thin(model, seed=3)
            thin(whole, seed=3, execution="elementwise")
        except Exception as error:
            return f"no: {line(error)}" if is_ours(error) else f"RAISED {line(error)}"
        self.row["thin sites"] = sum("thin:" in row.done for row in report.rows)
        try:
            runs_thin = self._step(model, 10, 3)
        except Exception as error:
            return f"no: {line(error)}" if is_ours(error) else f"RAISED {line(error)}"
        now = compared(self._step(whole, 10, 3), runs_thin)
        return "yes" if now in ("bits", "rounding") else now


def first_with_rows(output, rows=None):
    """The first tensor of an output that has a row for each of the input's."""
    found = [t for t in floating(output) if t.dim() > 0]
    for tensor in found:
        if len(tensor) == rows or (rows is None and len(tensor) in (1, 2, 3)):
            return tensor
    return found[0]


def near(a, b):
    if a.shape != b.shape:
        return False
    a, b = a.double().nan_to_num(), b.double().nan_to_num()
    return float((a - b).abs().max()) <= 10 * ROUNDING * max(1.0, float(a.abs().max()))
