"""Which kind of op (design §2) an operator or a kernel is, told by its name. What no rule names is memory-bound: ``stream``."""

from __future__ import annotations

import re
from functools import cache

COLLECTIVE, TRANSFER, HOST, STREAM = "collective", "transfer", "host", "stream"

_OPERATORS: tuple[tuple[str, str], ...] = (
    (r"^(nccl|rccl|c10d|gloo|mpi)[:_]|record_param_comms|_c10d_functional", COLLECTIVE),
    (r"attention|flash_attn|fmha|sdpa", "attention"),
    (r"conv|slow_conv|thnn_conv", "conv"),
    (r"::(t|mT|view|reshape|_reshape_alias|_unsafe_view|transpose|permute|expand|expand_as|as_strided|alias)$", HOST),
    (
        r"::(unsqueeze|squeeze|select|slice|narrow|split|split_with_sizes|chunk|unbind|unflatten|flatten|detach)_?$",
        HOST,
    ),
    (
        r"::(empty|empty_like|empty_strided|new_empty|resize|set|item|_local_scalar_dense|resolve_conj|resolve_neg)_?$",
        HOST,
    ),
    (r"::(result_type|is_nonzero|lift_fresh|movedim|diagonal|view_as|view_as_real|view_as_complex|size|stride)$", HOST),
    (r"^detach_?$|^(cuda|cu|hip)[A-Z]|^autograd::|Backward\d*$|^enumerate\(", HOST),
    (r"::(_?scaled_)?(grouped_)?(mm|addmm|bmm|baddbmm|addbmm|matmul|linear|addmv|mv|dot|vdot|inner|einsum)", "gemm"),
    (r"::_?(int_mm|weight_int\w*mm|scaled_mm|grouped_mm|scaled_grouped_mm|addmm_activation|sparse_semi\w*)", "gemm"),
    (r"linear_backward|linear_pointwise|mkldnn_linear|mkl_linear|quantized::linear|qlinear", "gemm"),
    (r"selective_scan|ssd_|chunk_scan|causal_conv1d|::(lstm|gru|rnn_tanh|rnn_relu|_cudnn_rnn|mkldnn_rnn)", "scan"),
)
_KERNELS: tuple[tuple[str, str], ...] = (
    (r"nccl|rccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|sendrecv|cross_device_reduce", COLLECTIVE),
    (r"memcpy (htod|dtoh|ptop)|copy(host|peer)", TRANSFER),
    (r"flash|fmha|attention|attn", "attention"),
    (r"selective_scan|chunk_scan|chunk_state|state_passing|causal_conv1d|rnn", "scan"),
    (r"conv|winograd|wgrad|dgrad|fprop|cudnn.*engine", "conv"),
    (r"(?<!fb)gemm|gemv|cutlass|cublas|xmma|nvjet|cijk_|splitk|s\d+816|matmul|_mm_|dot_kernel", "gemm"),
)
_OPERATOR_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE if "[A-Z]" not in pattern else 0), k) for pattern, k in _OPERATORS
)
_KERNEL_RULES = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in _KERNELS)


@cache
def operator_kind(name: str) -> str:
    """The kind of an operator on the host.

    >>> [operator_kind(f"aten::{n}") for n in ("addmm", "view", "mul", "mkldnn_convolution", "_scaled_mm", "matmul")]
    ['gemm', 'host', 'stream', 'conv', 'gemm', 'gemm']
    >>> operator_kind("nccl:all_reduce"), operator_kind("aten::_scaled_dot_product_flash_attention_for_cpu")
    ('collective', 'attention')
    """
    return next((kind for rule, kind in _OPERATOR_RULES if rule.search(name)), STREAM)


@cache
def kernel_kind(kernel: str, operator: str = "") -> str:
    """The kind of a kernel: its own name decides, then that of the operator that launched it.

    >>> kernel_kind("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)")
    'collective'
    >>> kernel_kind("Memcpy HtoD (Pageable -> Device)"), kernel_kind("Memcpy DtoD (Device -> Device)")
    ('transfer', 'stream')
    >>> kernel_kind("sm80_xmma_gemm_f16f16", "aten::cudnn_convolution"), kernel_kind("_fwd_kernel", "flash_attn::_fwd")
    ('conv', 'attention')
    """
    told = operator_kind(operator) if operator else STREAM
    own = next((kind for rule, kind in _KERNEL_RULES if rule.search(kernel)), STREAM)
    if own in (COLLECTIVE, TRANSFER) or told in (STREAM, HOST):
        return own
    return told


def kernel_name(name: str) -> str:
    """A kernel's name without types and parameters.

    >>> kernel_name("void at::native::vectorized_elementwise_kernel<4, at::native::Add>(int)")
    'at::native::vectorized_elementwise_kernel'
    >>> kernel_name("Memcpy HtoD (Pageable -> Device)"), kernel_name("void (anonymous namespace)::softmax<float>(x)")
    ('Memcpy HtoD', 'softmax')
    """
    plain = name.replace("(anonymous namespace)::", "").removeprefix("void ")
    return re.split(r"[<(]", plain, maxsplit=1)[0].strip() or name
