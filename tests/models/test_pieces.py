"""Norms: one kernel where a framework or engine has one, eight where library code composes them (design §5)."""

from __future__ import annotations

from typing import Any

import pytest

import ridgepoint as rp
from ridgepoint.models.catalog import find_model
from ridgepoint.models.execution import Execution, Formats
from ridgepoint.models.pieces import norm
from ridgepoint.ops import Stream
from ridgepoint.tasks.inference import kernel_count
from ridgepoint.work import ops

TASK = rp.Prefill(batch=1, prompt=512)


def launches(model: str, **plan: Any) -> float:
    """Launches of everything that a forward pass calls a norm, residual additions left out."""
    est = rp.estimate(model, on="a100-sxm-80gb", task=TASK, plan=rp.Plan(graph_capture=False, **plan))
    found = [op for op in ops(est.work) if isinstance(op, Stream) and op.label.endswith(".norm")]
    return float(sum(op.launches for op in found) / len(found))


def test_only_eager_library_code_composes_a_norm_and_only_an_rms_norm() -> None:
    """LlamaRMSNorm is a chain of operations; nn.LayerNorm, and what a compiler or an engine makes of a norm, are kernels."""
    assert launches("llama-2-7b", compiled=False) == 8.0
    assert launches("llama-2-7b", compiled=True) == launches("llama-2-7b", compiled=False, fused_norms=True) == 1.0
    for name in ("gpt2", "opt-1.3b", "bloom-7b1", "mpt-7b", "pythia-6.9b"):
        assert launches(name, compiled=False) == 1.0, name
    for name in ("mistral-7b", "qwen3-8b", "gemma-2-9b"):
        assert launches(name, compiled=False) == 8.0, name


def test_encoders_that_normalise_by_roots_say_so() -> None:
    """T5LayerNorm is an RMS norm in several operations, BERT's a LayerNorm."""
    t5, bert = find_model("t5-base"), find_model("bert-base")
    assert all(layer.rms_norm for stack in (t5.encoder, t5.decoder) if stack for layer, _ in stack.layers)
    assert not any(layer.rms_norm for layer, _ in bert.main.layers)


@pytest.mark.parametrize("kept", ["bf16", "fp32"])
def test_a_composed_norm_runs_and_keeps_what_transformers_does(kept: str) -> None:
    """Operations, bytes and tensors kept for the gradient, as PyTorch dispatches them for Transformers' LlamaRMSNorm."""
    torch = pytest.importorskip("torch")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    mode: Any = pytest.importorskip("torch.utils._python_dispatch")
    rows, width = 64, 256
    moved, called, saved = [0.0], [0], dict[int, int]()

    class Counting(mode.TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if not func.is_view and "detach" not in str(func):
                tensors = [t for t in (*args, result) if isinstance(t, torch.Tensor) and t.numel() == rows * width]
                moved[0] += sum(t.numel() * t.element_size() for t in tensors)
                called[0] += 1
            return result

    def keep(tensor: Any) -> Any:
        if tensor.numel() == rows * width:
            saved[tensor.untyped_storage().data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[kept]
    module = llama.LlamaRMSNorm(width).to(dtype)
    x = torch.ones(rows, width, dtype=dtype, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), Counting():
        out = module(x)
    assert out.shape == x.shape
    run = Execution(Formats((("default", kept),), inputs=kept, stream=kept), fused_norms=False)
    (op,) = ops(norm(run, "n", float(rows), float(width), residual=False, rms=True))
    assert isinstance(op, Stream)
    assert op.launches == called[0]
    assert op.read_bytes + op.write_bytes == pytest.approx(moved[0], rel=0.01)
    assert op.saved_bytes == sum(saved.values())


def test_training_keeps_what_a_composed_norm_needs_for_its_gradient() -> None:
    """Six bytes a value instead of two: the 32-bit input and the normalised values, twice a layer, and at the head."""

    def activations(**plan: Any) -> float:
        run = rp.Plan(micro_batch=4, compiled=False, **plan)
        est = rp.estimate("llama-2-7b", on="a100-sxm-80gb", task=rp.Train(batch=4, seq=512), plan=run)
        return float(est.memory.entries["activations"])

    model = find_model("llama-2-7b")
    more = activations() - activations(fused_norms=True)
    assert more == pytest.approx(4.0 * 4 * 512 * model.hidden * 2 * model.main.depth, rel=0.05)


def test_the_host_starts_bare_operators_in_half_the_time_of_a_counted_kernel() -> None:
    """A counted eager kernel brings views and a module along, the operations of a formula do not: a composed norm of eight
    operators costs the host less than eight counted kernels (a half each is assumed: between 14/53 and 14/16)."""
    composed = Execution(Formats((("default", "bf16"),)), fused_norms=False)
    assert kernel_count(norm(composed, "n", 64.0, 256.0, residual=False, rms=True)) == 4.0
    assert kernel_count(norm(Execution(composed.formats), "n", 64.0, 256.0, residual=False, rms=True)) == 1.0
