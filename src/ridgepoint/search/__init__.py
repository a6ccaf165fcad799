"""Searching: sweeps over any axis of a scenario, and the points of a sweep that nothing beats."""
