"""The verbs that domains and plugins bring: their hook `register_commands` is given a command line of its own each."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import typer

from toolkit.errors import PluginError


def offered_verbs(taken: Collection[str]) -> Iterator[typer.Typer]:
    """A command line for each plugin that brings verbs; `taken` are the words that mean something already.

    Raises:
        PluginError: a plugin fails here, or wants a word that is taken.
    """
    from toolkit import defaults
    from toolkit.plugins import load_plugins

    owners = dict.fromkeys(taken, "the toolkit")
    for implementation in load_plugins(None, defaults).hook.register_commands.get_hookimpls():
        own, name = typer.Typer(), implementation.plugin_name
        try:
            implementation.function(own)
            words = words_of(own)
        except Exception as error:
            raise PluginError(
                f"{name} fails in register_commands: {type(error).__name__}: {error}",
                hint="Mend or uninstall that plugin.", plugin=name,
            ) from error  # fmt: skip
        for word in words:
            if owners.setdefault(word, name) != name:
                raise PluginError(
                    f"{name} brings the verb {word}, which is {owners[word]}'s", hint="Uninstall that plugin.",
                    plugin=name,
                )  # fmt: skip
        yield own


def words_of(app: typer.Typer) -> set[str]:
    """The words that come first behind `toolkit`."""
    return set(typer.main.get_group(app).commands)
