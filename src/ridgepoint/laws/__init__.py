"""Scaling laws and calculators: small closed forms of papers, in plain numbers (design §9). They depend on nothing above."""
