"""Numbers as people read them: three significant digits, separators, small bars."""

from __future__ import annotations

import math
import re

from ridgepoint.units import significant

_EIGHTHS = " ▏▎▍▌▋▊▉"
_SCALES = ((1e12, " T"), (1e9, " B"), (1e6, " M"))


def number(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits and thousands separators.

    >>> number(1657.9), number(31.41), number(0.01234), number(0.0)
    ('1,660', '31.4', '0.0123', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else significant(value, digits)


def count(value: float) -> str:
    """A count: exact with separators up to ten million, then with a letter.

    >>> count(8192.0), count(8030261248.0), count(0.25), count(123456789)
    ('8,192', '8.03 B', '0.25', '123 M')
    """
    for scale, letter in _SCALES:
        if abs(value) >= scale and (scale > 1e6 or abs(value) >= 1e7):
            return significant(value / scale) + letter
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def percent(share: float) -> str:
    """A fraction in per cent without false precision.

    >>> percent(0.923), percent(0.0042), percent(0.0), percent(0.0001), percent(0.9999)
    ('92 %', '0.4 %', '0 %', '<0.1 %', '100 %')
    """
    if share <= 0.0:
        return "0 %"
    if share < 0.001:
        return "<0.1 %"
    return f"{share:.1%}".replace("%", " %") if share < 0.00995 else f"{100 * share:.0f} %"


def gigabytes(size: float) -> str:
    """Bytes in GB of 1e9 bytes, as memory is sold; small and huge sizes in their own unit.

    >>> gigabytes(51.9e9), gigabytes(3.2e6), gigabytes(0.0), gigabytes(2e12), gigabytes(2.4e3)
    ('51.9 GB', '3.20 MB', '0 GB', '2,000 GB', '2.40 kB')
    """
    for floor, scale, unit in ((1e8, 1e9, "GB"), (1e5, 1e6, "MB"), (1.0, 1e3, "kB")):
        if size >= floor:
            return f"{number(size / scale)} {unit}"
    return "0 GB"


def money(usd: float) -> str:
    """Dollars, small sums without zeros that tell nothing.

    >>> money(3.99), money(0.000021), money(1234.5), money(0.153)
    ('$3.99', '$0.0000210', '$1,230', '$0.153')
    """
    return f"${number(usd)}"


def ratio(gain: float) -> str:
    """A speed-up.

    >>> ratio(2.827), ratio(1.0), ratio(1.0458), ratio(12.3), ratio(1e12)
    ('2.83×', '1.00×', '1.05×', '12.3×', '>1,000×')
    """
    return ">1,000×" if gain > 1000.0 else f"{number(gain)}×"


def resource(label: str) -> str:
    """A resource's label without the details of its installation.

    >>> resource("InfiniBand NDR, one 400 Gb/s port per GPU bandwidth"), resource("NVLink 4 through NVSwitch bandwidth")
    ('InfiniBand NDR bandwidth', 'NVLink 4 bandwidth')
    """
    return re.sub(r"(,| through | via ).*?(?= bandwidth$|$)", "", label)


def flow(phrases: list[str], width: int) -> str:
    """Phrases in a row, broken into lines between phrases only.

    >>> print(flow(["Bottleneck:", "92 % HBM3 bandwidth,", "5 % kernel launch."], 34))
    Bottleneck: 92 % HBM3 bandwidth,
    5 % kernel launch.
    """
    lines = [""]
    for phrase in phrases:
        joined = f"{lines[-1]} {phrase}".lstrip()
        if len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(phrase)
    return "\n".join(line for line in lines if line)


def bar(share: float, width: int) -> str:
    """A bar of ``share`` · ``width`` characters in eighths; something is drawn for every positive share.

    >>> bar(0.5, 4), bar(1.0, 3), bar(0.001, 4), bar(0.0, 4)
    ('██', '███', '▏', '')
    """
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if share > 0.0:
        eighths = max(eighths, 1)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def names(words: list[str]) -> str:
    """A list in a sentence.

    >>> names(["--a"]), names(["--a", "--b", "--c"])
    ('--a', '--a, --b and --c')
    """
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def plural(number: int, word: str) -> str:
    """A count of things.

    >>> plural(1, "kernel"), plural(1200, "kernel")
    ('1 kernel', '1,200 kernels')
    """
    return f"{number:,} {word}{'' if number == 1 else 's'}"
