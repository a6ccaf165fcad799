"""The commands and manifests that realise a fleet, with the engines' documented option names.

vLLM: ``vllm serve`` (docs.vllm.ai, engine arguments, NixlConnector). SGLang: ``python -m sglang.launch_server``
(docs.sglang.ai, server arguments, PD disaggregation). TensorRT-LLM: ``trtllm-serve`` with its YAML options
(nvidia.github.io/TensorRT-LLM). Kubernetes: apps/v1 Deployments of the engine's public image behind one Service.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable

from ridgepoint.errors import unknown_name
from ridgepoint.models.catalog import find_entry
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.fleet import ServePlan
from ridgepoint.serving.mix import Member

Options = list[tuple[str, str | None]]
_FP8 = ("fp8", "fp8_block")
PREFILL, DECODE = "prefill", "decode"
"""What the replicas of a group do where prompts are read apart; empty: everything."""


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


def vllm_options(given: Deployment, longest: int, role: str = "") -> Options:
    """Options of ``vllm serve``."""
    layout, rules, plan = given.passes.layout, given.rules, given.complete_plan
    options: Options = [("--tensor-parallel-size", f"{layout.tp:g}")]
    options += [("--pipeline-parallel-size", f"{layout.pp:g}")] if layout.pp > 1 else []
    options += [("--data-parallel-size", f"{given.passes.pooled:g}")] if given.passes.pooled > 1 else []
    options += [("--enable-expert-parallel", None)] if layout.ep > 1 else []
    options += [
        ("--max-num-seqs", str(rules.max_sequences)),
        ("--max-num-batched-tokens", str(rules.token_budget)),
        ("--gpu-memory-utilization", f"{plan.memory_fraction:g}"),
        ("--max-model-len", str(longest)),
    ]
    options += [("--quantization", "fp8")] if given.plan.weights in _FP8 else []
    options += [("--kv-cache-dtype", "fp8")] if plan.kv == "fp8" else []
    if role:
        kind = "kv_producer" if role == PREFILL else "kv_consumer"
        options.append(("--kv-transfer-config", f'{{"kv_connector":"NixlConnector","kv_role":"{kind}"}}'))
    return [*options, ("--enable-prefix-caching" if rules.prefix_cache else "--no-enable-prefix-caching", None)]


def sglang_options(given: Deployment, longest: int, role: str = "") -> Options:
    """Options of ``python -m sglang.launch_server``."""
    layout, rules, plan = given.passes.layout, given.rules, given.complete_plan
    pooled = int(given.passes.pooled)
    # With data-parallel attention SGLang's tp counts all devices and dp the attention ranks among them.
    options: Options = [("--tp-size", f"{layout.tp * pooled:g}")]
    options += [("--pp-size", f"{layout.pp:g}")] if layout.pp > 1 else []
    options += [("--dp-size", str(pooled)), ("--enable-dp-attention", None)] if pooled > 1 else []
    options += [("--ep-size", f"{layout.ep:g}")] if layout.ep > 1 else []
    options += [
        ("--max-running-requests", str(rules.max_sequences * pooled)),
        ("--chunked-prefill-size", str(rules.token_budget)),
        ("--mem-fraction-static", f"{plan.memory_fraction:g}"),
        ("--context-length", str(longest)),
    ]
    options += [("--quantization", "fp8")] if given.plan.weights in _FP8 else []
    options += [("--kv-cache-dtype", "fp8_e4m3")] if plan.kv == "fp8" else []
    options += [("--disaggregation-mode", role), ("--disaggregation-transfer-backend", "nixl")] if role else []
    return options if rules.prefix_cache else [*options, ("--disable-radix-cache", None)]


def trtllm_options(given: Deployment, longest: int, role: str = "") -> Options:
    """Options of ``trtllm-serve``; what it takes in YAML only is in ``trtllm_file``."""
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
        ("--enable_chunked_prefill", None),
        *([("--extra_llm_api_options", _FILE)] if trtllm_file(given, role) else []),
    ]


_FILE = "options.yaml"


def trtllm_file(given: Deployment, role: str = "") -> list[str]:
    """Lines of the YAML file beside ``trtllm-serve``: data-parallel attention, the cache's format, pools."""
    lines = ["enable_attention_dp: true"] if given.passes.pooled > 1 else []
    lines += ["kv_cache_config: {dtype: fp8}"] if given.complete_plan.kv == "fp8" else []
    if role:
        lines += ["disable_overlap_scheduler: true"] if role == PREFILL else []
        lines.append("cache_transceiver_config: {backend: DEFAULT}")
    return lines


def _checkpoint(given: Deployment, engine: str) -> str:
    """What to serve where the engine does not make the format of the weights itself; empty where it does."""
    weights = given.plan.weights
    made = _FP8 if engine != "trtllm" else ()
    if weights is None or weights in ("bf16", "fp16") or weights in made:
        return ""
    return f"# {weights} weights: serve a checkpoint that is stored so"


