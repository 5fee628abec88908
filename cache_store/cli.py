"""`timbre cache …`: inspect and maintain the voice cache.

Results go to stdout (one JSON document with --json), progress and messages to stderr.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import typer.core
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cache_store import maintenance
from cache_store.codec import EntryInfo, describe
from cache_store.copying import copy_objects, objects
from cache_store.errors import CacheError
from cache_store.maintenance import Filter, GcPolicy, Stored
from cache_store.store import BlobStore
from cache_store.warming import is_web_address, post_clip
from cache_store.workplace import OpenedStore, UsageError, open_workplace

EXIT_AWAY = 5  # the store does not answer; of the table in pipeline.cli, as all codes here
console = Console(stderr=True)


class _Commands(typer.core.TyperGroup):
    """Shows a store's error in one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CacheError as error:
            console.print(str(error), markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_AWAY) from error


app = typer.Typer(
    name="cache",
    help="Inspect and maintain the cache of voices, or with --speech that of finished speech.",
    no_args_is_help=True,
    cls=_Commands,
)
T = TypeVar("T")

Config = Annotated[
    Path | None,
    typer.Option(envvar="TIMBRE_CONFIG", help="Serve config whose `cache:` settings to use"),
]
Url = Annotated[
    str | None, typer.Option(envvar="TIMBRE_CACHE_URL", help="Directory or fsspec URL of the store")
]
Speech = Annotated[
    bool, typer.Option("--speech", help="The store of finished speech, which lies below")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document")]
Namespace = Annotated[str | None, typer.Option(help="Only this tenant's")]
Fingerprint = Annotated[str | None, typer.Option(help="Only this encoder's (first digits do)")]

_SIZE = re.compile(r"([0-9.]+)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


@app.command()
def stats(
    config: Config = None, url: Url = None, speech: Speech = False, as_json: AsJson = False
) -> None:
    """Count entries and bytes by kind, encoder and namespace."""
    opened = open_workplace(config, url, is_speech=speech)
    groups: dict[tuple[str, str, str], list[int]] = {}
    for stored in _watched(maintenance.scan(opened.store), "reading the list"):
        path = stored.path
        group = groups.setdefault((path.kind, path.fingerprint, path.namespace), [0, 0])
        group[0] += 1
        group[1] += stored.blob.size_bytes
    rows = [
        {"kind": kind, "fingerprint": print_, "namespace": namespace, "entries": n, "bytes": size}
        for (kind, print_, namespace), (n, size) in sorted(groups.items())
    ]
    entries = sum(count for count, _ in groups.values())
    total = sum(size for _, size in groups.values())
    document = {"url": opened.settings.url, "entries": entries, "bytes": total, "groups": rows}
    _show(rows, as_json, document)
    if not as_json:
        typer.echo(f"{entries} entries, {_size(total)} in {opened.settings.url}")


@app.command("ls")
def list_entries(
    config: Config = None,
    url: Url = None,
    speech: Speech = False,
    namespace: Namespace = None,
    fingerprint: Fingerprint = None,
    limit: Annotated[int, typer.Option(help="Most entries to list")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List entries, the most recently used first."""
    opened = open_workplace(config, url, is_speech=speech)
    wanted = Filter(None, namespace, fingerprint)
    found = list(_watched(maintenance.scan(opened.store, wanted), "reading the list"))
    found.sort(key=lambda stored: -stored.blob.modified_unix_s)
    rows = [{**asdict(stored.path), **asdict(stored.blob)} for stored in found[:limit]]
    _show(rows, as_json)


@app.command()
def inspect(
    entry: Annotated[str, typer.Argument(help="Digest (first digits do) or a file")],
    config: Config = None,
    url: Url = None,
    speech: Speech = False,
    as_json: AsJson = False,
) -> None:
    """Verify an entry and show its contents."""
    opened = open_workplace(config, url, is_speech=speech)
    file = Path(entry)
    limit = opened.settings.max_record_bytes
    try:
        if file.is_file():
            info = describe(file.read_bytes(), opened.keyring, limit)
        else:
            info = _described(opened, _found(opened.store, entry))
    except CacheError as error:
        console.print(f"{entry}: {error}")
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(asdict(info)))
        return
    typer.echo(f"key       {info.key}\nschema    {info.schema}\nsealed by {info.key_id}")
    for name, value in info.metadata.items():
        typer.echo(f"{name} = {value}")
    for name, (dtype, elements) in info.arrays.items():
        typer.echo(f"{name}: {elements} × {dtype}")


@app.command()
def verify(
    config: Config = None,
    url: Url = None,
    speech: Speech = False,
    sample: Annotated[float, typer.Option(min=0, max=1, help="Share of entries to read")] = 1.0,
    repair: Annotated[bool, typer.Option(help="Quarantine damaged entries")] = False,
    as_json: AsJson = False,
) -> None:
    """Read entries and check their digests; exits 1 if any is damaged."""
    opened = open_workplace(config, url, is_speech=speech)
    limit = opened.settings.max_record_bytes
    chosen = [s for s in maintenance.scan(opened.store) if random.random() < sample]  # noqa: S311
    counts = {"good": 0, "corrupt": 0, "unreadable": 0, "gone": 0}
    bad: list[dict[str, object]] = []
    for stored in _watched(chosen, "verifying"):
        verdict, reason, _ = maintenance.check(opened.store, stored, opened.keyring, limit)
        counts[verdict] += 1
        if verdict in ("corrupt", "unreadable"):
            bad.append({"path": stored.blob.path, "verdict": verdict, "reason": reason})
        if repair and verdict == "corrupt":
            maintenance.repair(opened.store, stored, limit)
    _show(bad, as_json, {**counts, "bad": bad, "repaired": repair})
    if not as_json:
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["corrupt"] and not repair:
        raise typer.Exit(1)


@app.command()
def gc(  # noqa: PLR0913, PLR0917 - a command's options
    config: Config = None,
    url: Url = None,
    speech: Speech = False,
    max_bytes: Annotated[str | None, typer.Option(help="Budget, such as 50GB")] = None,
    max_age_days: Annotated[float | None, typer.Option(help="Unused for longer go")] = None,
    keep_fingerprint: Annotated[
        list[str] | None, typer.Option(help="Encoders whose voices stay; those of others go")
    ] = None,
    dead_after_days: Annotated[float, typer.Option(help="But not used within these days")] = 14,
    apply: Annotated[bool, typer.Option(help="Delete; without it nothing is changed")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the garbage collector would delete; --apply deletes it."""
    opened = open_workplace(config, url, is_speech=speech)
    policy = GcPolicy(
        max_bytes=None if max_bytes is None else _bytes(max_bytes),
        max_age_s=None if max_age_days is None else max_age_days * maintenance.DAY_S,
        keep_fingerprints=tuple(keep_fingerprint) if keep_fingerprint else None,
        dead_after_s=dead_after_days * maintenance.DAY_S,
    )
    with console.status("reading the list"):
        candidates = maintenance.plan_collection(opened.store, policy)
    reasons: dict[str, dict[str, int]] = {}
    for one in candidates:
        group = reasons.setdefault(one.reason, {"objects": 0, "bytes": 0})
        group["objects"] += 1
        group["bytes"] += one.blob.size_bytes
    failed = 0
    if apply:
        _, _, failed = maintenance.collect(opened.store, _watched(candidates, "deleting"))
    rows: list[dict[str, object]] = [{"reason": name, **group} for name, group in reasons.items()]
    _show(rows, as_json, {"applied": apply, "failed": failed, "reasons": reasons})
    if not as_json:
        size = _size(sum(one.blob.size_bytes for one in candidates))
        verb = "deleted" if apply else "would go (--apply deletes)"
        typer.echo(f"{len(candidates) - failed} objects, {size} {verb}")
    if failed:
        console.print(f"{failed} objects could not be deleted")
        raise typer.Exit(1)


@app.command("rm")
def remove(
    entry: Annotated[str | None, typer.Argument(help="Digest (first digits do)")] = None,
    config: Config = None,
    url: Url = None,
    speech: Speech = False,
    namespace: Namespace = None,
    fingerprint: Fingerprint = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove an entry, a tenant's entries or an encoder's from the store.

    Running replicas keep their copies in memory until they restart.
    """
    opened = open_workplace(config, url, is_speech=speech)
    if entry is not None:
        chosen = [_found(opened.store, entry)]
    elif namespace is None and fingerprint is None:
        raise UsageError("say what: a digest, --namespace or --fingerprint")
    else:
        chosen = list(maintenance.scan(opened.store, Filter(None, namespace, fingerprint)))
    if not yes and not typer.confirm(f"Remove {len(chosen)} entries?", err=True):
        raise typer.Exit(1)
    for stored in _watched(chosen, "removing"):
        opened.store.delete(stored.blob.path)
    _say({"removed": len(chosen)}, as_json)


@app.command("export")
def export_archive(
    archive: Annotated[Path, typer.Argument(help="The tar file to write")],
    config: Config = None,
    url: Url = None,
    speech: Speech = False,
    namespace: Namespace = None,
    fingerprint: Fingerprint = None,
    as_json: AsJson = False,
) -> None:
    """Write entries into a tar file."""
    opened = open_workplace(config, url, is_speech=speech)
    chosen = maintenance.scan(opened.store, Filter(None, namespace, fingerprint))
    limit = opened.settings.max_record_bytes
    watched = _watched(chosen, "exporting")
    _say({"exported": maintenance.export_entries(opened.store, watched, archive, limit)}, as_json)


@app.command("import")
def import_archive(
    archive: Annotated[Path, typer.Argument(help="A tar file of `export`")],
    config: Config = None,
    url: Url = None,
    speech: Speech = False,
    as_json: AsJson = False,
) -> None:
    """Publish the entries of a tar file; exits 1 if some were refused."""
    opened = open_workplace(config, url, is_speech=speech)
    limit = opened.settings.max_record_bytes
    with console.status("importing"):
        new, known, refused = maintenance.import_entries(
            opened.store, archive, opened.keyring, limit
        )
    _say({"imported": new, "known": known, "refused": refused}, as_json)
    if refused:
        raise typer.Exit(1)


@app.command("copy")
def copy_store(
    to: Annotated[str, typer.Option("--to", help="Directory or fsspec URL of the other store")],
    config: Config = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Copy a whole store into another: voices, speech, keys, jobs. Again, to bring what is new."""
    source, target = (open_workplace(config, one, is_speech=False).store for one in (url, to))
    chosen = _watched(list(objects(source)), "copying")
    _say(asdict(copy_objects(source, target, chosen)), as_json)


@app.command()
def warm(
    clips: Annotated[list[Path], typer.Argument(help="Audio files or directories of them")],
    server: Annotated[
        str, typer.Option(envvar="TIMBRE_URL", help="The service")
    ] = "http://127.0.0.1:8000",
    api_key: Annotated[str | None, typer.Option(envvar="TIMBRE_API_KEY", help="Its key")] = None,
    as_json: AsJson = False,
) -> None:
    """Have the service encode clips and store them durably; exits 1 if some failed."""
    if not is_web_address(server):
        raise UsageError(f"{server} is no http or https URL")
    nested = (sorted(clip.rglob("*")) if clip.is_dir() else [clip] for clip in clips)
    files = [file for group in nested for file in group if file.is_file()]
    rows = [
        {"file": str(file), **post_clip(server, file.read_bytes(), api_key)}
        for file in _watched(files, "warming")
    ]
    _show(rows, as_json)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


@app.command()
def doctor(
    config: Config = None, url: Url = None, speech: Speech = False, as_json: AsJson = False
) -> None:
    """Try every operation of a replica on the store; exits 1 if one fails."""
    opened = open_workplace(config, url, is_speech=speech)
    findings = list(maintenance.examine(opened.store, opened.keyring))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    for finding in [] if as_json else findings:
        mark = "ok  " if finding.is_good else "LOOK"
        typer.echo(f"{mark} {finding.step:<12} {finding.took_s * 1e3:7.1f} ms  {finding.says}")
    works = [finding.is_good for finding in findings if finding.step != "sealing key"]
    if not all(works):
        raise typer.Exit(1)


def _found(store: BlobStore, digest: str) -> Stored:
    try:
        stored = maintenance.find(store, digest)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if stored is None:
        raise UsageError(f"no entry starts with {digest}")
    return stored


def _described(opened: OpenedStore, stored: Stored) -> EntryInfo:
    limit = opened.settings.max_record_bytes
    data = opened.store.get(stored.blob.path, limit)
    return describe(data or b"", opened.keyring, limit)


def _watched(items: Iterable[T], what: str) -> Iterator[T]:
    """The items, with a progress bar on stderr while a person is watching."""
    yield from track(items, what, console=console, transient=True, disable=not console.is_terminal)


def _say(numbers: dict[str, int], as_json: bool) -> None:
    text = ", ".join(f"{name} {number}" for name, number in numbers.items())
    typer.echo(json.dumps(numbers) if as_json else text)


def _show(rows: Sequence[Mapping[str, object]], as_json: bool, document: object = None) -> None:
    """Rows as a table, or the document (or the rows) as JSON."""
    if as_json:
        typer.echo(json.dumps(rows if document is None else document))
        return
    if not rows:
        return
    table = Table(*rows[0].keys(), box=None)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=200, soft_wrap=True).print(table)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - decimal units
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no size; write 500MB or 20GiB")
    number, unit, binary = found.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** " KMGT".index(unit.upper() or " "))
