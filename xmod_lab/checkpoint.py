"""One file a checkpoint: weights, optimisers and clock in safetensors, so that nothing is ever unpickled.

Tensor names: ``weights/<parameter>``, ``optimiser/<name>/<index>/<key>``. The metadata holds, as JSON, everything else
that rebuilding the network and resuming exactly needs. Draws need no state: each comes from (seed, role, step, rank).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from xmod_lab.errors import LabError
from xmod_lab.files import atomic_file
from xmod_lab.methods import method_entry
from xmod_lab.methods.base import Method, Problem, build_config

Optimisers = Mapping[str, torch.optim.Optimizer]


def save(path: Path, method: Method, name: str, optimisers: Optimisers, step: int, **facts: Any) -> None:
    """Write all of `method` (called `name` in METHODS) after `step` steps; `facts` are JSON values kept with it."""
    tensors = {f"weights/{key}": value.detach().contiguous() for key, value in method.state_dict().items()}
    groups: dict[str, Any] = {}
    for opt_name, optimiser in optimisers.items():
        state = optimiser.state_dict()
        groups[opt_name] = state["param_groups"]
        for index, entry in state["state"].items():
            for key, value in entry.items():
                if value is not None:
                    tensors[f"optimiser/{opt_name}/{index}/{key}"] = torch.as_tensor(value).contiguous()
    header = _described(method, name) | {"step": step, "groups": groups, "facts": facts}
    with atomic_file(path) as temporary:
        save_file(
            {key: value.cpu().clone() for key, value in tensors.items()}, temporary, {"xmod_lab": json.dumps(header)}
        )


def save_weights(path: Path, method: Method, name: str, step: int, kept: Collection[str] | None = None) -> None:
    """Write the weights of `method` alone, in half precision: enough for `rebuild` to show it, not to train on.

    kept: names in its state, all if not given; `rebuild` fills the others with NaN.
    """
    state = method.state_dict()
    out = [] if kept is None else sorted(set(state) - set(kept))
    tensors = {f"weights/{key}": _half(value.detach().cpu()) for key, value in state.items() if key not in set(out)}
    header = _described(method, name) | {"step": step} | ({"left_out": out} if out else {})
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, {"xmod_lab": json.dumps(header)})


def _half(value: torch.Tensor) -> torch.Tensor:
    """As float16 where that holds its values; counters and what is too large stay as they are."""
    halved = value.half() if value.is_floating_point() and bool((value.abs() < 6e4).all()) else value
    return halved.contiguous().clone()


def moments(folder: Path) -> dict[int, Path]:
    """Weights that a run kept on its way (`train.MOMENTS`), by the steps done: files for `rebuild`."""
    return {int(path.stem): path for path in sorted(folder.glob("moments/*.safetensors"), key=lambda p: int(p.stem))}


def save_extra(folder: Path, rank: int, step: int, extra: Mapping[str, torch.Tensor]) -> None:
    """Write a process's state beyond weights (`Method.extra_state`) after `step` steps.

    A file a step: a kill between it and the weights must find the one that fits the weights before.
    """
    with atomic_file(_extra_path(folder, rank, step)) as temporary:
        save_file({key: value.detach().cpu().contiguous().clone() for key, value in extra.items()}, temporary)


def load_extra(folder: Path, rank: int, step: int) -> dict[str, torch.Tensor]:
    """What `save_extra` wrote. Raises LabError if it is not there."""
    path = _extra_path(folder, rank, step)
    if not path.is_file():
        raise LabError(
            f"no state of process {rank} after step {step}: an older version, or another count of processes, wrote it",
            where=folder,
            mend="train anew: delete the run folder",
        )
    with _damage_named(path), safe_open(path, "pt") as stored:
        return {key: stored.get_tensor(key) for key in stored.keys()}


def drop_extras(folder: Path, rank: int, world: int, step: int) -> None:
    """Remove a process's states of other steps than `step`; the first process also those of processes >= `world`."""
    for path in folder.glob("process*-*.safetensors"):
        if found := re.fullmatch(r"process(\d+)-(\d+)", path.stem):
            whose, when = map(int, found.groups())
            if (whose == rank and when != step) or (rank == 0 and whose >= world):
                path.unlink(missing_ok=True)


