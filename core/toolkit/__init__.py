"""Distil a large teacher into a small student, prove it, seal it, and serve it on your own premises."""

__version__ = "0.1.0"
