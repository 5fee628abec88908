"""Guards of what a tenant or a key may use."""

from __future__ import annotations

from tests.mutations.guard import Guard

_T_QUOTAS = "deployments/http/quotas/test_quotas.py"
_T_FLEET = "deployments/quotas/test_fleet.py"

GUARDS = (
    Guard(
        "requests over a quota are refused",
        "deployments/http/quotas/middleware.py",
        "                reply.charge = await spending.request()\n",
        "                reply.charge = Charge()\n",
        (
            f"{_T_QUOTAS}::test_what_is_left_is_told_and_what_is_over_refused",
            f"{_T_QUOTAS}::test_every_door_is_counted_and_charged",
        ),
    ),
    Guard(
        "audio is charged as it is sent",
        "deployments/quotas/spending.py",
        "        self._untold += amount\n",
        "",
        (f"{_T_QUOTAS}::test_seconds_of_audio_are_charged_as_they_are_sent",),
    ),
    Guard(
        "a key's quota counts beside its tenant's",
        "deployments/quotas/gate.py",
        "        if caller.key_id:\n",
        "        if False:\n",
        (f"{_T_QUOTAS}::test_a_request_needs_room_under_its_tenants_quota_and_its_keys",),
    ),
    Guard(
        "without the cluster's book a router gives its share",
        "deployments/quotas/purse.py",
        "share = max(self.limit / n_routers, 1.0)",
        "share = self.limit",
        (f"{_T_FLEET}::test_without_the_book_each_router_has_its_share_for_a_while",),
    ),
    Guard(
        "what is over a quota is owed",
        "deployments/quotas/window.py",
        "        self._owed += amount - fits\n",
        "",
        (
            "deployments/quotas/test_window.py::test_what_is_over_the_limit_is_owed_and_paid_as_room_comes_free",
        ),
    ),
)
