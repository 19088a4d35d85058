"""What a page holds, as a browser would read it."""

from html.parser import HTMLParser


def attributes(html: str) -> set[str]:
    """The names of all attributes of all tags."""
    found: set[str] = set()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, pairs: found.update(name for name, _ in pairs)
    parser.feed(html)
    return found


def handlers(html: str) -> set[str]:
    """Attributes that would run something."""
    return {name for name in attributes(html) if name.startswith("on")}
