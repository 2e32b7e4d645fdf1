"""Experiments: what is claimed of a network is measured, on tasks whose answer is known."""
