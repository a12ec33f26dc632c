"""The teacher's cache for token sequences: what it says of each completion, said once and read by every later run."""