_STARTS: dict[str, tuple[Callable[[str], list[str]], Callable[[Deployment, int, str], Options]]] = {
    "vllm": (lambda model: ["vllm", "serve", model], vllm_options),
    "sglang": (lambda model: ["python", "-m", "sglang.launch_server", "--model-path", model], sglang_options),
    "trtllm": (lambda model: ["trtllm-serve", model], trtllm_options),
}


def command(given: Deployment, engine: str, longest: int, role: str = "") -> list[str]:
    """The words of the command that starts one replica."""
    start, options = _STARTS[engine]
    pairs = options(given, longest, role)
    return [*start(model_name(given)), *(word for pair in pairs for word in pair if word is not None)]


def _roles(given: Deployment) -> tuple[tuple[str, int], ...]:
    """(what it does, how many) of the replicas of a group."""
    if not given.prefill_replicas:
        return (("", 1),)
    return ((PREFILL, given.prefill_replicas), (DECODE, given.replicas - given.prefill_replicas))


def _commands(engine: str) -> Callable[[ServePlan], str]:
    def text(found: ServePlan) -> str:
        lines = []
        for member in found.fleet.members:
            given = member.offer.deployment
            for role, each in _roles(given):
                count = member.count * each
                many = f"{count} {role + ' ' if role else ''}replica{'s, each' if count > 1 else ''}"
                lines.append(f"# {many} on {given.devices_per_replica} × {given.machine.device.title}")
                lines += filter(None, [_checkpoint(given, engine)])
                extra = trtllm_file(given, role) if engine == "trtllm" else []
                lines += [f"cat > {_FILE} <<'EOF'", *extra, "EOF"] if extra else []
                lines.append(shlex.join(command(given, engine, _longest(found), role)))
            lines += [_ROUTERS[engine]] if given.prefill_replicas else []
        return "\n".join(lines)

    return text


_ROUTERS = {
    "vllm": "# a proxy before them sends each request to a prefill and then a decode replica (docs.vllm.ai: NixlConnector)",
    "sglang": "# python -m sglang_router.launch_router --pd-disaggregation --prefill URL … --decode URL …",
    "trtllm": "# trtllm-serve disaggregated -c CONFIG.yaml, which lists context_servers and generation_servers",
}


def _kubernetes(found: ServePlan) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", found.model.name.lower()).strip("-")
    parts = [
        _deployment(found, member, name, role, each)
        for member in found.fleet.members
        for role, each in _roles(member.offer.deployment)
    ]
    note = "# One Service over all pools spreads requests evenly; a plan that sends sizes to pools needs a router before it.\n"
    apart = any(member.offer.deployment.prefill_replicas for member in found.fleet.members)
    note += f"{_ROUTERS[found.fleet.members[0].offer.deployment.engine]}\n" if apart else ""
    return (note if len(parts) > 1 else "") + "\n---\n".join([*parts, _service(name)])


_IMAGES = {"vllm": "vllm/vllm-openai", "sglang": "lmsysorg/sglang", "trtllm": "nvcr.io/nvidia/tensorrt-llm/release"}
_RESOURCES = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu", "Google": "google.com/tpu", "Intel": "gpu.intel.com/xe"}


def _deployment(found: ServePlan, member: Member, name: str, role: str, each: int) -> str:
    given, device = member.offer.deployment, member.offer.device
    devices = given.devices_per_replica
    resource = _RESOURCES.get(given.machine.device.vendor, "nvidia.com/gpu")
    words = [*command(given, given.engine, _longest(found), role), "--host", "0.0.0.0", "--port", "8000"]
    extra = trtllm_file(given, role) if given.engine == "trtllm" else []
    if extra:
        lines = " ".join(shlex.quote(line) for line in extra)
        words = ["sh", "-c", f"printf '%s\\n' {lines} > {_FILE} && exec {shlex.join(words)}"]
    quoted = "\n".join(f"            - {json.dumps(word)}" for word in words)
    own = "-".join(filter(None, (name, device, f"x{devices}", role)))
    stored = "".join(f"      {line}\n" for line in filter(None, [_checkpoint(given, given.engine)]))
    return f"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: {own}
  labels: {{app: {name}}}
spec:
  replicas: {member.count * each}
  selector:
    matchLabels: {{app: {name}, pool: {own}}}
  template:
    metadata:
      labels: {{app: {name}, pool: {own}}}
    spec:
      # Schedule on nodes with {given.machine.device.title}: set the node selector that the cluster uses.
{stored}      containers:
        - name: engine
          image: {_IMAGES[given.engine]}:latest  # pin the release that was tested
          command:
{quoted}
          ports:
            - containerPort: 8000
          resources:
            limits:
              {resource}: "{devices}"
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
