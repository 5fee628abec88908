"""Guards of keys, tokens and tenants: who is let in, and whose what is kept is."""

from __future__ import annotations

from tests.mutations.guard import Guard

_GUARD = "deployments/http/keys/guard.py"
_CREDENTIALS = "deployments/http/keys/credentials.py"
_BOOK = "deployments/keys/book.py"
_DESK = "deployments/keys/desk.py"
_TOKENS = "deployments/keys/tokens.py"
_T_GUARD = "deployments/http/keys/test_guard.py"
_T_DESK = "deployments/keys/test_desk.py"
_T_TOKENS = "deployments/keys/test_tokens.py"
_T_TENANTS = "deployments/http/keys/test_two_tenants.py"

GUARDS = (
    Guard(
        "every address but health needs a key",
        _GUARD,
        "        if key is None:\n            raise NoKeyError(MISSING)\n",
        "        if key is None:\n            return NOBODY\n",
        (
            f"{_T_GUARD}::test_every_address_needs_a_key",
            f"{_T_GUARD}::test_a_websocket_needs_a_key_in_its_handshake",
        ),
    ),
    Guard(
        "a key opens what its scopes say",
        _GUARD,
        "if not door.is_open and not door.lets_in(caller):",
        "if False:",
        (f"{_T_GUARD}::test_without_its_scope_a_route_is_forbidden_and_says_which",),
    ),
    Guard(
        "a route that nobody listed is an operator's",
        "deployments/http/keys/doors.py",
        "method, path), ADMIN)",
        "method, path), ANY_KEY)",
        (f"{_T_GUARD}::test_a_route_that_is_not_listed_is_an_operators",),
    ),
    Guard(
        "an operator's key leaves no speech unmarked",
        "deployments/access/caller.py",
        "return Scope.ADMIN in self.scopes and scope is not Scope.UNMARKED",
        "return Scope.ADMIN in self.scopes",
        (f"{_T_GUARD}::test_admin_may_what_all_others_do_but_leave_speech_unmarked",),
    ),
    Guard(
        "without keys a service answers its own machine",
        _GUARD,
        "if not is_here and not _door_at(scope).is_open:",
        "if False:",
        (f"{_T_GUARD}::test_without_keys_only_this_machine_is_answered",),
    ),
    Guard(
        "two keys that differ are none",
        _CREDENTIALS,
        "    if len(found) > 1:\n",
        "    if False:\n",
        (f"{_T_GUARD}::test_keys_that_differ_are_refused",),
    ),
    Guard(
        "a key is known by a digest",
        "deployments/keys/secrets.py",
        "return blake2b(key.encode(), digest_size=32, person=_PURPOSE).hexdigest()",
        "return key",
        (
            f"{_T_DESK}::test_a_key_is_known_by_a_digest_that_does_not_hold_it",
            f"{_T_DESK}::test_the_store_has_no_secret",
        ),
    ),
    Guard(
        "a key's id is an id and no path",
        "deployments/keys/secrets.py",
        "return _ID.fullmatch(text) is not None",
        "return True",
        (f"{_T_DESK}::test_an_id_that_no_key_has",),
    ),
    Guard(
        "a key that is over opens nothing",
        _BOOK,
        "if key_id is None or state is None or not state.opens(key, time.time()):",
        "if key_id is None or state is None:",
        (
            f"{_T_DESK}::test_a_revoked_key_is_refused_after_a_look_for_good",
            f"{_T_DESK}::test_a_key_ends_when_it_expires",
        ),
    ),
    Guard(
        "an outage is bounded",
        _BOOK,
        "        if time.monotonic() - self._seen_s > self._outage_s:\n            return None\n",
        "",
        (f"{_T_DESK}::test_an_outage_is_bounded",),
    ),
    Guard(
        "unknown keys wait in a short line",
        _BOOK,
        "if self._n_waiting >= MAX_WAITING:",
        "if False:",
        (f"{_T_DESK}::test_a_flood_of_unknown_keys_looks_seldom_and_waits_in_a_short_line",),
    ),
    Guard(
        "there are so many keys",
        _DESK,
        "if len(await self.numbers()) >= self._max_keys:",
        "if False:",
        (f"{_T_DESK}::test_there_is_a_bound_of_keys",),
    ),
    Guard(
        "a token is of the issuer",
        _TOKENS,
        "                issuer=self._settings.issuer,\n",
        "",
        (f"{_T_TOKENS}::test_what_does_not_count_is_refused",),
    ),
    Guard(
        "a token is for this service",
        _TOKENS,
        "audience=self._settings.audience,",
        'audience=jwt.decode(token, options={"verify_signature": False}).get("aud"),',
        (f"{_T_TOKENS}::test_what_does_not_count_is_refused",),
    ),
    Guard(
        "a token gives what the settings let it",
        _TOKENS,
        "return frozenset(scope for scope in self._settings.grants if",
        "return frozenset(scope for scope in Scope if",
        (f"{_T_TOKENS}::test_admin_is_given_only_where_the_settings_say",),
    ),
)
