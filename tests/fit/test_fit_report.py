"""The report as a document: whole, self-contained, titled, escaped, the same each time."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from thinned.fit.engines.local import Local
from thinned.fit.job import result_of
from thinned.fit.overview import ColumnFacts
from thinned.fit.results import FitSettings, Mean
from thinned.fit.search import Search
from thinned.fit.tables import load
from thinned.fit.words import with_error
from thinned.pages.colours import colour_of, themed, variables
from thinned.pages.document import clean
from thinned.report import data, page
from thinned.report.classes import told_apart

# The command that does the fit again, as a shell reads it.
AGAIN = ["thinned fit", "data.csv", "--target y"]
# What a careless page would run, fetch, or read as mathematics.
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=http://example.invalid/x onerror=alert(1)>',
    "$\\frac{a}{0$ & co",
)
COLUMNS = (*EVIL, "größe 重さ", "__p1 #a1b200", 'id="x" url(#x) <b>')
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What the tests look for in a page, and whether its elements close in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.references, self.open, self.text = [], [], [], [], []
        self.svgs = []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        for name, value in attributes:
            if name.split(":")[-1] in ("href", "src", "srcset", "action", "data", "poster"):
                self.references.append(value)
            if name == "aria-labelledby":
                self.references += [f"#{one}" for one in value.split()]
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def searched(frame, tmp_path_factory, target, **settings):
    path = tmp_path_factory.mktemp("report") / 'a "name" & <b>.csv'
    frame.to_csv(path, index=False)
    problem = load(str(path), target)
    chosen = FitSettings(
        **{"p": (0.0, 0.3), "hidden": (8,), "epochs": 2, "repeats": 1, "seed": 0} | settings
    )
    search = Search(problem, chosen, engine=Local(1))
    search.run()
    return result_of(problem, search)


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A result on the wine data, its columns and classes called by names that try to break out."""
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True).frame.iloc[:, [0, 1, 2, 3, 4, 5, 13]]
    target = EVIL[0] + "t"
    wine.columns = [*COLUMNS, target]
    wine[target] = np.array(EVIL)[wine[target]]
    return searched(wine, tmp_path_factory, target, p=(0.0, 0.1, 0.3))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    from sklearn.datasets import load_diabetes

    return searched(load_diabetes(as_frame=True).frame, tmp_path_factory, "target")


@pytest.fixture(scope="module", params=["evil", "plain"])
def result(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def text(result):
    return page(result, AGAIN)


def test_the_page_is_well_formed_and_its_ids_are_unique(text):
    found = Page(text)
    assert len(set(found.ids)) == len(found.ids)
    assert [tag for tag, _ in found.tags].count("h1") == 1


def test_the_page_refers_to_nothing_but_itself(text):
    found = Page(text)
    for reference in found.references:
        assert reference == "data:," or reference.startswith("#"), reference
        if reference.startswith("#"):
            assert reference[1:] in found.ids, reference
    assert "@import" not in text
    # The data's own, whole or cut short, are text.
    own = re.sub(r'http:[^\s"<>]*…', "", text.replace("http://example.invalid/x", ""))
    addresses = set(re.findall(r'(?:https?:)?//[^\s"<>]*', own))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_nothing_of_the_data_becomes_a_tag(evil):
    text = page(evil, AGAIN)
    found = Page(text)
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "img", "iframe", "object", "form", "base"}
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    shown = "".join(found.text)
    assert EVIL[0] in shown  # the target's name, as it is
    assert "<script>alert" not in text


def test_every_picture_is_named_described_and_labelled(result, text):
    found = Page(text)
    pictures = [a for tag, a in found.tags if tag == "svg" and "aria-hidden" not in a]
    expected = 3 + len(result.levels) + 2 + len(result.masks)
    # What columns are worth, reliability and sets or intervals, and what members say.
    expected += 1 + (4 if result.data.classes else 2)
    assert len(pictures) == expected
    for attributes in pictures:
        assert attributes["role"] == "img"
        assert "width" not in attributes  # the page decides
        for name in attributes["aria-labelledby"].split():
            assert name in found.ids
    for one in re.findall(r"<desc[^>]*>([^<]*)</desc>", text):
        assert len(one) > 20
    unit = "nats" if result.data.task == "classification" else "target²"
    assert f"({unit})" in text
    for label in ("epoch", "p (probability to drop a unit)", "row of the batch", "unit"):
        assert f">{label}</text>" in text, label


