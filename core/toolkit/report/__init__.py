"""The page of a run, for the person who decides: one file that opens from disk, without a network."""
