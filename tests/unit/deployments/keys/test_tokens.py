"""Tokens of an identity provider: which count, whom they name, and what becomes of the others."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from deployments.access.caller import Caller, Scope
from deployments.config.access.access_settings import OidcSettings
from deployments.keys import tokens as tokens_module
from deployments.keys.tokens import Tokens
from pipeline.errors import StageUnavailableError, UnauthenticatedError

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]
SETTINGS = OidcSettings(
    issuer="https://id.example", audience="timbre", jwks_url="https://id.example/keys"
)
SIGNER = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
RSA_SIGNER = rsa.generate_private_key(65_537, 2_048)


def shown(key: Any, key_id: str) -> dict[str, Any]:
    """A public key as a provider shows it."""
    algorithm = jwt.algorithms.RSAAlgorithm if key is RSA_SIGNER else jwt.algorithms.ECAlgorithm
    public = json.loads(algorithm.to_jwk(key.public_key()))
    return {**public, "kid": key_id, "use": "sig"}


class Provider:
    """Shows its keys; counts how often it was asked."""

    def __init__(self) -> None:
        self.keys = [shown(SIGNER, "one"), shown(RSA_SIGNER, "two")]
        self.asked = 0
        self.is_away = False

    def fetch_data(self) -> Any:
        self.asked += 1
        if self.is_away:
            raise jwt.PyJWKClientConnectionError("away")
        return {"keys": self.keys}


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def tokens(provider) -> Tokens:
    return Tokens(SETTINGS, 600.0, provider)


def signed(
    key: Any = SIGNER, algorithm: str = "ES256", head: dict[str, Any] | None = None, **claims: Any
) -> str:
    now_s = int(time.time())
    usual = {
        "iss": "https://id.example",
        "aud": "timbre",
        "sub": "zoe",
        "exp": now_s + 600,
        "iat": now_s,
        "timbre_tenant": "museum",
        "scope": "openid timbre:speak timbre:jobs timbre:admin timbre:levitate",
    }
    whole = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(whole, key, algorithm, headers={"kid": "one", **(head or {})})


async def test_a_token_names_a_tenant_and_scopes(tokens, provider):
    caller = await tokens.caller(signed())
    assert caller == Caller("museum", caller.key_id, frozenset({Scope.SPEAK, Scope.JOBS}))
    assert caller.key_id.startswith("jwt_")
    assert (await tokens.caller(signed(sub="max"))).key_id != caller.key_id
    listed = await tokens.caller(signed(scope=["timbre:voices"], aud=["other", "timbre"]))
    assert listed.scopes == {Scope.VOICES}
    by_rsa = await tokens.caller(signed(RSA_SIGNER, "RS256", {"kid": "two"}))
    assert by_rsa.namespace == "museum"
    assert provider.asked == 1


async def test_admin_is_given_only_where_the_settings_say(provider):
    settings = SETTINGS.model_copy(update={"grants": (Scope.ADMIN,)})
    assert (await Tokens(settings, 600.0, provider).caller(signed())).scopes == {Scope.ADMIN}


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"nbf": int(time.time()) + 600},
        {"sub": None},
        {"timbre_tenant": None},
        {"timbre_tenant": "../shared"},
        {"timbre_tenant": ["museum"]},
        {"timbre_tenant": ""},
        {"key": STRANGER},
        {"head": {"kid": "two"}},
        {"head": {"kid": "unknown"}},
        {"key": RSA_SIGNER, "algorithm": "PS256", "head": {"kid": "two"}},
        {"key": "a secret of 32 characters or more", "algorithm": "HS256"},
        {"key": None, "algorithm": "none"},
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_what_does_not_count_is_refused(tokens, changes):
    with pytest.raises(UnauthenticatedError):
        await tokens.caller(signed(**changes))


@pytest.mark.parametrize("token", ["a.b.c", "..", "é.b.c", f"{'a' * 9_000}.b.c"])
async def test_what_is_no_token_is_refused(tokens, token):
    with pytest.raises(UnauthenticatedError):
        await tokens.caller(token)


async def test_a_changed_token_is_refused(tokens):
    head, body, signature = signed().split(".")
    other = signed(timbre_tenant="palace").split(".")[1]
    with pytest.raises(UnauthenticatedError):
        await tokens.caller(f"{head}.{other}.{signature}")
    with pytest.raises(UnauthenticatedError):
        await tokens.caller(f"{head}.{body}.")


async def test_clocks_may_differ_by_the_leeway(tokens):
    assert await tokens.caller(signed(exp=int(time.time()) - 15))


async def test_a_new_key_of_the_provider_is_looked_for_but_seldom(tokens, provider, monkeypatch):
    await tokens.caller(signed())
    for _ in range(5):
        with pytest.raises(UnauthenticatedError):
            await tokens.caller(signed(STRANGER, head={"kid": "three"}))
    assert provider.asked == 1
    provider.keys.append(shown(STRANGER, "three"))
    monkeypatch.setattr(tokens_module, "AGAIN_S", 0.0)
    assert await tokens.caller(signed(STRANGER, head={"kid": "three"}))
    assert provider.asked == 2


async def test_a_provider_that_is_away(provider, monkeypatch):
    monkeypatch.setattr(tokens_module, "AGAIN_S", 0.0)
    settings = SETTINGS.model_copy(update={"fresh_s": 0.0001})
    known, unknown = Tokens(settings, 600.0, provider), Tokens(settings, 600.0, provider)
    assert await known.caller(signed())
    provider.is_away = True
    assert await known.caller(signed())
    with pytest.raises(StageUnavailableError):
        await unknown.caller(signed())


@pytest.mark.parametrize("answer", [{}, [], "x", {"keys": []}, {"keys": [{"kty": "oct"}]}])
async def test_a_provider_that_shows_nonsense(provider, answer):
    tokens = Tokens(SETTINGS, 600.0, provider)
    provider.fetch_data = lambda: answer
    with pytest.raises(StageUnavailableError):
        await tokens.caller(signed())
