"""The stages of the line. Each is `run(context, upstream, folder) -> facts`, with what its digest covers beside it."""
