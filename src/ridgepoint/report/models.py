"""Models: the list, and one model's anatomy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, notes, section
from ridgepoint.report.text import count, gigabytes, number, percent
from ridgepoint.tasks.anatomy import Part
from ridgepoint.units import si

Facts = Mapping[str, Any]


def model_list(models: Sequence[Facts], width: int) -> Table:
    """One line per model."""
    rows: list[list[Cell]] = [
        [
            Text(str(m["name"]), style="bold"),
            str(m["title"]) if width >= 110 else "",
            _count(m["parameters"]),
            _count(m["active_parameters"]) if m["active_parameters"] != m["parameters"] else "",
            _plain(m["layers"]),
            _plain(m["hidden"]),
            str(m["heads"] or "") + (f"/{m['kv_heads']}" if m["kv_heads"] else ""),
            _context(m["max_context"]),
            str(m["released"] or ""),
        ]
        for m in models
    ]
    titles = ["model", "", "params", "active", "layers", "hidden", "heads/kv", "context", "year"]
    return fitted(titles, rows, width, wordy=(0, 1))


def model_page(facts: Facts, parts: Sequence[Part], width: int) -> RenderableType:
    """One model: what it is, where its parameters and operations are, what a sequence keeps."""
    return Group(*_sections(facts, parts, width - INDENT))


def _sections(facts: Facts, parts: Sequence[Part], width: int) -> Iterator[RenderableType]:
    yield Text.assemble((str(facts["name"]), "bold"), f" · {facts['title']}")
    yield Text(_shape(facts), style="dim")
    yield Text("")
    yield section("Parameters", fitted(["", "", ""], _parameter_rows(facts), width, wordy=(2,), left=(0,)))
    yield Text("")
    per = "one token at batch 1" if facts["per"] == "token" else "one sample"
    at = f", {count(facts['context'])} tokens of context" if facts["context"] else ""
    yield section(f"Anatomy ({per}{at})", part_table(parts, width))
    if facts["state"]:
        yield Text("")
        yield section("What a sequence keeps", fitted(["", "", ""], _state_rows(facts), width, wordy=(2,), left=(0,)))
    yield from notes("Notes", tuple(facts["notes"]), "dim")


def _shape(facts: Facts) -> str:
    words = [facts["kind"]]
    if facts["layers"]:
        words += [f"{facts['layers']} layers", f"hidden {facts['hidden']:,}"]
    if facts["heads"]:
        words.append(
            f"{facts['heads']} heads" + (f", {facts['kv_heads']} for keys and values" if facts["kv_heads"] else "")
        )
    if facts["max_context"]:
        words.append(f"context {facts['max_context']:,}")
    return " · ".join([*words, *([str(facts["released"])] if facts["released"] else [])])


def _parameter_rows(facts: Facts) -> list[list[Cell]]:
    counted, published = facts["parameters"], facts["published_parameters"]
    rows: list[list[Cell]] = [["counted", f"{counted:,.0f}", ""]]
    if published:
        off = counted / published - 1.0
        remark = "agrees" if abs(off) < 0.0005 else f"counted is {abs(off):.1%} {'more' if off > 0 else 'less'}"
        rows.append(["published", f"{published:,.0f}", Text(remark, style="dim")])
    if facts["active_parameters"] and facts["active_parameters"] != counted:
        share = percent(facts["active_parameters"] / counted)
        rows.append(["active per token", f"{facts['active_parameters']:,.0f}", Text(share, style="dim")])
    return rows


def part_table(parts: Sequence[Part], width: int) -> Table:
    """Parameters, operations, bytes and intensity by part, and in all."""
    whole = Part("all", *(sum(getattr(p, f) for p in parts) for f in ("parameters", "flop", "bytes")))
    held = max(whole.parameters, 1.0)
    rows: list[list[Cell]] = [
        [
            Text(p.name, style="bold" if p is whole else ""),
            _count(p.parameters) if p.parameters else "",
            percent(p.parameters / held) if p.parameters else "",
            si(p.flop, "FLOP") if p.flop else "",
            si(p.bytes, "B") if p.bytes else "",
            number(p.intensity) if p.flop else "",
        ]
        for p in (*parts, whole)
    ]
    return fitted(["part", "params", "share", "operations", "traffic", "FLOP/B"], rows, width, wordy=(0,))


def _state_rows(facts: Facts) -> list[list[Cell]]:
    state = facts["state"]
    rows: list[list[Cell]] = []
    both, fixed = facts["kind"] == "encoder–decoder", state["fixed_bytes"]
    if state["per_token_bytes"]:
        kept = "16-bit keys and values" + (" of input and output" if both and not fixed else "")
        rows.append(["cache per token", si(state["per_token_bytes"], "B"), Text(kept, style="dim")])
    if fixed:
        rows.append(
            [
                "of the padded input" if both else "recurrent state",
                si(state["fixed_bytes"], "B"),
                Text("whatever the length", style="dim"),
            ]
        )
    rows.append([f"at {count(state['context'])} tokens", gigabytes(state["bytes"]), ""])
    return rows


def _count(value: float | None) -> str:
    return "" if value is None else count(float(value)) if value < 1e6 else count_large(float(value))


def count_large(value: float) -> str:
    """Parameters as people say them: always with a letter.

    >>> count_large(8.03e9), count_large(1.5e6)
    ('8.03 B', '1.50 M')
    """
    return si(value, "").strip().replace("G", "B")


def _plain(value: Any) -> str:
    return "" if not value else f"{value:,}"


def _context(tokens: int | None) -> str:
    """A context length in thousands of 1024 where it is round.

    >>> _context(131072), _context(10_000_000), _context(512), _context(None)
    ('128k', '10,000,000', '512', '')
    """
    if not tokens:
        return ""
    return f"{tokens // 1024:,}k" if tokens >= 1024 and tokens % 1024 == 0 else f"{tokens:,}"