def test_pictures_are_xml_in_the_pages_colours(text):
    for one in re.findall(r'<svg xmlns="http.*?</svg>', text, flags=re.DOTALL):
        ElementTree.fromstring(one)
        for tag in re.findall(r"<[^>]+>", one):
            assert "#a1b2" not in tag
            # Every colour is a variable of the page: none is left that only one theme can show.
            assert not re.search(r"(?:fill|stroke): #", tag), tag


def test_colours_stand_for_variables_that_exist(result, text):
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", text))
    for name in used:
        assert text.count(f"--{name}:") == 2, name  # for the light page and for the dark one
    assert f"p{len(result.levels) - 1}" in used


def test_the_page_is_the_same_each_time(result, text):
    assert page(result, AGAIN) == text


def test_the_page_says_what_was_found_and_how_to_draw_again(plain):
    whole = page(plain, AGAIN)
    text = "".join(Page(whole).text)
    shown = plain.masks[-1]
    assert f"at = thinned.{shown.address}" in text
    assert f"thinned.keep_mask({shown.shape}, p={shown.p:g}, at=at)" in text
    assert " ".join(AGAIN) in text

    for level in plain.levels:
        assert f"<td>{with_error(level.validation['loss'])}</td>" in whole
        assert f"<td>{with_error(level.gap)}</td>" in whole
    for refit in plain.refits:
        test = Mean(refit.test["loss"], refit.errors["loss"])
        assert f"<td>{with_error(test)}</td>" in whole
    first, _, rest = plain.headline.partition(". ")
    assert f'<h1 class="{plain.comparison.verdict.split()[0]}">{first}.</h1>' in whole
    assert f'<p class="also">{rest}</p>' in whole


@pytest.mark.parametrize(
    ("verdict", "headline"), [("helped", "Dropout helped."), ("hurt", "Dropout hurt.")]
)
def test_a_verdict_shows_in_the_headline(plain, verdict, headline):
    comparison = replace(plain.comparison, verdict=verdict)
    changed = replace(plain, headline=headline, comparison=comparison)
    assert f'<h1 class="{verdict}">{headline}</h1>' in page(changed, AGAIN)


@pytest.mark.long
def test_many_classes_fit(tmp_path_factory):
    rng = np.random.default_rng(0)
    names = [f"a class with a long name {i}" for i in range(45)]
    frame = pd.DataFrame({"a": rng.normal(size=450), "b": rng.normal(size=450), "y": names * 10})
    text = page(searched(frame, tmp_path_factory, "y", epochs=1), AGAIN)
    Page(text)
    pictures = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "long name 40" not in pictures  # too many to be named there


def test_stand_ins_become_variables():
    assert themed(f"fill: {colour_of(0)}; stroke: {colour_of(2)}", 3) == (
        "fill: var(--none); stroke: var(--p2)"
    )
    light, dark = variables(4)
    assert light.count(";") == dark.count(";") == 3
    assert len(set(re.findall("#[0-9a-f]{6}", light + dark))) == 6


def test_text_from_the_data_is_cleaned():
    assert clean("a\x00b\x1b[0m\u202e") == "a\ufffdb\ufffd[0m\ufffd"
    assert clean("x" * 300) == "x" * 100 + "…" + "x" * 99
    assert clean("species number 12", 12) == "specie…er 12"


def test_classes_whose_names_differ_in_the_middle_are_told_apart():
    names = [f"Species number {i} latin" for i in range(1, 13)]
    short = told_apart([*names, "short", "another one of many letters"])
    assert len({*short}) == 14
    assert max(map(len, short)) <= 14
    assert short[:2] == ["…1 latin", "…2 latin"]
    assert short[-2:] == ["short", "another…etters"]
    assert told_apart(["a" * 30, "a" * 29 + "b"]) == ["aaaaaaa…aaaaaa", "aaaaaaa…aaaaab"]


def test_a_zero_that_was_rounded_is_a_zero():
    facts = ColumnFacts("wave", "number", 0, 3, 1, "scaled", -1.0, 6.123e-17, 1.0)
    assert "-1.000, 0, 1.000" in data._row(facts)
    small = replace(facts, low=-1e-17, high=1e-16)
    assert "6.123e-17" in data._row(small)


def test_dots_lie_above_the_intervals(patients):
    page = patients.report
    picture = page[page.index("Intervals of 90%") :]
    assert picture.index("LineCollection_1") < picture.index("PathCollection_1")
