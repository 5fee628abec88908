"""Guards of Serve's proxy, and of clips that are fetched."""

from __future__ import annotations

from tests.mutations.guard import Guard

_CLIPS = "deployments/outbound/clips.py"
_T_CLIPS = "deployments/outbound/test_clips.py"
_T_INLET = "deployments/http/inlet/test_inlet.py"
_ROOM = "deployments/http/inlet/room.py"

GUARDS = (
    Guard(
        "no caller's header gives the proxy orders",
        "deployments/http/inlet/controls.py",
        "return name in self._obeyed or name.startswith(ROUTING_PREFIX)",
        "return False",
        (f"{_T_INLET}::test_what_the_proxy_obeys_is_taken_from_callers",),
    ),
    Guard(
        "the proxy's page of applications is nobody's",
        "deployments/http/inlet/pages.py",
        "            if path[len(root) :] == ROUTES:\n",
        "            if False:\n",
        (f"{_T_INLET}::test_the_proxys_page_of_applications_is_nobodys",),
    ),
    Guard(
        "a head that does not come is given up",
        "deployments/http/inlet/patience.py",
        "        self._deadline = self.loop.call_later(for_s, self._give_up)\n",
        "",
        (
            f"{_T_INLET}::test_a_head_that_does_not_come_is_given_up",
            f"{_T_INLET}::test_the_rest_of_an_answered_body_is_not_waited_for",
        ),
    ),
    Guard(
        "who takes nothing of a reply is given up",
        "deployments/http/inlet/patience.py",
        "            self._not_taken = self.loop.call_later(TAKE_S, self.transport.abort)\n",
        "            pass\n",
        (f"{_T_INLET}::test_who_takes_nothing_of_a_reply_is_given_up",),
    ),
    Guard(
        "a body comes at a pace",
        "deployments/http/bodies/pace.py",
        "return min(self._pace.silence_s, due_s - time.monotonic())",
        "return 3_600.0",
        (f"{_T_INLET}::test_a_body_that_is_too_slow_is_a_408",),
    ),
    Guard(
        "bodies on their way fit the proxy",
        _ROOM,
        "if n_bytes and self._room.held_bytes + n_bytes > most_bytes:",
        "if False:",
        (f"{_T_INLET}::test_bodies_on_their_way_have_a_room_together",),
    ),
    Guard(
        "a clip is fetched with nothing of ours",
        _CLIPS,
        "            trust_env=False,\n",
        "            trust_env=True,\n",
        (f"{_T_CLIPS}::test_a_clip_is_fetched_with_nothing_of_ours",),
    ),
    Guard(
        "every redirect is checked",
        _CLIPS,
        "            follow_redirects=False,\n",
        "            follow_redirects=True,\n",
        (f"{_T_CLIPS}::test_a_redirect_leads_nowhere_else",),
    ),
    Guard(
        "there are so many redirects",
        _CLIPS,
        "for _ in range(self._settings.max_redirects + 1):",
        "for _ in range(99):",
        (f"{_T_CLIPS}::test_only_so_many",),
    ),
    Guard(
        "a clip that is fetched is audio",
        _CLIPS,
        "if kind and not kind.startswith(KINDS):",
        "if False:",
        (f"{_T_CLIPS}::test_what_is_no_clip_is_refused",),
    ),
    Guard(
        "a clip that is fetched has a size",
        _CLIPS,
        "        if n_bytes > self._settings.max_bytes:\n",
        "        if False:\n",
        (f"{_T_CLIPS}::test_a_clip_without_an_end_is_cut_off",),
    ),
    Guard(
        "a host that is slow is given up",
        _CLIPS,
        "async with asyncio.timeout(self._settings.total_s):",
        "async with asyncio.timeout(600):",
        (f"{_T_CLIPS}::test_a_slow_host_is_given_up",),
    ),
    Guard(
        "so many clips are fetched at a time",
        _CLIPS,
        "if self._at_work >= self._settings.at_once:",
        "if False:",
        (f"{_T_CLIPS}::test_so_many_at_once",),
    ),
    Guard(
        "a metadata service is never asked",
        "deployments/outbound/addresses.py",
        "if _is_metadata(address) or not (is_public(address) or is_allowed):",
        "if not (is_public(address) or is_allowed):",
        (f"{_T_CLIPS}::test_a_metadata_service_is_refused_even_where_somebody_lists_it",),
    ),
)
