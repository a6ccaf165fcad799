"""Techniques: published ways to change a scenario or its work, one module per mechanism (design §6).

Built-ins register by the same decorator that users call: ``ridgepoint.techniques.registry.technique``.
"""
