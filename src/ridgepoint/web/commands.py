"""The command line that asks what a body asks."""

from __future__ import annotations

import shlex

from ridgepoint.request import Request, command_of


def command(verb: str, request: Request, *words: str) -> str:
    """``ridgepoint VERB`` with the request's scenario and further words; words that are empty are left out with their option.

    >>> command("advise", Request("gpt2", "t4", "decode"), "--objective", "cost", "--quality", "")
    'ridgepoint advise gpt2 --on t4 --task decode --objective cost'
    """
    pairs = zip(words[::2], words[1::2], strict=True)
    told = [part for option, value in pairs if value for part in (option, value)]
    scenario = command_of(request).replace("ridgepoint analyze", f"ridgepoint {verb}", 1)
    return f"{scenario} {shlex.join(told)}".strip()
