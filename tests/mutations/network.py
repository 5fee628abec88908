"""Guards of addresses: whom the service connects to, and who connects to it."""

from __future__ import annotations

from tests.mutations.guard import Guard

_ADDRESSES = "deployments/outbound/addresses.py"
_WEBHOOKS = "deployments/jobs/webhooks.py"
_T_ADDRESSES = "deployments/outbound/test_addresses.py"
_T_WEBHOOKS = "deployments/jobs/test_webhooks.py"

GUARDS = (
    Guard(
        "the service connects to hosts that are allowed",
        _ADDRESSES,
        "if not self._names(parts.hostname, port, parts.scheme):",
        "if False:",
        (
            f"{_T_ADDRESSES}::test_what_is_not_allowed_by_its_name",
            f"{_T_WEBHOOKS}::test_an_address_that_is_not_allowed_is_refused_at_once",
        ),
    ),
    Guard(
        "an address has a scheme that is served",
        _ADDRESSES,
        "if parts.scheme not in PORTS or not parts.hostname:",
        "if not parts.hostname:",
        (f"{_T_ADDRESSES}::test_what_is_not_allowed_by_its_name",),
    ),
    Guard(
        "an address carries no password",
        _ADDRESSES,
        "if parts.username is not None or parts.password is not None:",
        "if False:",
        (f"{_T_ADDRESSES}::test_what_is_not_allowed_by_its_name",),
    ),
    Guard(
        "a name that means a private address is refused",
        _ADDRESSES,
        "if _is_metadata(address) or not (is_public(address) or is_allowed):",
        "if _is_metadata(address):",
        (f"{_T_ADDRESSES}::test_a_name_that_means_a_private_address",),
    ),
    Guard(
        "a private address within an IPv6 one is seen",
        _ADDRESSES,
        "        if (inner := _carried(address)) is not None:\n"
        "            return is_public(inner)\n",
        "",
        (f"{_T_ADDRESSES}::test_private_addresses_in_other_clothes",),
    ),
    Guard(
        "what was checked is what is connected to",
        _ADDRESSES,
        'return parts._replace(netloc=f"{shown}:{self.port}", fragment="").geturl()',
        "return self.url",
        (f"{_T_ADDRESSES}::test_an_allowed_host_is_pinned_to_what_was_checked",),
    ),
    Guard(
        "a webhook is signed",
        _WEBHOOKS,
        "            SIGNATURE: signature(secret, int(time.time()), body),\n",
        "",
        (f"{_T_WEBHOOKS}::test_an_end_is_told_signed_and_again_until_it_is_heard",),
    ),
    Guard(
        "a webhook's signature covers its time",
        _WEBHOOKS,
        'signed = f"{at_unix_s}.".encode() + body',
        "signed = body",
        (f"{_T_WEBHOOKS}::test_an_end_is_told_signed_and_again_until_it_is_heard",),
    ),
    Guard(
        "nothing is told unsigned",
        _WEBHOOKS,
        "    if not os.environ.get(settings.webhook_secret_env):\n",
        "    if False:\n",
        (f"{_T_WEBHOOKS}::test_nothing_is_told_unsigned",),
    ),
    Guard(
        "a webhook follows no redirect",
        _WEBHOOKS,
        "follow_redirects=False,",
        "follow_redirects=True,",
        (f"{_T_WEBHOOKS}::test_an_end_is_told_signed_and_again_until_it_is_heard",),
    ),
    Guard(
        "a local service listens to its own machine",
        "deployments/local/address.py",
        'if ipaddress.ip_address(str(ip).partition("%")[0]).is_unspecified:',
        "if False:",
        ("deployments/local/test_address.py::test_all_interfaces_are_refused",),
    ),
    Guard(
        "Ray asks for a token",
        "deployments/local/ray_token.py",
        "mode = environment.get(MODE) or ON",
        "mode = environment.get(MODE) or OFF",
        (
            "deployments/local/test_ray_token.py::"
            "test_unless_told_ray_asks_for_the_token_of_rays_own_commands",
        ),
    ),
    Guard(
        "the token is its user's alone",
        "deployments/local/ray_token.py",
        "return os.open(path, flags, mode=0o600)",
        "return os.open(path, flags, mode=0o644)",
        (
            "deployments/local/test_ray_token.py::"
            "test_unless_told_ray_asks_for_the_token_of_rays_own_commands",
        ),
    ),
    Guard(
        "a mode that Ray would take for off is refused",
        "deployments/local/ray_token.py",
        "    if mode.lower() != ON:\n",
        "    if False:\n",
        (
            "deployments/local/test_ray_token.py::"
            "test_a_mode_that_ray_would_take_for_off_is_refused",
        ),
    ),
    Guard(
        "a setting that is none stops the start",
        "deployments/config/section.py",
        'extra="forbid"',
        'extra="ignore"',
        (
            "deployments/config/test_settings.py::"
            "test_an_unknown_key_is_refused_and_the_valid_ones_are_listed",
        ),
    ),
)
