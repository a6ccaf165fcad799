"""The options that say a scenario, shared by every command that takes one (design §10)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgepoint.cli.capture import work_file_of
from ridgepoint.cli.panels import valued
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.custom import parse_spec, with_options
from ridgepoint.request import Request
from ridgepoint.scenario_file import read_request

TASK, FORMATS, LAYOUT, TRAINING, ENGINE = "Task", "Number formats", "Layout", "Training", "Engine"
MACHINE = "Machine, in place of its own figures or without --on"


@dataclass(frozen=True)
class Setting:
    """One option: its words, what it sets (``sizes``, ``plan`` or ``machine``, and the field), what to say about it."""

    words: str
    table: str
    field: str
    metavar: str
    panel: str
    help: str
    flag: bool = False

    @property
    def parameter(self) -> str:
        """Name of the Python parameter."""
        return f"{self.table}_{self.field}"


SETTINGS = (
    Setting("--task", "", "task", "NAME", TASK, "prefill, decode, generate, serve, train, forward, sample"),
    Setting("--batch", "sizes", "batch", "N", TASK, "sequences; in training over all devices"),
    Setting("--prompt", "sizes", "prompt", "N", TASK, "prompt tokens of a sequence (prefill, generate)"),
    Setting("--output", "sizes", "output", "N", TASK, "tokens to generate per sequence (generate)"),
    Setting("--context", "sizes", "context", "N", TASK, "tokens that a decode step attends to (decode); 8k = 8192"),
    Setting("--seq", "sizes", "seq", "N", TASK, "tokens of a sequence (train, forward)"),
    Setting("--image-px", "sizes", "image_px", "N", TASK, "side of an image (forward, sample, train)"),
    Setting("--steps", "sizes", "steps", "N", TASK, "denoising steps (sample)"),
    Setting("--frames", "sizes", "frames", "N", TASK, "frames of a video (sample)"),
    Setting("--weights", "plan", "weights", "FORMAT", FORMATS, "weights of the linear layers: bf16, fp8, int4 …"),
    Setting("--acts", "plan", "acts", "FORMAT", FORMATS, "what matrix products read"),
    Setting("--kv", "plan", "kv", "FORMAT", FORMATS, "keys and values in the cache"),
    Setting("--tp", "plan", "tp", "N", LAYOUT, "tensor parallel degree"),
    Setting("--pp", "plan", "pp", "N", LAYOUT, "pipeline stages"),
    Setting("--dp", "plan", "dp", "N", LAYOUT, "data parallel replicas"),
    Setting("--ep", "plan", "ep", "N", LAYOUT, "expert parallel degree"),
    Setting("--cp", "plan", "cp", "N", LAYOUT, "context parallel degree"),
    Setting("--micro-batch", "plan", "micro_batch", "N", TRAINING, "sequences of one micro-batch"),
    Setting("--zero", "plan", "zero_stage", "0–3", TRAINING, "ZeRO stage"),
    Setting("--shard-group", "plan", "shard_group", "N", TRAINING, "replicas that share states (hybrid sharding)"),
    Setting("--rank-order", "plan", "rank_order", "ORDER", TRAINING, "innermost first: tp-cp-dp-pp or tp-pp-dp"),
    Setting("--recompute", "plan", "recompute", "RULE", TRAINING, "none, selective, sqrt, full or planned"),
    Setting(
        "--schedule", "plan", "schedule", "NAME", TRAINING, "gpipe, 1f1b, interleaved, zero_bubble or zero_bubble_2"
    ),
    Setting("--chunks", "plan", "chunks", "N", TRAINING, "model chunks per stage (interleaved)"),
    Setting("--lengths", "plan", "lengths", "SHAPE", TRAINING, "of the sequences: lognormal:1k:0.8 (all as --seq)"),
    Setting("--padding", "plan", "padding", "HOW", TRAINING, "of --lengths: packed, longest or padded"),
    Setting("--jitter", "plan", "jitter", "F", TRAINING, "coefficient of variation of a device's time; all wait"),
    Setting("--dropout", "plan", "dropout", "P", TRAINING, "probability: masks are drawn, kept and read (0)"),
    Setting("--stages", "plan", "stages", "LAYERS", TRAINING, "uniform, balanced, or of each stage: 16,17,17,14"),
    Setting("--vocab-parallel", "plan", "vocab_parallel", "", TRAINING, "head divided among the pipeline stages", True),
    Setting(
        "--context-exchange", "plan", "context_exchange", "HOW", TRAINING, "of --cp: all_gather, ring or all_to_all"
    ),
    Setting("--trainable", "plan", "trainable", "WHAT", TRAINING, "full, lora or zeroth_order"),
    Setting("--lora-rank", "plan", "lora_rank", "N", TRAINING, "rank of the adapters (lora)"),
    Setting(
        "--trained-layers", "plan", "trained_layers", "F", TRAINING, "part of the layers, from the head, that train"
    ),
    Setting("--recomputed-layers", "plan", "recomputed_layers", "F", TRAINING, "part of the layers that recompute"),
    Setting("--optimizer", "plan", "optimizer", "NAME", TRAINING, "adam, adam8bit, adafactor, lion, sgd or none"),
    Setting(
        "--optimizer-rank", "plan", "optimizer_rank", "N", TRAINING, "rank that gradients are projected to (GaLore)"
    ),
    Setting(
        "--master-weights/--no-master-weights", "plan", "master_weights", "", TRAINING, "fp32 copy of the weights", True
    ),
    Setting("--gradients", "plan", "gradients", "HOW", TRAINING, "kept in: fp32, 16bit, or auto (by ZeRO stage)"),
    Setting("--gradient-bytes", "plan", "gradient_bytes", "X", TRAINING, "exchanged per gradient value"),
    Setting("--exchange-period", "plan", "exchange_period", "N", TRAINING, "steps between exchanges (local updates)"),
    Setting(
        *("--communication-share", "plan", "communication_share", "F", TRAINING),
        "part of the multiprocessors that collectives keep",
    ),
    Setting(
        *("--overlap-gradients/--no-overlap-gradients", "plan", "overlap_gradients", "", TRAINING),
        *("gradients exchanged beside the backward pass", True),
    ),
    Setting(
        *("--overlap-parameters/--no-overlap-parameters", "plan", "overlap_parameters", "", TRAINING),
        *("weights gathered (ZeRO) beside the passes", True),
    ),
    Setting("--outer-bytes", "plan", "outer_bytes", "X", TRAINING, "kept per parameter between exchanges"),
    Setting("--offload-optimizer", "plan", "offload_optimizer", "TIER", TRAINING, "none, host or nvme"),
    Setting("--offload-params", "plan", "offload_params", "TIER", TRAINING, "none, host or nvme (with --zero 3)"),
    Setting(
        *("--blocking-offload/--no-blocking-offload", "plan", "blocking_offload", "", TRAINING),
        *("what is offloaded converted by the host between blocking copies", True),
    ),
    Setting("--offload-activations", "plan", "offload_activations", "TIER", TRAINING, "none, host or nvme"),
    Setting(
        "--fused-attention/--no-fused-attention", "plan", "fused_attention", "", ENGINE, "attention as one kernel", True
    ),
    Setting("--graphs/--no-graphs", "plan", "graph_capture", "", ENGINE, "kernels in one captured graph", True),
    Setting("--mode", "plan", "compiled", "MODE", ENGINE, "eager, or compiled (elementwise chains fused)"),
    Setting(
        *("--fused-norms/--no-fused-norms", "plan", "fused_norms", "", ENGINE),
        *("RMS norms as one kernel each, or operation by operation", True),
    ),
    Setting(
        *("--custom-all-reduce/--no-custom-all-reduce", "plan", "custom_all_reduce", "", ENGINE),
        *("short sums over ranks in one kernel, or NCCL's", True),
    ),
    Setting(
        *("--appended-cache/--no-appended-cache", "plan", "appended_cache", "", ENGINE),
        *("all of the cache copied in every step, as dynamic caches do", True),
    ),
    Setting(
        *("--whole-tables/--no-whole-tables", "plan", "whole_tables", "", ENGINE),
        *("embedding and head not divided among tensor-parallel ranks", True),
    ),
    Setting("--memory-fraction", "plan", "memory_fraction", "F", ENGINE, "part of device memory that may be used"),
    Setting("--capacity", "machine", "capacity", "SIZE", MACHINE, "main memory of a device: 64G"),
    Setting("--hbm", "machine", "hbm", "RATE", MACHINE, "bandwidth of the main memory: 2T"),
    Setting("--link", "machine", "link", "RATE", MACHINE, "between devices of a node, per direction: 200G"),
    Setting("--network", "machine", "network", "RATE", MACHINE, "to other nodes, per device and direction: 50G"),
)


def takes_scenario(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter ``request`` is filled from MODEL, ``--on`` and ``SETTINGS``; its own options follow."""
    shared = [*subjects(), *(parameter(setting) for setting in SETTINGS), *_repeated()]
    return filled(command, shared, "request", _request)


