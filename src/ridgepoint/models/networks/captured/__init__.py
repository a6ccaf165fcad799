"""Captured work: what real code does, as a graph of kernels whose sizes are formulas; read from a file, played on a tape."""
