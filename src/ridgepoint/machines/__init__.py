"""Machines: sheets, coefficients, finding by name (design §4)."""
