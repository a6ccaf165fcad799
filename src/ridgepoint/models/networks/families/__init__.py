"""All families of networks; importing this package registers them."""

from ridgepoint.models.networks.families import residual

__all__ = ["residual"]
