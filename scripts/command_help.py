"""docs/commands.md: every command's own `--help`, so that the page cannot lie."""

from __future__ import annotations

import os
import subprocess
import sys

HEAD = "# Commands\n\nGenerated from `tokprof … --help`.\n"


def command_help() -> str:
    from tokprof.cli import build_app

    app = build_app()
    names = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)
    parts = [HEAD, _block([])]
    parts += [f"## tokprof {name}\n\n{_block([name])}" for name in names]
    return "\n".join(parts)


def _block(arguments: list[str]) -> str:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    result = subprocess.run(
        [sys.executable, "-m", "tokprof", *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    lines = [line.rstrip() for line in result.stdout.strip("\n").splitlines()]
    return "```text\n" + "\n".join(lines).strip("\n") + "\n```\n"