def may_take_scenario(command: Callable[..., None]) -> Callable[..., None]:
    """As ``takes_scenario`` for a command about something else: the model is an option, and ``request`` None without it."""
    model, machine = subjects()
    option = typer.Option("--model", metavar="MODEL", help="Model, to stand beside: as of analyze", show_default=False)
    asked = model.replace(default=None, annotation=Annotated[str | None, option])
    shared = [asked, machine, *(parameter(setting) for setting in SETTINGS), *_repeated()]
    return filled(command, shared, "request", _possible_request)


def _possible_request(values: dict[str, Any]) -> Request | None:
    if values["model"] is not None:
        return _request(values)
    said = [s.words.partition("/")[0] for s in SETTINGS if values[s.parameter] is not None]
    said += [word for name, word, *_ in _REPEATED if values[name]]
    said += ["--on"] if values["machine"] is not None else []
    if said:
        raise RidgepointError("bad_usage", f"{said[0]} is given without a model", "add --model MODEL")
    return None


def filled(
    command: Callable[..., None],
    shared: Sequence[inspect.Parameter],
    name: str,
    make: Callable[[dict[str, Any]], Any],
    before: int | None = None,
) -> Callable[..., None]:
    """``command`` with its parameter ``name`` made from ``shared`` options, of which ``before`` (or all) precede its own."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    shared_names = {p.name for p in shared}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        said = {key: values.pop(key) for key in shared_names}
        command(**{name: make(said)}, **values)

    others = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name != name]
    parameters = [*shared[:before], *others, *(shared[before:] if before is not None else ())]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def subjects() -> list[inspect.Parameter]:
    """MODEL and ``--on``."""
    model = typer.Argument(metavar="MODEL", help="Model name, config.json, folder with one, or scenario file (.toml)")
    machine = typer.Option("--on", metavar="MACHINE", help="Machine: h100-sxm, 8xh100-sxm, 16x8xh100-sxm, or my.toml")
    return [
        inspect.Parameter("model", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, model]),
        inspect.Parameter(
            "machine", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, machine]
        ),
    ]


def parameter(setting: Setting) -> inspect.Parameter:
    """The Python parameter of one option."""
    said = valued(setting.words, setting.metavar or None, setting.help, setting.panel)
    kind = bool | None if setting.flag else str | None
    return inspect.Parameter(
        setting.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, said]
    )


_REPEATED = (
    ("inputs", "--size", "NAME=N", TASK, "any other size of a network's input; may be repeated"),
    (
        *("tensors", "--input", "SPEC", TASK),
        "an input of a model in code (FILE.py:FACTORY): 'x: float32[B,3,224,224]'; may be repeated",
    ),
    ("peaks", "--peak", "FORMAT=RATE", MACHINE, "dense peak rate of a device in a format: bf16=400T; may be repeated"),
    (
        *("apply", "--apply", "NAME[:KEY=VALUE,…]", TASK),
        "a technique, in order; may be repeated. `ridgepoint techniques list` shows all",
    ),
)
"""Options that may be given several times: parameter, word, what follows it, panel, help."""


def _repeated() -> list[inspect.Parameter]:
    found = []
    for name, word, metavar, panel, words in _REPEATED:
        kind = Annotated[list[str] | None, valued(word, metavar, words, panel)]
        found.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))
    return found


def input_sizes(written: list[str] | None) -> dict[str, str]:
    """What ``--size NAME=N`` says.

    >>> input_sizes(["nodes=1k", "edges = 20"])
    {'nodes': '1k', 'edges': '20'}
    """
    found = {}
    for text in written or []:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise RidgepointError("bad_option", f"--size is '{text}'", "write it like --size nodes=1000")
        found[name] = value
    return found


def _request(values: dict[str, Any]) -> Request:
    given = [(s, v) for s in SETTINGS if (v := values[s.parameter]) is not None]
    said = {s.field: s.words.partition("/")[0] for s, _ in given}
    said |= {"machine": "--on"} if values["machine"] is not None else {}
    sizes = {s.field: v for s, v in given if s.table == "sizes"}
    plan = {s.field: compiled(v) if s.field == "compiled" else v for s, v in given if s.table == "plan"}
    inputs = input_sizes(values["inputs"])
    sizes |= {name: inputs.pop(name) for name in [*inputs] if name in {s.field for s in SETTINGS if s.table == "sizes"}}
    techniques = tuple(values["apply"] or ())
    values = {**values, "model": work_file_of(values["model"], values["tensors"], values["_task"])}
    typed = Request(values["model"], values["machine"], values["_task"], sizes, plan, inputs, techniques, said)
    if values["model"].endswith(".toml"):
        typed = replace(typed, model=None).over(read_request(Path(values["model"])))
    changes = {s.field: v for s, v in given if s.table == "machine"}
    for text in values["peaks"] or []:
        changes |= parse_spec(text)
    return replace(typed, machine=with_options(typed.machine, changes)) if changes else typed


def compiled(mode: str) -> bool:
    """What ``--mode`` says.

    >>> compiled("eager")
    False
    """
    if mode not in ("eager", "compiled"):
        raise RidgepointError("bad_option", f"--mode is '{mode}'", "use eager or compiled")
    return mode == "compiled"
