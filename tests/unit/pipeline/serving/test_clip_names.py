"""Names of clips by tenant."""

from __future__ import annotations

import pytest

from pipeline.serving.clip_names import clip_name, digest_of, tenant_of

pytestmark = pytest.mark.unit
CLIP = "ab" * 32


@pytest.mark.parametrize("tenant", [None, "", "shared"])
def test_the_usual_tenants_clips_have_their_digest(tenant):
    name = clip_name(CLIP, tenant, "shared")
    assert (name, tenant_of(name), digest_of(name)) == (CLIP, "", CLIP)


def test_another_tenants_have_both():
    name = clip_name(CLIP, "acme", "shared")
    assert (tenant_of(name), digest_of(name)) == ("acme", CLIP)
    assert clip_name(CLIP, "other", "shared") != name


def test_no_clip_has_no_name():
    assert clip_name("", "acme", "shared") == ""
