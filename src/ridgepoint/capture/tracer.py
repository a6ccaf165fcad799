"""Recording what a PyTorch program asks for: every call below autograd, on tensors without storage (the meta device)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ridgepoint.capture import collectives
from ridgepoint.capture.calls import Call, Value, tensors_of
from ridgepoint.capture.distributed import local
from ridgepoint.capture.draft import Program
from ridgepoint.capture.rules import drafts

_FORMATS = {
    "float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float8_e4m3fn": "fp8", "float8_e5m2": "fp8",
    "int64": "int64", "int32": "int32", "int16": "int16", "int8": "int8", "uint8": "uint8", "bool": "bool",
    "complex64": "complex64", "complex128": "complex128",
}  # fmt: skip
_OWN = ("/torch/", "/ridgepoint/capture/", "/functorch/", "contextlib.py", "<frozen", "<string>")


@dataclass
class Recorder:
    """Turns what passes by into a program. ``roles`` name the tensors that are known beforehand, by storage."""

    group: Callable[[Any], tuple[float, float]] = lambda arguments: (1.0, 1.0)
    mode: Any = None
    """The mode under which tensors only pretend to be real, where they do; others of its kind ask PyTorch about shapes."""
    still: Callable[[], None] = lambda: None
    """Raises where there is no use in recording further."""
    program: Program = field(default_factory=Program)
    backward: bool = False
    paths: dict[int, str] = field(default_factory=dict)
    """Module → its path."""
    shown: dict[str, str] = field(default_factory=dict)
    """Path → the path in reports: members of lists of layers share a name."""
    leaves: set[str] = field(default_factory=set)
    _stack: list[str] = field(default_factory=list)
    _tensor_of: dict[int, int] = field(default_factory=dict)
    _held: list[Any] = field(default_factory=list)
    _packed: set[int] = field(default_factory=set)
    """Tensors that sharding of parameters packs for collectives of its own, which run beside the computation."""
    _path_of_step: dict[int, str] = field(default_factory=dict)
    _last_path: str = ""

    @property
    def symbolic(self) -> bool:
        """Whether sizes of tensors are letters."""
        return self.mode is not None and self.mode.shape_env is not None

    def name(self, module: Any, starred_lists: Collection[str] = ()) -> None:
        """Learn the paths of a module and of everything in it."""
        from torch.nn import ModuleList

        inner = getattr(module, "base_model_prefix", "")  # the model inside a Hugging Face model with a head
        for path, child in module.named_modules():
            self.paths[id(child)] = path
            if next(child.children(), None) is None:
                self.leaves.add(path)
            owner, _, last = path.rpartition(".")
            known = self.shown.get(owner, "")
            starred = last.isdigit() and (isinstance(module.get_submodule(owner), ModuleList) or owner in starred_lists)
            self.shown[path] = "" if path == inner else f"{known}.{'*' if starred else last}".lstrip(".")

    def know(self, tensor: Any, role: str) -> Value:
        """Say what a tensor is; a gradient is one from when its memory was asked for."""
        at = self.value(tensor).id
        self.program.roles[at] = role
        while role == "gradient" and (at := self.program.over.get(at, -1)) >= 0:
            self.program.roles[at] = role
        return self.value(tensor)

    def value(self, tensor: Any) -> Value:
        """A tensor as calls see it: of one that is spread over ranks, what this rank holds."""
        tensor = local(tensor)
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._tensor_of:
            self._held.append(tensor)  # so that no other storage gets its address
            self._tensor_of[key] = len(self.program.values)
            whole = storage.nbytes() // max(tensor.element_size(), 1)
            self.program.values[self._tensor_of[key]] = (whole, format_of(tensor))
        at = self._tensor_of[key]
        role = self.program.roles.get(at, "activation")
        shape = tuple(tensor.shape)
        part = tuple(map(str, (tensor.storage_offset(), *tensor.stride())))
        return Value(at, shape, format_of(tensor), self.program.values[at][0], role, part)

    def record(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """One call that is done."""
        name = function._schema.name.split("::")[1]
        path = self._path()
        if self._renamed(function, name, args, result):
            return
        inside = _tensors(result)
        if name == "append":
            self._extend(args[0], result)
        written = _written(function, args, kwargs)
        if name.rstrip("_") == "view" or not (inside or written):
            return
        given = self._translate(args)
        named = {key: self._translate(v) for key, v in kwargs.items() if key != "out"}  # which is not read
        if function.namespace in ("_c10d_functional", "c10d"):
            in_place = name.endswith("_")  # which schemas of collectives do not say
            written = written or (inside if in_place else [])
            if name in collectives.RULES:
                named["ranks"], named["stride"] = self.group((args, kwargs))
                named["beside"] = bool({v.id for v in tensors_of(given)} & self._packed)
        results = self._results(written, inside, again=function.namespace != "fsdp")
        if function.namespace == "fsdp":
            self._packed |= {value.id for value in results}
        call = Call(
            _base(name),
            given,
            results,
            named,
            path,
            self.shown.get(path, path),
            _line(),
            self.backward,
            _is_pointwise(function),
            path in self.leaves and function.namespace in _COMPUTING,
        )
        self.program.drafts += [(call, draft) for draft in drafts(call)]

    def _renamed(self, function: Any, name: str, args: Any, result: Any) -> bool:
        """Whether a call only gives a tensor that is there another name: views, waits, the first part of a gradient."""
        inside = _tensors(result)
        if function.is_view or name in ("_unsafe_view", "_reshape_alias", "lift_fresh", "_conj", "view_as_real"):
            for view in inside:  # a pretended view of a tensor that does not pretend has a storage of its own
                if view.untyped_storage()._cdata not in self._tensor_of and _is_tensor(args[0]):
                    self._same(view, args[0])
        elif name == "slice_backward" and self.symbolic and str(args[0].shape) == str(result.shape):
            self._same(result, args[0])  # of a slice of everything, which PyTorch leaves out where sizes are numbers
        elif name in ("wait_tensor", "_wrap_tensor_autograd") and inside:
            self._same(inside[0], args[0])
        elif self.backward and name in ("copy_", "clone", "new_empty_strided") and self._accumulates():
            self._same(result if name != "copy_" else args[0], args[1] if name == "copy_" else args[0])
        else:
            return False
        return True

    def _results(self, written: list[Any], inside: list[Any], again: bool) -> tuple[Value, ...]:
        """The results; a tensor that is written in place gets a new version in the same memory (``again``), or in memory of
        its own where what it held was given back meanwhile.
        """
        for tensor in written:
            self._renew(tensor, again)
        return tuple(self.value(t) for t in (inside or written))

    def _renew(self, tensor: Any, again: bool) -> None:
        old = self.value(tensor).id
        new = len(self.program.values)
        self.program.values[new] = self.program.values[old]
        if again:
            self.program.over[new] = old
        role = self.program.roles.get(old)
        if role in ("cache", "parameter"):
            self.program.roles[new] = role
        self._tensor_of[tensor.untyped_storage()._cdata] = new

    def _extend(self, cache: Any, longer: Any) -> None:
        """A cache that grew is the same cache."""
        at = self.value(cache).id
        self._same(longer, cache)
        self.program.values[at] = (longer.numel(), format_of(longer))

    def _same(self, copy: Any, original: Any) -> None:
        """A tensor that is taken over, not copied."""
        self._held.append(copy)
        self._tensor_of[copy.untyped_storage()._cdata] = self.value(original).id

    def _accumulates(self) -> bool:
        """Whether autograd is keeping a finished gradient: outside of a recording it takes it over without a copy."""
        from torch._C import _current_autograd_node

        node = _current_autograd_node()
        return node is not None and "AccumulateGrad" in node.name()

    def _translate(self, argument: Any) -> Any:
        if _is_tensor(argument):
            return self.value(argument)
        if isinstance(argument, tuple | list):
            return tuple(self._translate(item) for item in argument)
        return argument

    def is_question(self, given: Any, result: Any) -> bool:
        """Whether PyTorch asks itself about shapes: on tensors that pretend to be real, and not for us."""
        return any(getattr(t, "fake_mode", self.mode) is not self.mode for t in (*_tensors(given), *_tensors(result)))

    # --- where in the program -----------------------------------------------------------------------------------------

    def _path(self) -> str:
        from torch._C import _current_autograd_node
        from torch.autograd import _get_sequence_nr

        if self.backward:
            node = _current_autograd_node()
            if node is not None:
                self._last_path = self._path_of_step.get(node._sequence_nr(), self._last_path)
            return self._last_path
        path = self._stack[-1] if self._stack else ""
        self._path_of_step.setdefault(_get_sequence_nr() - 1, path)  # not every call makes a step of its own
        return path

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Everything that runs inside is recorded."""
        from torch._dispatch.python import enable_python_dispatcher
        from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
        from torch.utils._python_dispatch import TorchDispatchMode

        recorder = self
        # PyTorch has shape rules in Python that keep letters where those in C++ make them numbers
        asking = enable_python_dispatcher if self.symbolic else nullcontext

        class _Mode(TorchDispatchMode):  # type: ignore[misc]
            def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                named = kwargs or {}
                if any(hasattr(kind, "redistribute") for kind in types):
                    return NotImplemented  # a tensor over ranks: what this rank does comes by next
                with asking():
                    result = function(*args, **named)
                if not recorder.is_question((*args, *named.values()), result):
                    recorder.record(function, args, named, result)
                    recorder.still()
                return result

        def enter(module: Any, _: Any) -> None:
            recorder._stack.append(recorder.paths.get(id(module), recorder._stack[-1] if recorder._stack else ""))

        def leave(_: Any, __: Any, ___: Any) -> None:
            recorder._stack.pop()

        with ExitStack() as stack:
            for hook in (
                register_module_forward_pre_hook(enter),
                register_module_forward_hook(leave, always_call=True),
            ):
                stack.callback(hook.remove)
            stack.enter_context(_Mode())
            yield


