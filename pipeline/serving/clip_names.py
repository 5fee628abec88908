"""How stages name what they keep of a clip: by its tenant too, so that none meets another's.

A clip that two tenants have is computed for each: that it is known would tell, by the time it
takes, that the other has it.
"""

from __future__ import annotations

_BETWEEN = ":"  # stands in neither


def clip_name(clip_digest: str, tenant: str | None, usual: str) -> str:
    """Of a tenant's clip; the usual tenant's have their digest as it is. Empty for no clip."""
    if not clip_digest or tenant in {None, "", usual}:
        return clip_digest
    return f"{tenant}{_BETWEEN}{clip_digest}"


def tenant_of(name: str) -> str:
    """Whose the clip is; empty for the usual tenant's."""
    return name.rpartition(_BETWEEN)[0]


def digest_of(name: str) -> str:
    """Of the clip."""
    return name.rpartition(_BETWEEN)[2]
