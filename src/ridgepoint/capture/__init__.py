"""Capture: real PyTorch, Hugging Face and ONNX models become work, without weights and without the target machine.

PyTorch, transformers and onnx belong to the extra ``capture``; the rules that give calls their meaning need none of them.
"""
