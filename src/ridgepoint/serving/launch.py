"""The commands and manifests that realise a fleet, with the engines' documented option names.

vLLM: ``vllm serve`` (docs.vllm.ai, engine arguments). SGLang: ``python -m sglang.launch_server`` (docs.sglang.ai, server
arguments). TensorRT-LLM: ``trtllm-serve`` (nvidia.github.io/TensorRT-LLM). Kubernetes: apps/v1 Deployments of the engine's
public image behind one Service.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from ridgepoint.errors import unknown_name
from ridgepoint.models.catalog import find_entry
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.fleet import Member, ServePlan

Options = list[tuple[str, str | None]]
_FP8 = ("fp8", "fp8_block")


def emit(found: ServePlan, target: str) -> str:
    """The text that realises the fleet on ``target``.

    Errors: ``unknown_target``.
    """
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    return TARGETS[target](found)


def model_name(given: Deployment) -> str:
    """The model's name on the Hugging Face hub where the catalogue knows it, else its own."""
    entry = find_entry(given.model.name)
    return next((alias for alias in entry.aliases if "/" in alias), given.model.name) if entry else given.model.name


def _longest(found: ServePlan) -> int:
    """Tokens that a sequence may reach: the longest request, in whole thousands; at most the model's own limit."""
    most = -(-found.longest // 1024) * 1024
    return min(most, found.model.max_context or most)


def vllm_options(given: Deployment, longest: int) -> Options:
    """Options of ``vllm serve``."""
    layout, rules, plan = given.passes.layout, given.rules, given.complete_plan
    options: Options = [("--tensor-parallel-size", f"{layout.tp:g}")]
    options += [("--pipeline-parallel-size", f"{layout.pp:g}")] if layout.pp > 1 else []
    if given.passes.pooled > 1:
        options += [("--data-parallel-size", f"{given.passes.pooled:g}"), ("--enable-expert-parallel", None)]
    options += [
        ("--max-num-seqs", str(rules.max_sequences)),
        ("--max-num-batched-tokens", str(rules.token_budget)),
        ("--gpu-memory-utilization", f"{plan.memory_fraction:g}"),
        ("--max-model-len", str(longest)),
    ]
    options += [("--quantization", "fp8")] if given.plan.weights in _FP8 else []
    options += [("--kv-cache-dtype", "fp8")] if plan.kv == "fp8" else []
    return [*options, ("--enable-prefix-caching" if rules.prefix_cache else "--no-enable-prefix-caching", None)]


def sglang_options(given: Deployment, longest: int) -> Options:
    """Options of ``python -m sglang.launch_server``."""
    layout, rules, plan = given.passes.layout, given.rules, given.complete_plan
    pooled = int(given.passes.pooled)
    # With data-parallel attention SGLang's tp counts all devices and dp the attention ranks among them.
    options: Options = [("--tp-size", f"{layout.tp * pooled:g}")]
    options += [("--pp-size", f"{layout.pp:g}")] if layout.pp > 1 else []
    if pooled > 1:
        options += [("--dp-size", str(pooled)), ("--ep-size", f"{layout.ep:g}"), ("--enable-dp-attention", None)]
    options += [
        ("--max-running-requests", str(rules.max_sequences * pooled)),
        ("--chunked-prefill-size", str(rules.token_budget)),
        ("--mem-fraction-static", f"{plan.memory_fraction:g}"),
        ("--context-length", str(longest)),
    ]
    options += [("--quantization", "fp8")] if given.plan.weights in _FP8 else []
    options += [("--kv-cache-dtype", "fp8_e4m3")] if plan.kv == "fp8" else []
    return options if rules.prefix_cache else [*options, ("--disable-radix-cache", None)]


def trtllm_options(given: Deployment, longest: int) -> Options:
    """Options of ``trtllm-serve``."""
    layout, rules, plan = given.passes.layout, given.rules, given.complete_plan
    options: Options = [("--tp_size", f"{layout.tp * given.passes.pooled:g}")]
    options += [("--pp_size", f"{layout.pp:g}")] if layout.pp > 1 else []
    options += [("--ep_size", f"{layout.ep:g}")] if layout.ep > 1 else []
    return [
        *options,
        ("--max_batch_size", str(rules.max_sequences)),
        ("--max_num_tokens", str(rules.token_budget)),
        ("--max_seq_len", str(longest)),
        ("--kv_cache_free_gpu_memory_fraction", f"{plan.memory_fraction:g}"),
    ]


_STARTS: dict[str, tuple[Callable[[str], list[str]], Callable[[Deployment, int], Options]]] = {
    "vllm": (lambda model: ["vllm", "serve", model], vllm_options),
    "sglang": (lambda model: ["python", "-m", "sglang.launch_server", "--model-path", model], sglang_options),
    "trtllm": (lambda model: ["trtllm-serve", model], trtllm_options),
}


def command(given: Deployment, engine: str, longest: int) -> list[str]:
    """The words of the command that starts one replica."""
    start, options = _STARTS[engine]
    return [*start(model_name(given)), *(word for pair in options(given, longest) for word in pair if word is not None)]


def _commands(engine: str) -> Callable[[ServePlan], str]:
    def text(found: ServePlan) -> str:
        lines = []
        for member in found.fleet.members:
            given = member.offer.deployment
            many = f"{member.count} replicas, each" if member.count > 1 else "1 replica"
            lines.append(f"# {many} on {member.offer.devices} × {given.machine.device.title}")
            lines.append(shlex.join(command(given, engine, _longest(found))))
        return "\n".join(lines)

    return text


def _kubernetes(found: ServePlan) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", found.model.name.lower()).strip("-")
    parts = [_deployment(found, member, name) for member in found.fleet.members]
    note = "# One Service over all pools spreads requests evenly; a plan that sends sizes to pools needs a router before it.\n"
    return (note if len(parts) > 1 else "") + "\n---\n".join([*parts, _service(name)])


_IMAGES = {"vllm": "vllm/vllm-openai", "sglang": "lmsysorg/sglang", "trtllm": "nvcr.io/nvidia/tensorrt-llm/release"}
_RESOURCES = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu", "Google": "google.com/tpu", "Intel": "gpu.intel.com/xe"}


def _deployment(found: ServePlan, member: Member, name: str) -> str:
    given, device = member.offer.deployment, member.offer.device
    resource = _RESOURCES.get(given.machine.device.vendor, "nvidia.com/gpu")
    words = [*command(given, given.engine, _longest(found)), "--host", "0.0.0.0", "--port", "8000"]
    quoted = "\n".join(f'            - "{word}"' for word in words)
    own = f"{name}-{device}-x{member.offer.devices}"
    return f"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: {own}
  labels: {{app: {name}}}
spec:
  replicas: {member.count}
  selector:
    matchLabels: {{app: {name}, pool: {own}}}
  template:
    metadata:
      labels: {{app: {name}, pool: {own}}}
    spec:
      # Schedule on nodes with {given.machine.device.title}: set the node selector that the cluster uses.
      containers:
        - name: engine
          image: {_IMAGES[given.engine]}:latest  # pin the release that was tested
          command:
{quoted}
          ports:
            - containerPort: 8000
          resources:
            limits:
              {resource}: "{member.offer.devices}"
          readinessProbe:
            httpGet: {{path: /health, port: 8000}}
          volumeMounts:
            - {{name: shm, mountPath: /dev/shm}}
      volumes:
        - name: shm
          emptyDir: {{medium: Memory}}"""


def _service(name: str) -> str:
    return f"""apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector: {{app: {name}}}
  ports:
    - {{port: 80, targetPort: 8000}}"""


TARGETS: dict[str, Callable[[ServePlan], str]] = {
    **{engine: _commands(engine) for engine in _STARTS},
    "kubernetes": _kubernetes,
}
