"""The links of a folder of HTML pages, and those that lead nowhere."""

from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.places = [], [], {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.places.update(value for value in (told.get("id"), told.get("name")) if value)
        if tag == "a" and told.get("href"):
            self.links.append(told["href"])
        if tag in {"script", "img", "iframe", "source"} and told.get("src"):
            self.loads.append(told["src"])
        if tag == "link" and told.get("rel") != "canonical" and told.get("href"):
            self.loads.append(told["href"])


def pages(folder):
    return {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.parts  # the theme's own parts of pages
    }


def broken(folder):
    """(page, link) where a link or a loaded file is not there, or not the place in the page."""
    found = pages(folder)
    for path, page in found.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            onto = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not onto.is_file() or (onto in found and anchor not in found[onto].places):
                yield path.relative_to(folder.resolve()).as_posix(), link


def other_hosts(folder):
    """(page, address) of everything that a page loads from elsewhere by itself."""
    for path, page in pages(folder).items():
        for link in page.loads:
            if urlsplit(link).netloc:
                yield path.name, link
