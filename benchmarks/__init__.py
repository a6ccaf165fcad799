"""Benchmarks of the project itself: how fast it answers, beside the targets of design §11."""
