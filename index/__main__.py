"""`python -m index COMMAND`: rebuild, compact, tune, list, verify, activate, roll back and prune generations."""

from __future__ import annotations

import typer

from index.commands.activate import activate
from index.commands.compact import compact
from index.commands.list import list_
from index.commands.prune import prune
from index.commands.rebuild import rebuild
from index.commands.rollback import rollback
from index.commands.tune import tune
from index.commands.verify import verify

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command("rebuild")(rebuild)
app.command("compact")(compact)
app.command("tune")(tune)
app.command("list")(list_)
app.command("verify")(verify)
app.command("activate")(activate)
app.command("rollback")(rollback)
app.command("prune")(prune)

if __name__ == "__main__":
    app()
