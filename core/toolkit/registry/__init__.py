"""What happened, kept: runs, their stages and artifacts. Never trusted for keys or paths."""
