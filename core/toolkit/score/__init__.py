"""Scores with intervals, costs as measured on this machine, and the gate between teacher and student."""
