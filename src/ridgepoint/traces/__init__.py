"""Traces of real runs: what a PyTorch profile says about time, idle devices, launches and overlap (design §5)."""
