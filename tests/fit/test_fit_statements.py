"""The sentences: each says what its comparison found, and the headline what one must know."""

from dataclasses import replace

import pytest

from thinned.fit.results import Baseline, Comparison, FitSettings, Level, Mean, Paired, Refit
from thinned.fit.statements import headline, sentences


def level(p, loss, epochs=4, gap=0.5, **more):
    shown = {"loss": Mean(loss, 0.01)} | {k: Mean(v, 0.01) for k, v in more.items()}
    curve = (Mean(loss, 0.01),)
    last = Mean(loss + 1, 0.01)
    return Level(p, epochs, shown, shown, Mean(gap, 0.01), 8, last, Mean(gap, 0.01), curve, curve)


def baseline(name, difference, bound, found, loss=0.7):
    scores = {"loss": Mean(loss, 0.02)}
    return Baseline(name, 5, scores, {}, {}, Paired(difference, 0.03, bound), found)


BEATEN = baseline("constant", -0.4, 0.1, "beaten")


def said(task, verdict, difference, none, some, *, gap=-0.1, ps=(0.0, 0.2, 0.5), beside=(BEATEN,)):
    settings = FitSettings(ps, (4,), 8, 1, 0)
    found = Comparison(some.p, difference, 0.02, 0.08, verdict)
    key = {"classification": "accuracy", "regression": "r2"}[task]
    refits = tuple(
        Refit(p, 4, 0, {"loss": 0.1}, {"loss": 0.3, key: score, "rmse": 5.0}, {key: 0.05})
        for p, score in ((0.0, 0.75), (some.p, 0.5))
    )
    best = min(none, some, key=lambda one: one.validation["loss"].value)
    gaps = Paired(gap, 0.02, 0.06)
    return sentences(task, settings, (none, some), found, best, gaps, beside, refits, "price")


def test_a_clear_help_in_words():
    none = level(0.0, 0.5, gap=0.4, accuracy=0.9)
    some = level(0.2, 0.3, gap=0.1, accuracy=0.95)
    loss, score, constant, gap, test, late = said("classification", "helped", -0.2, none, some)
    assert loss == (
        "On the same 5 splits the validation log loss was 0.300 nats at p = 0.2, the best p "
        "above 0, and 0.500 without dropout: lower by 0.200 ± 0.020 (standard error of the "
        "paired difference). Chance alone would rarely reach 0.080."
    )
    assert score == (
        "Validation accuracy was 95.0 ± 1.0 % at p = 0.2 and 90.0 ± 1.0 % without dropout."
    )
    assert constant == (
        "A model without inputs (the classes' shares) had a validation log loss of 0.700 nats: the "
        "network at p = 0.2 was lower by 0.400 ± 0.030, clearly better."
    )
    assert gap == (
        "The gap between training and validation loss was narrower with dropout: 0.100 ± 0.010 "
        "at p = 0.2, 0.400 ± 0.010 without. On the same splits it was narrower by 0.100 ± 0.020."
    )
    assert test == (
        "On the test part, which no choice was made on, accuracy was 50.0 ± 5.0 % for the network "
        "refitted at p = 0.2 and 75.0 ± 5.0 % for the one refitted without dropout; the saved "
        "model is the one at p = 0.2."
    )
    assert late == (
        "Each p was stopped at its own best epoch (4 at p = 0.2, 4 without dropout). Trained on "
        "to epochs 8 and 8, the validation loss is 1.30 and 1.50."
    )


def test_no_clear_difference_and_a_hurt_in_words():
    none, some = level(0.0, 0.5, rmse=7.0, r2=0.5), level(0.2, 0.55, rmse=7.5, r2=0.45)
    unclear = said("regression", "no clear difference", 0.05, none, some, ps=(0.0, 0.2), gap=0.05)
    assert unclear[0] == (
        "On the same 5 splits the validation squared error was 0.550 squared units of the target "
        "at p = 0.2 and 0.500 without dropout: higher by 0.050 ± 0.020 (standard error of the "
        "paired difference). Chance alone may reach 0.080, so this may be chance."
    )
    assert unclear[1] == (
        'Predictions of "price" were off by 7.50 (root mean square, in its own unit) at p = 0.2 '
        "and by 7.00 without dropout; R² was 0.450 ± 0.010 and 0.500 ± 0.010."
    )
    assert "did not clearly change with dropout" in unclear[3]
    assert "it was wider by 0.050 ± 0.020, and chance alone may reach 0.060." in unclear[3]
    assert unclear[4].endswith("the saved model is the one without dropout.")
    assert "would rarely reach" in said("regression", "hurt", 0.2, none, some)[0]


