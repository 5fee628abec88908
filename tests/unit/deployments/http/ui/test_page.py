"""The page's files: whole, theirs alone, and served without a key and without a way around one."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser

import httpx
import pytest

from deployments.http.ui.routes import page_files
from tests.http_app import http_app

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]
FILES = {name: file.content.decode() for name, file in page_files().items()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}


class Seen(HTMLParser):
    """What the document asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self._in_script = False
        self.feed(FILES["index.html"])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline.append(data)


def test_the_page_loads_its_own_files_alone_and_all_of_them():
    wanted = {
        value.removeprefix("ui/")
        for tag, attributes in Seen().tags
        if tag in {"script", "link", "img"}
        for name, value in attributes.items()
        if name in {"src", "href"} and value
    }
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./(.+)"', text)}
    assert wanted | imported | {"index.html"} == FILES.keys()
    for name, text in FILES.items():
        outside = set(re.findall(r"https?://[^\s\"'<>]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not outside, name


def test_nothing_in_it_needs_a_looser_policy():
    page = Seen()
    assert not page.inline
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    for name, text in SCRIPTS.items():
        assert not re.search(r"\beval\(|new Function|innerHTML|outerHTML|document\.write", text), (
            name
        )


def test_every_word_is_there_in_both_languages():
    table = dict(re.findall(r'^ {2}"([^"]+)": (\[(?:[^\]]|\n)*?\]),$', FILES["words.js"], re.M))
    pairs = {key: re.findall(r'"((?:[^"\\]|\\.)*)"', row) for key, row in table.items()}
    assert len(pairs) == len(re.findall(r'^ {2}"', FILES["words.js"], re.M)) > 150
    assert all(len(pair) == 2 and pair[1] for pair in pairs.values())
    # what the service itself says in English has no English words of the page's own
    ours = {key for key in pairs if not key.startswith(("found.", "error."))}
    assert all(pairs[key][0] for key in ours)
    assert all(set(re.findall(r"\{\w+\}", pairs[k][0])) == set(re.findall(r"\{\w+\}", pairs[k][1]))
               for k in ours)  # fmt: skip
    used = set(re.findall(r'data-t(?:-label)?="([^"]+)"', FILES["index.html"]))
    made_up = set[str]()  # what keys begin with that are put together
    for text in (text for name, text in SCRIPTS.items() if name != "words.js"):
        used |= set(re.findall(r'(?<![\w.])t\("([^"]+)"', text))
        used |= {key for key in pairs if f'"{key}"' in text}
        made_up |= set(re.findall(r"`(\w+\.)\$\{", text))
    assert not used - pairs.keys()
    assert not [key for key in pairs.keys() - used if not key.startswith(tuple(made_up))]


async def test_anybody_gets_the_page_and_nothing_else(tmp_path):
    (tmp_path / "admin").write_text("a" * 40)
    access = {"keys": "on", "admin_key_file": str(tmp_path / "admin")}
    async with http_app(access=access, cache={"url": str(tmp_path / "c"), "l2": "off"}) as app:
        reply = await app.http.get("/ui")
        assert reply.status_code == 200
        policy = dict(
            rule.split(" ", 1) for rule in reply.headers["content-security-policy"].split("; ")
        )
        assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
        assert (policy["frame-ancestors"], policy["connect-src"]) == ("'none'", "'self'")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in reply.headers
        for name, text in FILES.items():
            found = await app.http.get(f"/ui/{name}")
            assert (found.status_code, found.text) == (200, text)
            assert (
                found.headers["content-security-policy"] == reply.headers["content-security-policy"]
            )
        assert (
            (await app.http.get("/ui/main.js"))
            .headers["content-type"]
            .startswith("text/javascript")
        )
        assert (await app.http.get("/ui/")).headers["location"] == "../ui"
        for path in (
            "/ui/nothing.js",
            "/ui/..%2froutes.py",
            "/ui/%2e%2e/routes.py",
            "/ui/a/main.js",
        ):
            assert (await app.http.get(path)).status_code in {401, 404}, path
        for path in ("/v1/voices", "/v1/cache", "/uix", "/v1/tags"):
            assert (await app.http.get(path)).status_code == 401


async def test_a_reload_costs_no_bytes_and_a_load_few():
    async with http_app() as app:
        first = await app.http.get("/ui", headers={"accept-encoding": "gzip"})
        assert first.headers["content-encoding"] == "gzip"
        again = await app.http.get("/ui", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        plain = await app.http.get("/ui", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert sum(len(gzip.compress(text.encode())) for text in FILES.values()) < 60_000


async def test_a_service_may_have_no_page():
    async with http_app(http={"page": False}) as app:
        assert (await app.http.get("/ui")).status_code == httpx.codes.NOT_FOUND
