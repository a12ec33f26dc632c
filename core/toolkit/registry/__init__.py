"""What happened, kept: runs, stages, artifacts, evaluations, bundles, installations. Never trusted for keys or paths."""
