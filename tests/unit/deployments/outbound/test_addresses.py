"""Which addresses of callers may be connected to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from deployments.outbound.addresses import AllowedHosts
from pipeline.errors import StageUnavailableError, UnsupportedError

pytestmark = pytest.mark.unit
PUBLIC = "93.184.216.34"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names resolve to; an address is its own."""
    table: dict[str, list[str]] = {"hooks.example": [PUBLIC]}

    async def getaddrinfo(_loop: Any, host: str, port: int, **_: Any) -> list[Any]:
        found = table.get(host, [host] if host[0].isdigit() or ":" in host else [])
        if not found:
            raise socket.gaierror("unknown")
        return [(0, 0, 0, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return table


async def test_an_allowed_host_is_pinned_to_what_was_checked(names: dict[str, list[str]]):
    hosts = AllowedHosts(["Hooks.example", "hooks.example:8443"])
    target = await hosts.resolve("https://hooks.example/a?b=c#d", "webhook")
    assert target.pinned == f"https://{PUBLIC}:443/a?b=c"
    assert (target.host_header, target.address) == ("hooks.example", PUBLIC)
    other = await hosts.resolve("http://HOOKS.example.:8443/", "webhook")
    assert other.host_header == "hooks.example:8443"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://other.example/", "not allowed"),
        ("https://hooks.example:444/", "not allowed"),
        ("https://hooks.example.evil/", "not allowed"),
        ("https://evil@hooks.example/", "user or password"),
        ("ftp://hooks.example/", "begins with https"),
        ("//hooks.example/", "begins with https"),
        ("https:///path", "begins with https"),
        ("https://hooks.example:x/", "no URL"),
        ("https://[::1/", "no URL"),
        ("", "begins with https"),
    ],
)
def test_what_is_not_allowed_by_its_name(url: str, says: str):
    with pytest.raises(UnsupportedError, match=says) as caught:
        AllowedHosts(["hooks.example"]).check(url, "webhook")
    assert caught.value.param == "webhook"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "0.0.0.0",  # noqa: S104
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd12::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2001:0:1::",
        "64:ff9b:1::1",
    ],
)  # fmt: skip
async def test_a_name_that_means_a_private_address(names: dict[str, list[str]], address: str):
    names["hooks.example"] = [PUBLIC, address]
    with pytest.raises(UnsupportedError, match="not a public one"):
        await AllowedHosts(["hooks.example"]).resolve("https://hooks.example/", "webhook")


async def test_unless_the_address_itself_is_allowed(names: dict[str, list[str]]):
    names["hooks.example"] = ["10.0.0.1"]
    hosts = AllowedHosts(["hooks.example", "10.0.0.1"])
    assert (await hosts.resolve("https://hooks.example/", "webhook")).address == "10.0.0.1"
    loopback = AllowedHosts(["127.0.0.1:8080", "[::1]:8080"])
    assert (await loopback.resolve("http://127.0.0.1:8080/x", "webhook")).port == 8080
    assert (await loopback.resolve("http://[::1]:8080/x", "w")).pinned == "http://[::1]:8080/x"
    with pytest.raises(UnsupportedError):
        await loopback.resolve("http://127.0.0.1:22/", "webhook")


async def test_a_name_without_an_address(names: dict[str, list[str]]):
    names.clear()
    with pytest.raises(StageUnavailableError, match="no address"):
        await AllowedHosts(["gone.example"]).resolve("https://gone.example/", "webhook")


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "2002:a9fe:a9fe::",
        "::127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1", "2606:4700::5efe:a00:1",
        "2606:4700::200:5efe:7f00:1", "2001:db8::1", "fec0::1", "100.100.100.200", "192.0.0.192",
        "168.63.129.16", "::ffff:168.63.129.16", "198.18.0.1", "240.0.0.1", "0.1.2.3", "192.0.2.1",
        "fe80::1%eth0",
    ],
)  # fmt: skip
async def test_private_addresses_in_other_clothes(names: dict[str, list[str]], address: str):
    names["hooks.example"] = [address]
    with pytest.raises(UnsupportedError, match="not a public one"):
        await AllowedHosts(["hooks.example"]).resolve("https://hooks.example/", "webhook")


@pytest.mark.parametrize("address", ["64:ff9b::5db8:d822", "2606:4700::1111", "::ffff:1.1.1.1"])
async def test_public_addresses_in_other_clothes(names: dict[str, list[str]], address: str):
    names["hooks.example"] = [address]
    hosts = AllowedHosts(["hooks.example"])
    assert (await hosts.resolve("https://hooks.example/", "webhook")).port == 443


def test_an_entry_may_name_its_scheme():
    hosts = AllowedHosts(["https://a.example", "http://b.example:8080/", "c.example"])
    for good in (
        "https://a.example/x",
        "http://b.example:8080/",
        "http://c.example",
        "https://c.example",
    ):
        hosts.check(good, "webhook")
    for bad in ("http://a.example/x", "https://b.example:8080/"):
        with pytest.raises(UnsupportedError, match="is not allowed by http"):
            hosts.check(bad, "webhook")
    with pytest.raises(UnsupportedError):
        AllowedHosts(["c.example"], schemes=("https",)).check("http://c.example/", "webhook")
