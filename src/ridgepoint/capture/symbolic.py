"""Symbolic sizes: one recording in which sizes of the input are letters, as ``torch.export`` has them for dynamic dimensions.

PyTorch carries formulas through every shape and notes each comparison that the program, or a rule, decides by them: these
conditions say where the formulas hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ridgepoint.capture.extra import needed
from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.formula import Size, compiled


@contextmanager
def unlogged() -> Iterator[None]:
    """What PyTorch logs of failures in its shape rules stays unsaid inside: they are raised, too."""
    loud = logging.getLogger("torch._subclasses.fake_tensor")
    was, loud.disabled = loud.disabled, True
    try:
        yield
    finally:
        loud.disabled = was


class NotSymbolicError(Exception):
    """The program has no formulas in these sizes: it turns one into a number, or asks whether two are equal."""


class Symbols:
    """Sizes as letters: ``sizes`` stand in the place of numbers, ``mode`` is what tensors with such shapes live under.

    ``at`` are the numbers by which PyTorch decides comparisons that depend on the letters.
    """

    def __init__(self, at: Mapping[str, int]) -> None:
        needed("torch", "capturing a model")
        from torch._dynamo.source import ConstantSource
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

        self._env = ShapeEnv(duck_shape=False)
        self.mode = FakeTensorMode(shape_env=self._env, allow_non_fake_inputs=True)
        self.sizes: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._known: dict[Any, Size] = {}
        for name, number in at.items():
            source = ConstantSource(name)
            letter = self._env.create_symbol(number, source, dynamic_dim=DimDynamic.DYNAMIC)
            self._names[str(letter)] = name
            self.sizes[name] = self._env.create_symintnode(letter, hint=number, source=source)

    def formula(self, size: Any) -> Size:
        """A size as it is written in work files.

        Errors: ``NotSymbolicError`` for what their formulas cannot say.
        """
        if isinstance(size, int | float):
            return float(size)
        expression = size.node.expr
        if expression not in self._known:
            self._known[expression] = self._written(expression)
        return self._known[expression]

    def _written(self, expression: Any) -> Size:
        import sympy

        simple = sympy.expand(_plain(expression))
        if simple.is_number:
            return float(simple)
        text = _printed(simple, self._names)
        try:
            strange = set(compiled(text)[1]) - set(self._names.values())
        except RidgepointError:
            strange = {text}
        if strange:
            raise NotSymbolicError(f"'{text}' is no formula")
        return text

    def still(self) -> None:
        """Nothing, while all sizes are letters of their own.

        Errors: ``NotSymbolicError`` once one became a number, or the same as another.
        """
        if self._env.replacements:
            self.conditions()

    def conditions(self) -> tuple[str, ...]:
        """Where the formulas hold, as comparisons of sizes; what holds for all sizes from 1 on is left out.

        Errors: ``NotSymbolicError`` where a size became a number, or the program is that of equal sizes.
        """
        import sympy
        from torch.utils._sympy import functions as own

        found: list[str] = []
        for guard in self._env.guards:
            relation = guard.expr
            if isinstance(relation, sympy.Eq):
                raise NotSymbolicError(f"the program holds for {self._relation(relation)} only{_place(guard)}")
            if not isinstance(relation, sympy.core.relational.Relational) or relation.has(
                sympy.Mod, own.Mod, own.PythonMod
            ):
                raise NotSymbolicError(f"the program depends on {self._relation(relation)}")
            if not _always(relation):
                found.append(self._relation(_from_where(relation)))
        return tuple(dict.fromkeys(found))

    def _relation(self, relation: Any) -> str:
        if not hasattr(relation, "rel_op"):
            return _printed(_plain(relation), self._names)
        left, right = (_printed(_plain(side), self._names) for side in (relation.lhs, relation.rhs))
        return f"{left} {relation.rel_op} {right}"


def _place(guard: Any) -> str:
    """The line of the model that made PyTorch ask."""
    line = str(getattr(guard.sloc, "user_frame_summary", "") or "")
    return f" ({line})" if line and "ridgepoint/capture" not in line else ""


def _plain(expression: Any) -> Any:
    """An expression without PyTorch's functions where usual ones say the same for sizes, which are not negative."""
    import sympy
    from torch.utils._sympy import functions as own

    def quotient(a: Any, b: Any) -> Any:
        whole = sympy.cancel(a / b)
        return whole if whole.is_integer else sympy.floor(a / b, evaluate=False)

    meanings = {
        own.FloorDiv: quotient,
        own.CleanDiv: lambda a, b: a / b,
        own.IntTrueDiv: lambda a, b: a / b,
        own.FloatTrueDiv: lambda a, b: a / b,
        own.ToFloat: lambda a: a,
        own.TruncToInt: sympy.floor,
        own.FloorToInt: sympy.floor,
        own.CeilToInt: sympy.ceiling,
        own.PowByNatural: lambda a, b: a**b,
        own.FloatPow: lambda a, b: a**b,
        own.PythonMod: sympy.Mod,
        own.Max: lambda *sizes: sympy.Max(*_leading(sizes, sympy.Ge)),
        own.Min: lambda *sizes: sympy.Min(*_leading(sizes, sympy.Le)),
    }
    if not expression.args:
        return expression
    args = [_plain(part) for part in expression.args]
    meaning = meanings.get(type(expression))
    return expression.func(*args) if meaning is None else meaning(*args)


