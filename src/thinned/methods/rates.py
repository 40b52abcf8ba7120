"""Methods that are a course of p over training or depth: rows for what `thinned.schedules` has."""

from thinned import schedules
from thinned.methods.paths import LARSSON
from thinned.methods.table import Moments, Paper, method

__all__: list[str] = []

LIU = Paper("Liu, Xu, Jin, Shen, Darrell", 2023, "Dropout reduces underfitting", "arXiv:2303.01500")
MORERIO = Paper(
    "Morerio, Cavazza, Volpi, Vidal, Murino", 2017, "Curriculum dropout", "arXiv:1703.06229"
)
RENNIE = Paper(
    "Rennie, Goel, Thomas", 2014, "Annealed dropout training of deep networks", "IEEE SLT 2014"
)
ZOPH = Paper(
    "Zoph, Vasudevan, Shlens, Le", 2018,
    "Learning transferable architectures for scalable image recognition", "arXiv:1707.07012",
)  # fmt: skip

_A_RATE = "A schedule of p draws nothing itself: any method takes its value as p."
_THE_METHODS = Moments("that of the method, at p(t)", "that of the method, at p(t)")

method(
    name="early_dropout",
    title="Early dropout",
    rank="first",
    target="the rate p",
    formula="p(t) = p for t < until, then 0;  linear: p (1 - t / until)",
    shared="",
    scale="",
    fill="",
    inference="",
    moments=_THE_METHODS,
    apart=_A_RATE,
    papers=(LIU,),
    note="For networks that underfit: it reduces the variance of the first gradients. It works "
    "with any method.",
)(schedules.early)
method(
    name="late_dropout",
    title="Late dropout",
    rank="first",
    target="the rate p",
    formula="p(t) = 0 for t < after, then p",
    shared="",
    scale="",
    fill="",
    inference="",
    moments=_THE_METHODS,
    apart=_A_RATE,
    papers=(LIU,),
    note="For networks that overfit, late in training. It works with any method.",
)(schedules.late)
method(
    name="curriculum_dropout",
    title="Curriculum dropout",
    rank="second",
    target="the rate p",
    formula="keep(t) = (1 - k) exp(-gamma t) + k,  k = 1 - p",
    shared="",
    scale="",
    fill="",
    inference="",
    moments=_THE_METHODS,
    apart=_A_RATE,
    papers=(MORERIO,),
    note="Starts without noise and approaches p: the opposite of annealing.",
)(schedules.curriculum)
method(
    name="annealed_dropout",
    title="Annealed dropout",
    rank="second",
    target="the rate p",
    formula="p(t) = p max(0, 1 - t / until)",
    shared="",
    scale="",
    fill="",
    inference="",
    moments=_THE_METHODS,
    apart=_A_RATE,
    papers=(RENNIE,),
    note="p falls linearly to 0. The same as early dropout with until=1.0 and the linear shape.",
)(schedules.annealed)
method(
    name="scheduled_drop_path",
    title="ScheduledDropPath",
    rank="second",
    target="the rate p",
    formula="p(t, l) = p (t / T) (l + 1) / L",
    shared="",
    scale="",
    fill="",
    inference="",
    moments=_THE_METHODS,
    apart=_A_RATE,
    papers=(ZOPH, LARSSON),
    note="DropPath whose p grows over training and depth, as in the training of NASNet.",
)(schedules.scheduled_drop_path)
