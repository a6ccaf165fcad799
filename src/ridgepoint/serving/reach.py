"""How far requests reach beyond what a model was made for: every answer about serving says it."""

from __future__ import annotations

from ridgepoint.models.architecture import Model


def beyond(model: Model, tokens: float) -> tuple[str, ...]:
    """A warning where the longest request has more tokens than the model's positions; nothing otherwise.

    >>> from ridgepoint.models.catalog import find_model
    >>> beyond(find_model("gpt2"), 1024), beyond(find_model("gpt2"), 4096)
    ((), ('requests reach 4,096 tokens, more than the 1,024 that gpt2 was made for',))
    """
    most = model.max_context
    if not most or tokens <= most:
        return ()
    return (f"requests reach {tokens:,.0f} tokens, more than the {most:,} that {model.name} was made for",)
