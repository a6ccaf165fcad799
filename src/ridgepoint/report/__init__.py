"""Values to what people and programs read: one renderer, one file (design §9)."""