_COMPUTING = ("aten", "ridgepoint")
"""Libraries of which a call in a module without modules inside is what that module does."""


def _base(name: str) -> str:
    """A call's name without the mark of in-place variants: they move the same bytes."""
    return name[:-1] if name.endswith("_") and name not in _KEEP else name


_KEEP = ("allreduce_", "all_reduce_", "broadcast_", "allgather_", "_allgather_base_", "_reduce_scatter_base_",
         "alltoall_base_")  # fmt: skip


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _tensors(value: Any) -> list[Any]:
    if _is_tensor(value):
        return [value]
    return [t for item in value for t in _tensors(item)] if isinstance(value, tuple | list) else []


def _written(function: Any, args: Any, kwargs: Any) -> list[Any]:
    """Tensors that a call writes in place."""
    specs = _arguments(function, args, kwargs)
    return [t for spec, v in specs if spec.alias_info is not None and spec.alias_info.is_write for t in _tensors(v)]


def _arguments(function: Any, args: Any, kwargs: Any) -> Iterator[tuple[Any, Any]]:
    specs = function._schema.arguments
    yield from zip(specs, args, strict=False)
    for spec in specs[len(args) :]:
        if spec.name in kwargs:
            yield spec, kwargs[spec.name]


def _is_pointwise(function: Any) -> bool:
    import torch

    return torch.Tag.pointwise in function.tags


def format_of(tensor: Any) -> str:
    """The number format of a tensor."""
    return _FORMATS.get(str(tensor.dtype).removeprefix("torch."), "fp32")


def is_own_code(file: str) -> bool:
    """Whether a file of a call stack is the model's, not PyTorch's or the recorder's."""
    return not any(mark in file for mark in _OWN)


def _line() -> str:
    """File and line of the model's own code that asked."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if is_own_code(file):
            return f"{file.rsplit('/', 1)[-1]}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
