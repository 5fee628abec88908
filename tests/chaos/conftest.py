"""Chaos tests share the serve tier's service fixture, in a service of their own."""

from tests.serve.conftest import client

__all__ = ["client"]
