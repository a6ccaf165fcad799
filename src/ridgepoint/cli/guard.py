"""What a command answers when something is wrong: a sentence (or a JSON document) and an exit code, no traceback."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from ridgepoint.cli.output import ARGUMENTS
from ridgepoint.errors import RidgepointError

WRONG_INPUT, INTERNAL, INTERRUPTED = 2, 70, 130


class Program(TyperGroup):
    """The ``ridgepoint`` command: runs a subcommand and turns every failure into design §10's answer."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the placeholder of the command that is asked for by the command itself."""
        if args and args[0] in self.commands:
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, answer, exit."""
        given = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in given
        ARGUMENTS.set(tuple(given))
        _print_anything()
        try:
            code = super().main(given, prog_name or "ridgepoint", complete_var, False, windows_expand_args, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            code = _quiet_pipe()
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except RidgepointError as error:
            code = refuse(error, as_json)
        except typer.TyperException as error:
            code = refuse(usage_error(error), as_json)
        except OSError as error:
            code = refuse(
                RidgepointError("bad_file", f"{error.filename or 'file'}: {error.strerror or error}"), as_json
            )
        except Exception as error:
            code = _internal(error, as_json)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def load(name: str) -> Any:
    """The command of that name: its module's ``app``, or the function of the same name."""
    module = import_module(f"ridgepoint.cli.{name}")
    found = getattr(module, "app", None)
    if found is None:
        found = typer.Typer(add_completion=False, rich_markup_mode="rich")
        found.command(name)(getattr(module, name))
    command = get_command(found)
    command.name = name
    return command


def _print_anything() -> None:
    """A terminal that cannot show a character gets a question mark instead of an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def usage_error(error: typer.TyperException) -> RidgepointError:
    """What the option parser refused, as one of our errors."""
    format_message = getattr(error, "format_message", None)
    message = " ".join((format_message() if format_message else str(error)).split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "ridgepoint"
    return RidgepointError("bad_usage", message[:1].lower() + message[1:], f"`{command} --help` shows what it takes")


def refuse(error: RidgepointError, as_json: bool) -> int:
    """Say what is wrong: the error envelope on stdout, or one sentence on stderr."""
    if as_json:
        print(json.dumps({"error": error.to_dict()}, ensure_ascii=False))
    else:
        print(f"ridgepoint: {error}", file=sys.stderr)
    return WRONG_INPUT


def _internal(error: Exception, as_json: bool) -> int:
    """A defect of ours: said as such, with the traceback for those who ask for it."""
    if os.environ.get("RIDGEPOINT_DEBUG"):
        traceback.print_exc()
    problem = f"{type(error).__name__}: {error}"
    refuse(RidgepointError("internal", f"this is a defect: {problem}", "RIDGEPOINT_DEBUG=1 shows where"), as_json)
    return INTERNAL


def _quiet_pipe() -> int:
    """The reader is gone (``| head``): say nothing, and keep the interpreter from flushing into the closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
