"""All guards that have a mutation, room by room."""

from __future__ import annotations

from tests.mutations import files, kept, network, requests

GUARDS = (*requests.GUARDS, *files.GUARDS, *kept.GUARDS, *network.GUARDS)
BY_NAME = {guard.name: guard for guard in GUARDS}
