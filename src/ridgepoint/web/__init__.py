"""The local page: a JSON interface over the same functions as the command line, and a page that asks it."""
