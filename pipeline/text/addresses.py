"""Addresses of the web and of mail: where they stand in a text, in any language."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOP_DOMAINS = (
    "com|org|net|edu|gov|mil|info|biz|io|ai|dev|app|co|me|tv|eu|uk|us|ca|de|fr|es|it|nl|ch|at|be|"
    "se|no|dk|fi|pl|pt|ie|au|nz|jp|cn|hk|tw|kr|in|br|mx|ru|za|int|xyz|online|site|shop|blog|cloud|"
    "tech|ly|gg|fm|so|sh|rs|to|cc|top|vip|store|news|live|wiki"
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_BEFORE = r"(?<![A-Za-z0-9_@.-])"
_REST = r"[!#-&*-;=?-\[\\^-~]"  # ASCII without white space, quotes, "<>", ")" and "]"
_URL = re.compile(
    rf"{_BEFORE}(?:(?:https?|ftp|wss?)://(?:[^\s/@]+@)?"
    rf"(?P<host>(?:{_LABEL}\.)*{_LABEL}(?::\d{{2,5}})?)(?P<rest>[/?#]{_REST}*)?"
    rf"|(?P<bare>(?:www\.(?:{_LABEL}\.)+[A-Za-z]{{2,24}}|(?:{_LABEL}\.){{1,5}}(?:{_TOP_DOMAINS}))"
    rf"(?::\d{{2,5}})?)(?![A-Za-z0-9_@-]|\.[A-Za-z0-9])(?P<path>[/?#]{_REST}*)?)"
)
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])(?:mailto:)?(?P<user>[A-Za-z0-9][A-Za-z0-9._%+-]{0,63})"
    rf"@(?P<host>(?:{_LABEL}\.){{1,5}}[A-Za-z]{{2,24}})(?![A-Za-z0-9])"
)
_FILE = re.compile(
    r"(?<![A-Za-z0-9_./@-])[A-Za-z0-9][A-Za-z0-9_-]{0,63}(?:\.[A-Za-z0-9_-]{1,20}){0,2}"
    r"\.(?:pdf|docx?|xlsx?|pptx?|txt|csv|tsv|rtf|jpe?g|png|gif|svg|webp|mp[34]|wav|flac|ogg|avi|mov|"
    r"mkv|zip|rar|gz|tar|7z|exe|dmg|apk|iso|py|js|ts|css|html?|php|java|cpp|sh|sql|json|xml|ya?ml|"
    r"toml|ini|md|log|bak)(?![A-Za-z0-9_@/-]|\.[A-Za-z0-9])"
)
_PATH = re.compile(
    r"(?<![A-Za-z0-9_/.~:<)])~?(?:/[A-Za-z0-9._-]*[A-Za-z0-9_-]){2,}/?(?![A-Za-z0-9_/])"
    r"|(?<![A-Za-z0-9_])[A-Z]:(?:\\[A-Za-z0-9._-]*[A-Za-z0-9_-])+"
)
_CLOSING = ".,;:!?'*"
_LONGEST_REST = 80  # characters behind the host that are spoken; nobody listens to more


def with_said_addresses(text: str, say: Callable[[str], str]) -> str:
    """Text whose addresses of the web, paths and names of files are as `say` says them.

    Of a web address all is said but the protocol, "www." and a path and query of more than 80
    characters. Addresses of mail are to be replaced before.
    """

    def url(found: re.Match[str]) -> str:
        said, closing = _parts_of_url(found)
        return say(said) + closing

    text = _URL.sub(url, text)
    for kind in (_PATH, _FILE):
        text = kind.sub(lambda found: say(found[0]), text)
    return text


def _parts_of_url(found: re.Match[str]) -> tuple[str, str]:
    """A match of _URL → what is said of it, and the marks of the sentence behind."""
    host, rest = found["host"] or found["bare"], found["rest"] or found["path"] or ""
    whole = host + rest
    closing = whole[len(whole.rstrip(_CLOSING)) :]
    rest = rest.rstrip(_CLOSING).rstrip("/")
    return host.removeprefix("www.") + (rest if len(rest) <= _LONGEST_REST else ""), closing
