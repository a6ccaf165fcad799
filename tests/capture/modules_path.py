"""Where the modules are that the tests capture; known without PyTorch."""

from pathlib import Path

MODELS = Path(__file__).parent / "models.py"
