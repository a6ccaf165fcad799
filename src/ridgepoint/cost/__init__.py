"""Cost: what a work takes on a machine; memory ledger, energy, money (design §3)."""