def _extra_path(folder: Path, rank: int, step: int) -> Path:
    return folder / f"process{rank}-{step}.safetensors"


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of a checkpoint. Raises LabError if the file is missing or not one of ours."""
    if not path.is_file():
        raise LabError("no checkpoint", where=path, mend="train the run first")
    with _damage_named(path), safe_open(path, "pt") as stored:
        header = json.loads((stored.metadata() or {})["xmod_lab"])
        return header, {key: stored.get_tensor(key) for key in stored.keys()}


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Whatever reading a file that is none of ours raises becomes a LabError."""
    try:
        yield
    except Exception as error:  # safetensors has an exception class of its own, derived from Exception
        known = isinstance(error, (KeyError, ValueError, OSError))
        if not known and type(error).__name__ != "SafetensorError":
            raise
        raise LabError(
            "not a checkpoint of xmod_lab, or a damaged one", where=path, mend="delete it and train again"
        ) from error


def rebuild(path: Path) -> Method:
    """The method of a checkpoint with its weights, on the CPU and in evaluation mode; needs no other file."""
    header, tensors = read(path)
    method = _built(header)
    method.load_state_dict(_below("weights/", tensors) | _unknown(method, header.get("left_out", [])))
    return method.eval()


def _unknown(method: Method, names: Collection[str]) -> dict[str, torch.Tensor]:
    """NaN for the weights that were left out: whoever uses one after all gets NaN, not noise."""
    built = method.state_dict()
    return {key: built[key].new_full((), math.nan).expand_as(built[key]) if built[key].is_floating_point()
            else built[key] for key in names if key in built}  # fmt: skip


def _described(method: Method, name: str) -> dict[str, Any]:
    """What rebuilds the networks: name, config and problem, and the same of every trained method that it reads."""
    found = {"method": name, "config": dataclasses.asdict(method.config), "problem": dataclasses.asdict(method.problem)}
    reads = {key: _described(other, key) for key, other in method.read.items()}  # type: ignore[arg-type]
    return found | ({"reads": reads} if reads else {})


def _built(described: Mapping[str, Any]) -> Method:
    cls = method_entry(described["method"]).cls
    method = cls(build_config(cls, _tuples(described["config"])), Problem(**_tuples(described["problem"])))
    for name, other in described.get("reads", {}).items():
        method.receive(name, _built(other))
    return method


def restore(path: Path, method: Method, name: str, optimisers: Optimisers) -> tuple[int, dict[str, Any]]:
    """Load a checkpoint into `method` and its optimisers; returns the steps done and the facts kept with it.

    Raises LabError if the checkpoint is of another method, config or problem.
    """
    header, tensors = read(path)
    ours = json.loads(json.dumps({"reads": {}} | _described(method, name)))
    for part, value in ours.items():
        stored = header.get(part, {})
        if stored != value:
            differing = [k for k in value if stored.get(k) != value[k]] if isinstance(value, dict) else [value]
            raise LabError(
                f"the checkpoint is of another {part} ({', '.join(differing)} differ)",
                where=path,
                mend="use another seed or setting, or delete the run folder",
            )
    method.load_state_dict(_below("weights/", tensors))
    for opt_name, optimiser in optimisers.items():
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _below(f"optimiser/{opt_name}/", tensors).items():
            index, field = key.split("/")
            state.setdefault(int(index), {})[field] = value
        groups = [_tuples(group) | {"params": group["params"]} for group in header["groups"][opt_name]]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    return header["step"], header["facts"]


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples, the dataclasses and Adam's betas do."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
