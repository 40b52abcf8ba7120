"""The words and figures that come before a person."""

from types import SimpleNamespace

import pytest

from thinned.fit.results import Comparison, FitSettings, Level, Mean, Refit
from thinned.fit.words import count, number, percent, sentences, table, with_error


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (1.0, "1.00"),
        (98.76, "98.8"),
        (12345.6, "12346"),
        (-0.5, "-0.500"),
        (1e-9, "1.00e-09"),
        (2.5e12, "2.50e+12"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_have_three_digits_or_their_whole_part(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.08942, 0.00513, "0.0894 ± 0.0051"),
        (2912.3, 121.7, "2912 ± 122"),
        (98.333, 0.71, "98.33 ± 0.71"),
        (1.0, 0.0, "1.00 ± 0"),
        (3e-8, 1e-9, "3.00e-08 ± 1.0e-09"),
        (-0.3, 1.26, "-0.3 ± 1.3"),
    ],
)
def test_means_are_shown_to_the_second_digit_of_their_error(value, error, shown):
    assert with_error(Mean(value, error)) == shown


def test_counts_and_shares():
    assert count(1, "row") == "1 row"
    assert count(1797, "row") == "1,797 rows"
    assert percent(0.9833) == "98.3 %"


def level(p, loss, epochs=4, gap=0.5, **more):
    shown = {"loss": Mean(loss, 0.01)} | {k: Mean(v, 0.01) for k, v in more.items()}
    curve = (Mean(loss, 0.01),)
    return Level(
        p,
        epochs,
        shown,
        shown,
        Mean(gap, 0.01),
        Mean(loss + 1, 0.01),
        Mean(gap, 0.01),
        curve,
        curve,
    )


def said(task, verdict, difference, none, some, epochs=8, ps=(0.0, 0.2, 0.5), **scores):
    settings = FitSettings(ps, (4,), epochs, 1, 0)
    found = Comparison(some.p, difference, 0.02, 0.08, verdict)
    key = {"classification": "accuracy", "regression": "r2"}[task]
    refits = tuple(
        Refit(p, 4, 0, {"loss": 0.1}, {"loss": 0.3, key: score, "rmse": 5.0})
        for p, score in ((0.0, 0.75), (some.p, 0.5))
    )
    return sentences(task, settings, (none, some), found, refits, "price")


def test_a_clear_help_in_words():
    none = level(0.0, 0.5, gap=0.4, accuracy=0.9)
    some = level(0.2, 0.3, gap=0.1, accuracy=0.95)
    loss, score, gap, test, late = said("classification", "helped", -0.2, none, some)
    assert loss == (
        "On the same 5 splits the validation log loss was 0.300 nats at p = 0.2, the best p "
        "above 0, and 0.500 without dropout: lower by 0.200 ± 0.020 (standard error of the "
        "paired difference). Chance alone would rarely reach 0.080."
    )
    assert score == (
        "Validation accuracy was 95.0 ± 1.0 % at p = 0.2 and 90.0 ± 1.0 % without dropout."
    )
    assert gap == (
        "The gap between training and validation loss was narrower with dropout: 0.100 ± 0.010 "
        "at p = 0.2, 0.400 ± 0.010 without."
    )
    assert test == (
        "On the test part, which no choice was made on, accuracy was 50.0 % for the network "
        "refitted at p = 0.2 and 75.0 % for the one refitted without dropout; the saved model "
        "is the one at p = 0.2."
    )
    assert late == (
        "Each p was stopped at its own best epoch (4 at p = 0.2, 4 without dropout). Trained on "
        "to epoch 8, the validation loss is 1.30 and 1.50."
    )


def test_no_clear_difference_and_a_hurt_in_words():
    none, some = level(0.0, 0.5, rmse=7.0, r2=0.5), level(0.2, 0.55, rmse=7.5, r2=0.45)
    unclear = said("regression", "no clear difference", 0.05, none, some, ps=(0.0, 0.2))
    assert unclear[0] == (
        "On the same 5 splits the validation squared error was 0.550 squared units of the target "
        "at p = 0.2 and 0.500 without dropout: higher by 0.050 ± 0.020 (standard error of the "
        "paired difference). Chance alone may reach 0.080, so this may be chance."
    )
    assert unclear[1] == (
        'Predictions of "price" were off by 7.50 (root mean square, in its own unit) at p = 0.2 '
        "and by 7.00 without dropout; R² was 0.450 ± 0.010 and 0.500 ± 0.010."
    )
    assert "about as wide with dropout" in unclear[2]
    assert unclear[3].endswith("the saved model is the one without dropout.")
    assert "would rarely reach" in said("regression", "hurt", 0.2, none, some)[0]


def test_a_p_that_was_best_at_the_end_is_named():
    none, some = level(0.0, 0.5, 8, accuracy=0.9), level(0.2, 0.3, 8, accuracy=0.9)
    found = said("classification", "helped", -0.2, none, some)
    assert found[-1] == (
        "At p = 0 and 0.2 the loss was lowest at the last epoch: more epochs may do better."
    )
    assert not any("stopped at its own best epoch" in sentence for sentence in found)


def test_the_table_for_the_terminal():
    levels = (level(0.0, 0.5, accuracy=0.9), level(0.25, 0.3, 12, accuracy=0.95))
    data = SimpleNamespace(task="classification")
    result = SimpleNamespace(data=data, levels=levels, best=levels[1])
    assert table(result).splitlines() == [
        "   p  epochs  validation loss (nats)  accuracy (%)  training loss            gap",
        "   0       4           0.500 ± 0.010    90.0 ± 1.0  0.500 ± 0.010  0.500 ± 0.010",
        (
            "0.25      12           0.300 ± 0.010    95.0 ± 1.0  0.300 ± 0.010  0.500 ± 0.010"
            "  <- lowest loss"
        ),
    ]
