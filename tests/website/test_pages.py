"""The site as a reader finds it: its links, its search, its pages in a browser and on a phone."""

from pathlib import Path

import pytest

from . import links

LOOKING = Path(__file__).with_name("looking.js").read_text(encoding="utf-8")
PHONE = 360
# Every page takes a third of a second.
SHORT = 4


def looked_at(browser, path):
    """What is wrong with a page on a phone, in either theme; nothing where all is well."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.width(PHONE)
    browser.open(path.as_uri())
    told = browser.run(LOOKING)
    wrong = [f"{theme}: {text}" for theme, texts in told["faint"].items() for text in texts]
    if told["wide"] > 0:
        wrong.append(f"{told['wide']} pixels too wide")
    wrong += [f"cut off: {text}" for text in told["cut"]]
    wrong += [f"torn apart: {text}" for text in told["torn"]]
    wrong += browser.complaints
    mine = ("file:", "data:", "about:")
    return wrong + [f"asked for {url}" for url in browser.requests if not url.startswith(mine)]


def shown(site):
    """The pages that a reader reads."""
    return sorted(links.pages(site))


def test_every_link_leads_somewhere(site):
    assert list(links.broken(site)) == []


def test_nothing_is_loaded_from_another_host(site):
    assert list(links.other_hosts(site)) == []


def test_links_that_lead_nowhere_are_caught(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="b.html">1</a><a href="#x">2</a><a href="#y">3</a>'
        '<a href="a.html#x">4</a><a href="https://example.org">5</a>'
        '<img src="c.png"><script src="https://example.org/x.js"></script></p>'
    )
    assert list(links.broken(tmp_path)) == [
        ("a.html", "b.html"),
        ("a.html", "#y"),
        ("a.html", "c.png"),
    ]
    assert list(links.other_hosts(tmp_path)) == [("a.html", "https://example.org/x.js")]


def all_is_well(browser, pages):
    found = {path.name: wrong for path in pages if (wrong := looked_at(browser, path))}
    assert found == {}


def test_some_pages_can_be_read_on_a_phone_in_light_and_in_dark(site, browser):
    pages = shown(site)
    assert len(pages) > 80
    all_is_well(browser, pages[::SHORT])


@pytest.mark.long
def test_every_page_can_be_read_on_a_phone_in_light_and_in_dark(site, browser):
    all_is_well(browser, shown(site))


def test_what_cannot_be_read_is_caught(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        '<body style="background:#fff"><p style="color:#999">faint</p>'
        '<div style="width:900px">wide</div><pre style="overflow-x:auto">'
        + "scrolled " * 99
        + '</pre><h1 style="overflow-x:clip">'
        + "cut" * 99
        + '</h1><img src="http://127.0.0.1:9/x.png">'
        '<table><td style="width:1ch;overflow-wrap:anywhere">narrow</table>'
        "<script>throw new Error('planted')</script>"
    )
    wrong = "\n".join(looked_at(browser, path))
    for part in (
        "light: faint",
        "dark: faint",
        "pixels too wide",
        "cut off: cutcut",
        "torn apart: narrow",
        "planted",
        "asked for http:",
    ):
        assert part in wrong
    assert "scrolled" not in wrong


FINISHED = "finished|did not match"
FOUND = {
    "drop_path": "methods/drop_path",
    "mc dropout": "uncertainty.html#mc-dropout",
    "temperature": "api/calibration",
    "thinned.torch.adopt": "api/torch",
    "inverted": "learn/by-hand",
    "bibtex": "uncertainty",
    "keep_prob": "learn/by-hand",
    "unexpected key": "use/migrate",
    "co-adaptation": "learn/regulariser",
    "backward pass": "learn/by-hand",
    "own network": "fit",
    "reproduce": "uncertainty",
    "KERAS_BACKEND": "look/troubleshooting",
    "swapout": "methods/README",
    "InvalidRngError": "look/troubleshooting",
    "preserve_rng_state": "look/troubleshooting",
    "numerical gradient": "learn/by-hand",
    "license": "project/README",
}
# What stands first, where a common word is on most pages.
FIRST = {
    "mc dropout": "uncertainty",
    "dropout rate": "learn/choose-p",
    "recurrent dropout": "methods/recurrent_dropout",
    "batch normalisation": "methods/which",
    "eval mode": "torch",
}


@pytest.mark.parametrize("words", FOUND)
def test_the_search_finds_a_page_by_the_words_of_the_field(words, site, browser):
    browser.open(f"{(site / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    browser.until(f"/{FINISHED}/.test(document.querySelector('.search-summary')?.textContent)")
    links = browser.run("[...document.querySelectorAll('#search-results li a')].map(a => a.href)")
    assert any(FOUND[words] in link for link in links), links[:15]


@pytest.mark.parametrize("words", FIRST)
def test_the_search_shows_the_page_that_is_meant_first(words, site, browser):
    browser.open(f"{(site / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    browser.until(f"/{FINISHED}/.test(document.querySelector('.search-summary')?.textContent)")
    links = browser.run("[...document.querySelectorAll('#search-results li a')].map(a => a.href)")
    assert f"/{FIRST[words]}.html" in links[0], links[:5]


def test_the_search_shows_the_changelog_last(site, browser):
    browser.open(f"{(site / 'search.html').as_uri()}?q=checkpoint")
    browser.until(f"/{FINISHED}/.test(document.querySelector('.search-summary')?.textContent)")
    links = browser.run("[...document.querySelectorAll('#search-results li a')].map(a => a.href)")
    places = [k for k, link in enumerate(links) if "project/changelog" in link]
    assert places == [len(links) - 1]


def test_the_search_finds_nothing_where_nothing_is(site, browser):
    browser.open(f"{(site / 'search.html').as_uri()}?q=zyzzyva")
    browser.until("/did not match/.test(document.querySelector('.search-summary')?.textContent)")
    assert browser.run("document.querySelectorAll('#search-results li a').length") == 0
