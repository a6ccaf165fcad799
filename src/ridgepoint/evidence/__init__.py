"""Evidence: measured tables, how well predictions match them, and coefficients fitted to them (design §7, §8)."""
