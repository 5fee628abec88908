"""The `timbre` command: its root is the pipeline's, a line here for each command or group."""

from __future__ import annotations

import typer

from deployments.commands import checks, edit, jobs, local, plan, say, voices
from deployments.commands.late import CacheGroup
from deployments.keys.commands import app as keys_app
from pipeline.cli import app

SPEECH, HERE, CARE = "Speech", "A service on this machine", "Looking after it"

app.command("say", rich_help_panel=SPEECH)(say.speech)
app.command("edit", rich_help_panel=SPEECH)(edit.edit)
app.add_typer(voices.app, name="voices", rich_help_panel=SPEECH)
app.add_typer(jobs.app, name="jobs", rich_help_panel=SPEECH)
app.command("verify", rich_help_panel=SPEECH)(checks.verify)
app.command("serve", rich_help_panel=HERE)(local.serve)
app.command("up", rich_help_panel=HERE)(local.up)
app.command("status", rich_help_panel=HERE)(local.status)
app.command("logs", rich_help_panel=HERE)(local.logs)
app.command("down", rich_help_panel=HERE)(local.down)
app.command("demo", rich_help_panel=HERE)(local.demo)
app.command("doctor", rich_help_panel=CARE)(checks.doctor)
app.command("lint", rich_help_panel=CARE)(checks.lint)
app.command("bench", rich_help_panel=CARE)(checks.bench)
app.command("plan", rich_help_panel=CARE)(plan.plan)
app.add_typer(
    typer.Typer(cls=CacheGroup, no_args_is_help=True),
    name="cache",
    rich_help_panel=CARE,
    help="Inspect and maintain the cache of voices, or with --speech that of finished speech.",
)
app.add_typer(
    keys_app, name="keys", rich_help_panel=CARE, help="Make, list, rotate and revoke API keys."
)

__all__ = ["app"]
