"""Advice: which techniques would lift the limit of a scenario, alone and together, and which hardware buys as much."""
