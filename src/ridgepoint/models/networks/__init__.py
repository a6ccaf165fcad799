"""Networks that are no token transformers: vision, diffusion, graphs, science, recommendation, retrieval (design §5).

A family is a function that plays a network onto a ``Tape``; ``FAMILIES`` in ``registry.py`` joins them to their names.
"""
