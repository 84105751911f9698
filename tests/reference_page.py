"""A page as a test reads it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "path", "use", "line", "rect", "circle", "input"}


class Page(HTMLParser):
    """Tags, attributes that fetch, visible text and repeated ids; fails on tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data + " "

    def headings(self) -> list[int]:
        """Levels of the headings, in order."""
        return [int(t[1]) for t, _ in self.tags if re.fullmatch("h[1-6]", t)]

    def section(self, heading: str, until: str) -> str:
        """The text from one heading to another one; the list of sections repeats some titles before them."""
        return self.text[self.text.rindex(f" {heading} ") : self.text.rindex(f" {until} ")]

    def contents(self) -> list[str]:
        """The ids that the list of contents leads to."""
        links = [str(a["href"]) for a in self.having("a") if a.get("class") != "skip"]
        return [link[1:] for link in links if link.startswith("#")]

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag]
