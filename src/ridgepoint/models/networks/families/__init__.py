"""All families of networks; importing this package registers them."""

from ridgepoint.models.networks.families import (
    autoencoders,
    diffusion_transformers,
    fields,
    graphs,
    joint_transformers,
    molecules,
    protein,
    recommendation,
    recurrent,
    rendering,
    residual,
    retrieval,
    robotics,
    speech,
    text_encoders,
    unet,
)

__all__ = [
    "autoencoders",
    "diffusion_transformers",
    "fields",
    "graphs",
    "joint_transformers",
    "molecules",
    "protein",
    "recommendation",
    "recurrent",
    "rendering",
    "residual",
    "retrieval",
    "robotics",
    "speech",
    "text_encoders",
    "unet",
]
