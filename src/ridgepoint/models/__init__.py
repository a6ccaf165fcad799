"""Architectures, and how they become work (design §5)."""
