"""What both caches saved, by tenant and voice; adds up, and is written as rows of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cache_store.stats import OTHERS, Saved, Savings

OWNER_DIGITS = 16  # of a clip's owner: enough to tell voices apart, and no way back to a clip
CACHES = ("voices", "speech")

Row = list[str | int | float]
Name = tuple[str, str]  # namespace and owner


@dataclass(slots=True)
class Account:
    """Of any time. most: names told apart; what more there are is counted under OTHERS."""

    most: int
    rows: dict[Name, Mapping[str, Saved]] = field(default_factory=dict[Name, Mapping[str, Saved]])

    def take(self, cache: str, savings: Savings) -> None:
        """Add what one of CACHES counted."""
        for (namespace, owner), saved in savings.items():
            self._of((namespace, owner[:OWNER_DIGITS]))[cache].add(saved)

    def add(self, other: Account) -> None:
        """Add another time's, or another router's."""
        for name, row in other.rows.items():
            for cache, saved in row.items():
                self._of(name)[cache].add(saved)

    def total(self, cache: str) -> Saved:
        """Of all tenants and voices."""
        total = Saved()
        for row in self.rows.values():
            total.add(row[cache])
        return total

    def written(self) -> list[Row]:
        """For JSON."""
        return [
            [*name, *(number for cache in CACHES for number in _numbers(row[cache]))]
            for name, row in self.rows.items()
        ]

    @classmethod
    def read(cls, rows: object, most: int) -> Account:
        """Of what was written. Raises ValueError for what cannot be read."""
        account = cls(most)
        for namespace, owner, *numbers in _checked(rows):
            counts = iter(numbers)
            row = account._of((str(namespace), str(owner)))
            for cache in CACHES:
                hits, seconds, computes = (float(next(counts)) for _ in range(3))
                row[cache].add(Saved(int(hits), seconds, int(computes)))
        return account

    def _of(self, name: Name) -> Mapping[str, Saved]:
        if name not in self.rows and len(self.rows) >= self.most:
            name = OTHERS
        return self.rows.setdefault(name, {cache: Saved() for cache in CACHES})


def _numbers(saved: Saved) -> tuple[int, float, int]:
    return saved.hits, round(saved.seconds, 3), saved.computes


def _checked(rows: object) -> Iterator[list[str | int | float]]:
    width = 2 + 3 * len(CACHES)
    if not isinstance(rows, list):
        raise ValueError("an account is a list of rows")  # noqa: TRY004 - as of all it cannot read
    for row in rows:
        if not isinstance(row, list) or len(row) != width:
            raise ValueError(f"a row of an account has {width} entries")
        yield row
