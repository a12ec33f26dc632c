"""The command `toolkit`: verbs put together, errors turned into two lines and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

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
    promote,
    report,
    review,
    rollback,
    runs,
    serve,
    site,
    status,
    targets,
    teachers,
    torchrun,
    verify,
)
from toolkit.cli.offered import offered_verbs, words_of
from toolkit.cli.output import plain, write_json
from toolkit.errors import EnvironmentUnfit, ToolkitError, UsageError

INTERRUPTED = 130

EXTRAS = {
    "cyclonedx": "distil", "jinja2": "distil", "onnx": "distil", "onnxscript": "distil", "torch": "distil",
    "httpx": "oci",
    "fastapi": "serve", "httptools": "serve", "multipart": "serve", "prometheus_client": "serve",
    "python_multipart": "serve", "starlette": "serve", "uvicorn": "serve",
}  # fmt: skip
"""Modules that the base install lacks, and the extra that brings each."""

DISTIL, LOOK, SEAL, SITE = "Distil and deploy", "Look around", "Keys and bundles", "On a site"


def build_app(*, offered: bool = True) -> typer.Typer:
    """The command line: one file a verb; and what plugins bring, where that is `offered`.

    Raises:
        PluginError: a plugin's verbs cannot be taken.
    """
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
        LOOK: (targets.targets, plugins.plugins, doctor.doctor),
        SEAL: (grant.grant, verify.verify),
        SITE: (install.install, promote.promote, rollback.rollback, serve.serve, status.status),
    }
    for panel, functions in verbs.items():
        for function in functions:
            app.command(rich_help_panel=panel)(function)
    groups = {LOOK: (teachers, data, new), SEAL: (keys, bundle), SITE: (site, audit, review, access)}
    for panel, modules in groups.items():
        for module in modules:
            app.add_typer(module.app, name=module.__name__.rpartition(".")[2], rich_help_panel=panel)
    if offered:
        for more in offered_verbs(words_of(app)):
            app.add_typer(more)
    return app


def _command_for(arguments: Sequence[str]) -> Any:
    """The command line that understands what was typed. Plugins are loaded where its verb is none of core's."""
    own = typer.main.get_group(build_app(offered=False))
    verb = next((word for word in arguments if not word.startswith("-")), "")
    return own if verb in own.commands or "--version" in arguments else typer.main.get_group(build_app())


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"toolkit {__version__}\n")
        raise typer.Exit


def _common(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Print the traceback of an error."),
) -> None:
    """Distil a large teacher into a small student, prove it, seal it, and serve it on your own premises."""
    if torchrun.several() and context.invoked_subcommand != "deploy":
        raise UsageError(
            f"several processes were started, and `toolkit {context.invoked_subcommand}` is for one",
            hint="Start it without torchrun; `toolkit deploy` trains on several.",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and leave with the documented exit code."""
    # Threads of torch that wait must sleep, not spin: beside any other load, spinning made training ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # ONNX Runtime and its genai would tell their maker of every session, and keep what they could not send in the home.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    typed = list(sys.argv[1:] if arguments is None else arguments)
    as_json, debug = "--json" in typed, "--debug" in typed
    words = [word for word in typed if word != "--debug"]
    if torchrun.several():
        sys.exit(torchrun.run_together(lambda say: _run(words, say, as_json=as_json, debug=debug)))
    sys.exit(_run(words, lambda saying: saying(), as_json=as_json, debug=debug))


def _run(arguments: Sequence[str], say: Callable[[Callable[[], None]], None], *, as_json: bool, debug: bool) -> int:
    def show(error: ToolkitError) -> int:
        say(lambda: _show(error, as_json=as_json, debug=debug))
        return error.exit_code

    try:
        command = _command_for(arguments)
        # Typer hands back the code of typer.Exit, and turns Ctrl-C into one
        code = int(command.main(args=list(arguments), prog_name="toolkit", standalone_mode=False) or 0)
        sys.stdout.flush()
    except ToolkitError as error:
        return show(error)
    except typer.TyperException as error:
        return show(UsageError(_sentence(error), hint="See `toolkit --help`."))
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__ or error.__context__, EOFError):  # which Typer takes for the end of what is typed
            return show(_bug(error))
        code = INTERRUPTED
    except BrokenPipeError:
        return 0
    except OSError as error:
        return show(_unusable(error))
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug is said to be one
        lacking = _lacking(error)
        if lacking is not None:
            return show(lacking)
        return show(_bug(error))
    if code == INTERRUPTED:
        say(lambda: print("\nStopped. The same command takes up where it was.", file=sys.stderr, flush=True))
    return code


def _show(error: ToolkitError, *, as_json: bool, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    with contextlib.suppress(OSError):  # where nobody can be told, the code is what is left
        if as_json:
            write_json({"error": error.as_record()})
            sys.stdout.flush()
            return
        sys.stderr.write(f"error: {plain(error.message)}\n")
        if error.hint:
            sys.stderr.write(f"hint: {plain(error.hint)}\n")


def _bug(error: BaseException) -> ToolkitError:
    bug = ToolkitError(
        f"this is a bug: {type(error).__name__}: {error}", hint="Run it again with --debug and report what it prints."
    )
    return bug.with_traceback(error.__traceback__)


def _unusable(error: OSError) -> EnvironmentUnfit:
    """What the system says of a file, where nobody nearer to it had more to say."""
    where = f"{error.filename}: " if error.filename is not None else ""
    unfit = EnvironmentUnfit(f"{where}{error.strerror or error}", hint="Check free space, names and rights.")
    return unfit.with_traceback(error.__traceback__)


def _lacking(error: Exception) -> EnvironmentUnfit | None:
    """What to install, where an extra's module is not there."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module not in EXTRAS:
        return None
    return EnvironmentUnfit(
        f"this needs {module}, which is not installed", hint=f"pip install 'distil-toolkit[{EXTRAS[module]}]'"
    )


def _sentence(error: typer.TyperException) -> str:
    """What Typer found wrong with what was typed, in one line."""
    says = getattr(error, "format_message", None)
    return " ".join(str(says() if says else error).split())


if __name__ == "__main__":
    main()