def _leading(sizes: Iterable[Any], leads: Any) -> list[Any]:
    """The sizes that no other one leads everywhere."""
    kept: list[Any] = []
    for size in sizes:
        if not any(_always(leads(other, size)) for other in kept):
            kept = [other for other in kept if not _always(leads(size, other))] + [size]
    return kept


def _printed(expression: Any, names: Mapping[str, str]) -> str:
    from sympy.printing.str import StrPrinter

    class Printer(StrPrinter):  # type: ignore[misc]
        """Formulas as work files write them."""

        def _print_Symbol(self, symbol: Any) -> str:  # noqa: N802
            return names.get(symbol.name, symbol.name)

        def _called(self, name: str, args: Any) -> str:
            return f"{name}({', '.join(map(self.doprint, args))})"

        def _print_ceiling(self, call: Any) -> str:
            return self._called("ceil", call.args)

        def _print_Max(self, call: Any) -> str:  # noqa: N802
            return self._called("max", call.args)

        def _print_Min(self, call: Any) -> str:  # noqa: N802
            return self._called("min", call.args)

        def _print_Mod(self, call: Any) -> str:  # noqa: N802
            left, right = (self.doprint(a) if a.is_Atom else f"({self.doprint(a)})" for a in call.args)
            return f"({left} % {right})"

    return str(Printer().doprint(expression))


def _from_where(relation: Any) -> Any:
    """``a != b`` as ``size >= n``, where the difference of the two never falls as their only letter grows, and is above zero
    from n on; any other comparison as it is.
    """
    import sympy

    difference = sympy.expand(_plain(relation.lhs - relation.rhs))
    letters = difference.free_symbols
    if not isinstance(relation, sympy.Ne) or len(letters) != 1 or not _grows(difference):
        return relation
    (letter,) = letters
    start = next((n for n in range(1, _SEARCHED) if difference.subs(letter, n) > 0), None)
    if start is None or (start > 1 and difference.subs(letter, 1) < 0):
        return relation
    return sympy.Ge(letter, start, evaluate=False)


_SEARCHED = 1024


def _grows(expression: Any) -> bool:
    """Whether an expression never falls as its letters grow: letters, and what is rounded of such, with plus signs alone."""
    import sympy

    floors = {whole: sympy.Dummy(nonnegative=True) for whole in expression.atoms(sympy.floor)}
    if not all(_grows(whole.args[0]) for whole in floors):
        return False
    flat = sympy.expand(expression.subs(floors))
    terms = [term for term in sympy.Add.make_args(flat) if not term.is_number]
    return all(term.as_coeff_Mul()[0] > 0 and term.is_polynomial() for term in terms)


def _always(relation: Any) -> bool:
    """Whether a comparison holds for all sizes from 1 on: all coefficients of the difference have one sign there."""
    import sympy

    if relation in (sympy.true, sympy.false):
        return bool(relation)
    difference = sympy.expand(_plain(relation.lhs - relation.rhs))
    letters = sorted(difference.free_symbols, key=str)
    shifted = sympy.expand(difference.subs({letter: letter + 1 for letter in letters}, simultaneous=True))
    if not shifted.is_polynomial(*letters):
        return False
    terms = sympy.Poly(shifted, *letters).as_dict() if letters else {(): shifted}
    constant = terms.pop((0,) * len(letters), 0)
    grows, falls = (all(c * sign >= 0 for c in terms.values()) for sign in (1, -1))
    return {
        ">": grows and constant > 0,
        ">=": grows and constant >= 0,
        "<": falls and constant < 0,
        "<=": falls and constant <= 0,
        "!=": (grows and constant > 0) or (falls and constant < 0),
    }.get(relation.rel_op, False)
