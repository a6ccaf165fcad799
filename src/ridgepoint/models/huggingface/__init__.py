"""Any Hugging Face ``config.json`` as a model, read without ``transformers`` (design §5)."""

from ridgepoint.models.huggingface.registry import model_types, read_config

__all__ = ["model_types", "read_config"]
