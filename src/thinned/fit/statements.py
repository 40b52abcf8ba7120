"""What was found, in sentences, each by a comparison that is in the result."""

from __future__ import annotations

from thinned.errors import quoted
from thinned.fit.baselines import TELLING, called
from thinned.fit.metrics import METRICS, Metric, metric_for
from thinned.fit.rate import spelled
from thinned.fit.results import Baseline, Comparison, FitSettings, Level, Mean, Paired, Refit
from thinned.fit.target import Task
from thinned.fit.words import number, with_error

__all__ = ["HEADLINES", "headline", "sentences"]

# R² from which on a linear model tells the target wholly.
WHOLLY = 0.999
HEADLINES = {
    "helped": "Dropout helped.",
    "no clear difference": "Dropout made no clear difference.",
    "hurt": "Dropout hurt.",
}
_SUBJECTS = {
    "constant": "A model without inputs",
    "linear": "A linear model",
    "trees": "Boosted trees",
}


def headline(
    comparison: Comparison,
    best: Level,
    levels: tuple[Level, ...],
    baselines: tuple[Baseline, ...],
) -> str:
    """The verdict on dropout; which simple models are as good or better; what was cut short."""
    said = [HEADLINES[comparison.verdict]]
    as_well = [one.name for one in baselines if one.found == "as well"]
    better = [one.name for one in baselines if one.found == "better"]
    if "constant" in as_well + better:  # then it adds nothing that others do as well
        as_well = ["constant"]
        better = [name for name in better if name != "constant"]
    said += [f"{_together(as_well)} as well."] if as_well else []
    said += [f"{_together(better)} better."] if better else []
    compared = {0.0, comparison.p, best.p}
    cut = [one for one in levels if one.p in compared and not one.finished]
    if cut:
        said.append(f"Training was not finished at {_ps(cut)}.")
    return " ".join(said)


def _together(names: list[str]) -> str:
    subjects = [_SUBJECTS[name] for name in names]
    subjects[1:] = [one[0].lower() + one[1:] for one in subjects[1:]]
    verb = "do" if len(names) > 1 or names == ["trees"] else "does"
    return f"{_listed(subjects)} {verb}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _ps(levels: list[Level]) -> str:
    return f"p = {_listed([f'{spelled(level.p)}' for level in levels])}"


def sentences(
    task: Task,
    settings: FitSettings,
    levels: tuple[Level, ...],
    comparison: Comparison,
    best: Level,
    gap: Paired,
    baselines: tuple[Baseline, ...],
    refits: tuple[Refit, ...],
    target: str,
    unbalanced: bool = False,
) -> tuple[str, ...]:
    """The summary: dropout, the simple models, the gap, the test part, and what to be wary of."""
    metric = metric_for(task, settings.metric)
    none = levels[0]
    some = next(level for level in levels if level.p == comparison.p)
    said = [_compared(settings, metric, none, some, comparison)]
    accuracy = "balanced_accuracy" if unbalanced else "accuracy"
    right = METRICS[task][accuracy if task == "classification" else "r2"]
    said.append(_score(right, none, some, target))
    said += [_beside(task, metric, best, one) for one in baselines]
    said += _made_of(task, target, baselines)
    said.append(_gap(none, some, gap))
    said.append(_test(right, refits, best))
    said += _late(none, some)
    said += _early(levels)
    return tuple(said)


def _amount(metric: Metric, mean: Mean) -> str:
    """A value with its error and unit."""
    if metric.percent:
        return f"{with_error(mean, 100)} %"
    return f"{with_error(mean)}{f' {metric.unit}' if metric.unit else ''}"


def _plain(metric: Metric, value: float, digits: int = 3) -> str:
    shown = number(100 * value if metric.percent else value, digits)
    return f"{shown} %" if metric.percent else shown


def _compared(
    settings: FitSettings, metric: Metric, none: Level, some: Level, found: Comparison
) -> str:
    way = "lower" if found.difference < 0 else "higher"
    best = ", the best p above 0," if len(settings.p) > 2 else ""
    with_, without = (one.validation[metric.name].value for one in (some, none))
    unit = f" {metric.unit}" if metric.unit and not metric.percent else ""
    start = (
        f"On the same {settings.splits} splits the validation {metric.called} was "
        f"{_plain(metric, with_)}{unit} at p = {spelled(some.p)}{best} and "
        f"{_plain(metric, without)} "
        f"without dropout: {way} by {_size(metric, found.difference, found.error)} (standard error "
        "of the paired difference)."
    )
    bound = _plain(metric, found.bound, 2)
    if found.verdict == "no clear difference":
        return f"{start} Chance alone may reach {bound}, so this may be chance."
    return f"{start} Chance alone would rarely reach {bound}."


