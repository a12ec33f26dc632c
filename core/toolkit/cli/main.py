"""The command `toolkit`: verbs put together, errors turned into two lines and an exit code."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence

import click
import typer

from toolkit import __version__
from toolkit.cli import (
    access,
    audit,
    bundle,
    data,
    deploy,
    doctor,
    evaluate,
    grant,
    install,
    keys,
    new,
    plan,
    plugins,
    report,
    rollback,
    runs,
    serve,
    site,
    status,
    targets,
    teachers,
    verify,
)
from toolkit.errors import ToolkitError

BUG = 1
INTERRUPTED = 130

DISTIL, LOOK, SEAL, SITE = "Distil and deploy", "Look around", "Keys and bundles", "On a site"


def build_app() -> typer.Typer:
    """The command line: one file a verb."""
    app = typer.Typer(
        name="toolkit",
        help="Distil a large teacher into a small student, prove it, seal it, and serve it on your own premises.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    verbs = {
        DISTIL: (deploy.deploy, plan.plan, evaluate.evaluate, report.report, runs.runs),
        LOOK: (teachers.teachers, targets.targets, plugins.plugins, doctor.doctor),
        SEAL: (grant.grant, verify.verify),
        SITE: (install.install, rollback.rollback, serve.serve, status.status),
    }
    for panel, functions in verbs.items():
        for function in functions:
            app.command(rich_help_panel=panel)(function)
    groups = {LOOK: (data, new), SEAL: (keys, bundle), SITE: (site, audit, access)}
    for panel, modules in groups.items():
        for module in modules:
            app.add_typer(module.app, name=module.__name__.rpartition(".")[2], rich_help_panel=panel)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"toolkit {__version__}\n")
        raise typer.Exit


def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Print the traceback of an error."),
) -> None:
    """Distil a large teacher into a small student, prove it, seal it, and serve it on your own premises."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and leave with the documented exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    as_json, debug = "--json" in typed, "--debug" in typed
    sys.exit(_run([word for word in typed if word != "--debug"], as_json=as_json, debug=debug))


def _run(arguments: Sequence[str], *, as_json: bool, debug: bool) -> int:
    command = typer.main.get_command(build_app())
    try:
        command.main(args=list(arguments), prog_name="toolkit", standalone_mode=False)
    except ToolkitError as error:
        _show(error, as_json=as_json, debug=debug)
        return error.exit_code
    except click.exceptions.Exit as leaving:
        return int(leaving.exit_code)
    except click.ClickException as error:
        if as_json:
            _print_json({"code": "usage", "message": error.format_message(), "hint": "See toolkit --help."})
        else:
            error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\nStopped. The same command takes up where it was.\n")
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug is said to be one
        if debug:
            traceback.print_exc()
        sys.stderr.write(
            f"error: this is a bug: {type(error).__name__}: {error}\n"
            "hint: run it again with --debug and report what it prints.\n"
        )
        return BUG
    return 0


def _show(error: ToolkitError, *, as_json: bool, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    if as_json:
        _print_json(error.as_record())
        return
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")


def _print_json(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps({"error": record}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
