"""All guards that have a mutation, room by room."""

from __future__ import annotations

from tests.mutations import access, edges, files, kept, marks, network, quotas, requests

GUARDS = (
    *requests.GUARDS,
    *access.GUARDS,
    *quotas.GUARDS,
    *marks.GUARDS,
    *files.GUARDS,
    *kept.GUARDS,
    *network.GUARDS,
    *edges.GUARDS,
)
BY_NAME = {guard.name: guard for guard in GUARDS}
