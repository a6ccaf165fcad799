"""A small machine file that tests change."""

PLAIN = """\
name = "mine"
title = "A machine"
vendor = "Acme"
kind = "gpu"
family = "generic"
aliases = ["own"]

[chip]
multiprocessors = 100
clock = "1.5 GHz"

[engines.matrix]
label = "units"
[engines.matrix.rates]
bf16 = "400 TFLOP/s"

[memory.hbm]
label = "HBM"
role = "main"
capacity = "64 GB"
bandwidth = "2 TB/s"

[links.pcie]
label = "PCIe"
scope = "host"
bandwidth = "64 GB/s"
latency = "1 us"

[power]
tdp = "500 W"

[sources]
sheet = { title = "a data sheet", date = "2026" }
other = { title = "another document", date = "2025" }

[provenance]
"chip" = "sheet"
"engines" = "sheet"
"memory" = "sheet"
"links.pcie" = "sheet"
"power" = "sheet"

"""


def changed(before: str, after: str) -> str:
    """The plain sheet with one line changed."""
    assert PLAIN.count(before) == 1, before
    return PLAIN.replace(before, after)