def test_a_gap_that_is_clear_is_never_called_the_same():
    """The errors of both gaps are as wide as their difference; that of the paired one is not."""
    none, some = level(0.0, 0.5, gap=0.41, accuracy=0.9), level(0.2, 0.3, gap=0.4, accuracy=0.9)
    found = said("classification", "helped", -0.2, none, some, gap=-0.01)[3]
    assert "did not clearly change" in found
    found = said("classification", "helped", -0.2, none, some, gap=-0.07)[3]
    assert "was narrower with dropout" in found


@pytest.mark.parametrize(
    ("difference", "found", "end"),
    [
        (0.4, "better", "was higher by 0.400 ± 0.030, clearly worse."),
        (0.05, "as well", "was higher by 0.050 ± 0.030, and chance alone may reach 0.10."),
        (
            -0.05, "beaten",
            "It does tell rows apart: its area under the ROC curve is clearly better.",
        ),
    ],
)  # fmt: skip
def test_a_baseline_in_words(difference, found, end):
    none, some = level(0.0, 0.5, accuracy=0.9), level(0.2, 0.3, accuracy=0.9)
    one = baseline("constant", difference, 0.1, found)
    assert said("classification", "helped", -0.2, none, some, beside=(one,))[2].endswith(end)


@pytest.mark.parametrize(
    ("name", "r2", "told"),
    [("linear", 0.9999, True), ("linear", 0.998, False), ("trees", 0.9999, False)],
)
def test_a_target_that_is_made_of_columns_in_words(name, r2, told):
    one = baseline(name, 0.2, 0.1, "better")
    one.validation["r2"] = Mean(r2, 0.0)
    none, some = (level(p, 0.5, r2=0.9, rmse=2.0) for p in (0.0, 0.2))
    lines = said("regression", "hurt", 0.2, none, some, beside=(BEATEN, one))
    sentence = (
        'The linear model\'s R² is 0.99990: "price" may be made of other columns. If these are not '
        "known before it is, leave them out: --drop."
    )
    assert [line for line in lines if "made of" in line] == [sentence] * told


def test_a_p_that_was_cut_short_is_named():
    none = replace(level(0.0, 0.5, 8, accuracy=0.9), finished=False)
    some = replace(level(0.2, 0.3, 8, accuracy=0.9), finished=False)
    found = said("classification", "helped", -0.2, none, some)
    assert found[-1] == (
        "At p = 0 and 0.2 validation still got better when training was cut short, after 8 epochs: "
        "more (--epochs) may do better."
    )
    assert not any("stopped at its own best epoch" in sentence for sentence in found)


def head(verdict="helped", cut=(), **found):
    ps = (0.0, 0.2, 0.5)
    levels = tuple(replace(level(p, 0.5), finished=p not in cut) for p in ps)
    comparison = Comparison(0.2, -0.1, 0.01, 0.02, verdict)
    beside = tuple(baseline(name, 0.0, 0.1, how) for name, how in found.items())
    return headline(comparison, levels[1], levels, beside)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"constant": "beaten", "linear": "beaten", "trees": "beaten"}, ""),
        ({"constant": "as well"}, " A model without inputs does as well."),
        ({"constant": "better"}, " A model without inputs does as well."),
        (
            {"constant": "as well", "linear": "as well", "trees": "better"},
            " A model without inputs does as well. Boosted trees do better.",
        ),
        ({"linear": "better"}, " A linear model does better."),
        (
            {"linear": "as well", "trees": "better"},
            " A linear model does as well. Boosted trees do better.",
        ),
        ({"linear": "better", "trees": "better"}, " A linear model and boosted trees do better."),
    ],
)
def test_the_headline_names_what_is_not_beaten(found, said):
    assert head(**found) == f"Dropout helped.{said}"


def test_the_headline_says_what_was_cut_short():
    assert head("hurt", cut=(0.0, 0.2)) == (
        "Dropout hurt. Training was not finished at p = 0 and 0.2."
    )
    assert head(cut=(0.5,)) == "Dropout helped."  # it is in no comparison