def _size(metric: Metric, difference: float, error: float) -> str:
    shown = with_error(Mean(abs(difference), error), 100 if metric.percent else 1)
    return f"{shown} %" if metric.percent else shown


def _score(right: Metric, none: Level, some: Level, target: str) -> str:
    """How often, or how nearly, the networks are right. right : an accuracy, or R²."""
    with_, without = some.validation, none.validation
    if right.percent:
        return (
            f"Validation {right.called} was {_amount(right, with_[right.name])} at p = "
            f"{spelled(some.p)} "
            f"and {_amount(right, without[right.name])} without dropout."
        )
    off, off_without = (number(one["rmse"].value) for one in (with_, without))
    return (
        f"Predictions of {quoted(target)} were off by {off} (root mean square, in its own unit) at "
        f"p = {spelled(some.p)} and by {off_without} without dropout; R² was "
        f"{with_error(with_['r2'])} "
        f"and {with_error(without['r2'])}."
    )


def _beside(task: Task, metric: Metric, best: Level, one: Baseline) -> str:
    """The saved model's p beside a simple model, on the splits that both were run on."""
    found = one.against
    kind = called(one.name, task).partition(": ")[2]
    where = f" on the first {one.splits} splits" if one.name == "trees" else ""
    network = f"the network at p = {spelled(best.p)}" if best.p else "the network without dropout"
    amount = _amount(metric, one.validation[metric.name])
    if one.name == "constant":
        amount = _plain(metric, one.validation[metric.name].value) + (
            f" {metric.unit}" if metric.unit and not metric.percent else ""
        )
    start = (
        f"{_SUBJECTS[one.name]}{f' ({kind})' if kind else ''} had a validation {metric.called} of "
        f"{amount}{where}: {network} was {'lower' if found.difference < 0 else 'higher'} by "
        f"{_size(metric, found.difference, found.error)}"
    )
    bound = _plain(metric, found.bound, 2)
    if found.clear:
        worse = metric.cost(found.difference) > 0
        return f"{start}, clearly {'worse' if worse else 'better'}."
    start = f"{start}, and chance alone may reach {bound}."
    if one.found == "beaten":
        told = " or ".join(METRICS[task][name].called for name in TELLING[task])
        return f"{start} It does tell rows apart: its {told} is clearly better."
    return start


def _made_of(task: Task, target: str, baselines: tuple[Baseline, ...]) -> list[str]:
    """A sum of columns that is the target: each of them alone may tell little."""
    if task == "classification":
        return []
    return [
        f"The linear model's R² is {number(one.validation['r2'].value, 5)}: {quoted(target)} may "
        "be made of other columns. If these are not known before it is, leave them out: --drop."
        for one in baselines
        if one.name == "linear" and one.validation["r2"].value > WHOLLY
    ]


def _gap(none: Level, some: Level, gap: Paired) -> str:
    change = "narrower" if gap.difference < 0 else "wider"
    size = with_error(Mean(abs(gap.difference), gap.error))
    start = "The gap between training and validation loss"
    both = f"{with_error(some.gap)} at p = {spelled(some.p)}, {with_error(none.gap)} without"
    paired = f"{both}. On the same splits it was {change} by {size}"
    if gap.clear:
        return f"{start} was {change} with dropout: {paired}."
    return (
        f"{start} did not clearly change with dropout: {paired}, and chance alone may reach "
        f"{number(gap.bound, 2)}."
    )


def _test(right: Metric, refits: tuple[Refit, ...], best: Level) -> str:
    name = right.name
    none, some = (_amount(right, Mean(one.test[name], one.errors.get(name, 0.0))) for one in refits)
    kept = f"the one at p = {spelled(best.p)}" if best.p else "the one without dropout"
    return (
        f"On the test part, which no choice was made on, {right.called} was {some} for the network "
        f"refitted at p = {spelled(refits[1].p)} and {none} for the one refitted without "
        "dropout; the "
        f"saved model is {kept}."
    )


def _late(none: Level, some: Level) -> list[str]:
    """What longer training does, where it does something to either."""
    if none.epochs == none.last_epoch and some.epochs == some.last_epoch:
        return []
    said = (
        f"Each p was stopped at its own best epoch ({some.epochs} at p = {spelled(some.p)}, "
        f"{none.epochs} "
        f"without dropout). Trained on to epochs {some.last_epoch} and {none.last_epoch}, the "
        f"validation loss is {number(some.last_loss.value)} and {number(none.last_loss.value)}."
    )
    return [said]


def _early(levels: tuple[Level, ...]) -> list[str]:
    """The ps that still got better when training was cut short."""
    still = [level for level in levels if not level.finished]
    if not still:
        return []
    said = (
        f"At {_ps(still)} validation still got better when training was cut short, after "
        f"{max(level.last_epoch for level in still)} epochs: more (--epochs) may do better."
    )
    return [said]
