"""A local service listens on an address of this machine, on a port that it may have."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from deployments.local.address import find_free_port, listen_address, past_proxies, url_of
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit
ELSEWHERE = "203.0.113.7"  # for documentation: no machine has it


def test_left_out_is_loopback():
    assert listen_address({}) == ("127.0.0.1", 8000)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", ""])  # noqa: S104 - refused
def test_all_interfaces_are_refused(host):
    with pytest.raises(ConfigError, match="serves this machine only"):
        listen_address({"host": host})


@pytest.mark.parametrize("host", ["no.such.host.invalid", "127.0.0.1.5", "a b", "x" * 300])
def test_a_host_that_is_none_is_one_sentence(host):
    with pytest.raises(ConfigError, match="is no address and no name known here"):
        listen_address({"host": host})


def test_an_address_of_another_machine_is_one_sentence():
    with pytest.raises(ConfigError, match=f"{ELSEWHERE}, which is no address of this machine"):
        find_free_port(ELSEWHERE, 8000)
    with pytest.raises(ConfigError, match="2001:db8::7"):
        find_free_port("2001:db8::7", 8000)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_port_in_use_leads_to_another(host):
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.socket(family) as other:
        try:
            other.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        other.listen()
        port = other.getsockname()[1]
        assert find_free_port(host, port) not in {0, port}
    assert find_free_port(host, port) == port


def test_port_zero_is_any_free_one():
    assert find_free_port("127.0.0.1", 0) > 0


def test_a_port_that_this_user_may_not_open_is_one_sentence(monkeypatch):
    def refused(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", refused)
    with pytest.raises(ConfigError, match=r"port is 80, which this user may not open.*above 1023"):
        find_free_port("127.0.0.1", 80)


def test_urls_of_both_protocols():
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert url_of("::1", 80) == "http://[::1]:80"


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_this_machine_is_reached_without_a_proxy_beside_what_was_excepted(name):
    for exceptions in past_proxies({name: "intranet,10.0.0.0/8"}).values():
        assert exceptions.startswith("intranet,10.0.0.0/8,127.0.0.1,localhost,::1")
    assert past_proxies({name: "*"}) == {"NO_PROXY": "*", "no_proxy": "*"}


def test_without_exceptions_of_the_users_ours_are_alone():
    for exceptions in past_proxies({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": ""}).values():
        assert exceptions.startswith("127.0.0.1,localhost,::1")
        assert "%" not in exceptions
