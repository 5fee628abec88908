"""What mkdocs does with docs/ beyond Markdown: `mkdocs.yml` names this file as its hook.

The pages read as well where they lie, so what is added here is comfort: folders in the navigation,
tabs for one request in several languages, players for links to audio.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

_BLOCK = r"```(?:bash|python|javascript)\n(?:(?!```).*\n)*```\n"
_BLOCKS = re.compile(rf"^{_BLOCK}(?:\n{_BLOCK})+", re.MULTILINE)
_TITLES = {"bash": "curl", "python": "Python", "javascript": "JavaScript"}
_PLAYER = (
    r"<figure><figcaption>\2</figcaption>"
    r'<audio controls preload="none" src="\1"></audio></figure>'
)
_AUDIO = re.compile(r'<a href="([^":]+\.(?:mp3|opus|flac|wav))">(.*?)</a>')


def on_config(config: Any) -> Any:
    """`decisions/*.md` in the navigation becomes the pages there that it does not name itself."""
    root = Path(config["docs_dir"])
    found = [path.relative_to(root).as_posix() for path in root.rglob("*.md")]
    pages = sorted(found, key=lambda page: (Path(page).name != "index.md", page))
    config["nav"] = expanded(config["nav"], pages)
    return config


def expanded(nav: list[Any], pages: list[str]) -> list[Any]:
    """A navigation without patterns; a section that no page is in is left out."""
    named = set(entries(nav))
    left = [page for page in pages if page not in named]
    return [filled for entry in nav for filled in _filled(entry, left)]


def entries(nav: list[Any]) -> Iterator[str]:
    """Paths and patterns of a navigation, in its order."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from entries(below if isinstance(below, list) else [below])


def _filled(entry: Any, left: list[str]) -> Iterator[Any]:
    if isinstance(entry, str):
        yield from [page for page in left if _fits(page, entry)] if "*" in entry else [entry]
        return
    [(title, below)] = entry.items()
    if isinstance(below, str):
        yield entry
    elif inside := [filled for one in below for filled in _filled(one, left)]:
        yield {title: inside}


def _fits(page: str, pattern: str) -> bool:
    """A folder's pages, without those of folders within."""
    return page.count("/") == pattern.count("/") and fnmatch(page, pattern)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Blocks of different languages that follow one another are one request: tabs."""
    return _BLOCKS.sub(lambda found: _tabs(found[0]), markdown)


def _tabs(blocks: str) -> str:
    found = re.findall(_BLOCK, blocks)
    titles = [_TITLES[block.partition("\n")[0].removeprefix("```")] for block in found]
    if len(set(titles)) < len(titles):
        return blocks
    tabs = [
        f'=== "{title}"\n\n' + "".join(f"    {line}\n" for line in block.splitlines())
        for title, block in zip(titles, found, strict=True)
    ]
    return "\n".join(tabs)


def on_page_content(html: str, **_: Any) -> str:
    """A link to audio becomes a player."""
    return _AUDIO.sub(_PLAYER, html)
