"""Data only: machines, coefficient families, models, networks, references."""
