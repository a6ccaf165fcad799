"""All families of networks; importing this package registers them."""

from ridgepoint.models.networks.families import (
    autoencoders,
    diffusion_transformers,
    joint_transformers,
    residual,
    text_encoders,
    unet,
)

__all__ = [
    "autoencoders",
    "diffusion_transformers",
    "joint_transformers",
    "residual",
    "text_encoders",
    "unet",
]
