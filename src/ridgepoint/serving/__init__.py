"""Serving: engines, steady states, request by request."""
