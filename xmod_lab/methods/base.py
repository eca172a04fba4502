"""What every method is made of: the contract between a method, the training loop and whoever looks at it.

A method is an nn.Module with a frozen config. It offers `stages` and `training_step`, and, where it can,
`segment(image, modality) -> logits`, `translate(image, source, target) -> image` and `maps(batch) -> {name: Map}`.
One that translates between some of its modalities only has `translations`, the list of its (source, target).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from xmod_lab.data.batches import Slices
from xmod_lab.errors import LabError

Batch = Mapping[str, Slices]


@dataclass(frozen=True)
class Problem:
    """What a method must know of its data to build its networks; stored with the weights."""

    modalities: tuple[str, ...]
    """modalities of the training batches"""
    tested: tuple[str, ...]
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    classes: tuple[str, ...]
    """foreground classes; class index = position + 1"""
    channels: int
    """channels of an input image: neighbours times stacked modalities"""
    size: int
    """edge of the slices in pixels"""
    paired: bool = False
    """whether a batch holds the same slices of the same patients in all modalities"""

    @property
    def n_classes(self) -> int:
        """With background."""
        return len(self.classes) + 1


@dataclass(frozen=True)
class Clock:
    """Where training stands. Schedules and ramps follow `progress`: a short profile goes through all of them."""

    stage: str
    step: int
    """step of the run, from 0"""
    progress: float
    """of the stage, 0 at its first step, 1 at its last"""


@dataclass(frozen=True)
class StepResult:
    """Named scalar losses (detached) and named images (b, k, h, w) of one step."""

    losses: dict[str, float]
    images: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A part of training.

    share       of the run's steps, relative to the other stages'
    optimisers  by name; `update` takes these names
    schedules   optimiser name -> factor on its learning rate as a function of progress (default: constant)
    trained     names of sub-modules in training mode; the others are frozen and in evaluation mode. Empty: all
    derive      "source->target" -> image function: the loop writes these images of every training slice into the run
                folder before the stage begins and adds them to each batch under that name
    """

    name: str
    share: float
    optimisers: dict[str, torch.optim.Optimizer]
    schedules: dict[str, Callable[[float], float]] = field(default_factory=dict)
    trained: tuple[str, ...] = ()
    derive: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)


def adam(
    parameters: Iterable[nn.Parameter], rate: float, betas: tuple[float, float] = (0.9, 0.999), decay: float = 0.0
) -> torch.optim.Adam:
    """Adam in its fused form: on a CPU a step of the lesson's U-Nets takes about three quarters of the time."""
    return torch.optim.Adam(parameters, rate, betas, weight_decay=decay, fused=True)


def sgd(
    parameters: Iterable[nn.Parameter], rate: float, momentum: float = 0.9, decay: float = 0.0
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum, in its fused form."""
    return torch.optim.SGD(parameters, rate, momentum, weight_decay=decay, fused=True)


def polynomial(progress: float, power: float = 0.9) -> float:
    """Factor on the learning rate: (1 - progress)^power, a hundredth at the least. DeepLab and AdaptSegNet have 0.9,
    BiGL 0.75."""
    return max((1.0 - progress) ** power, 0.01)


RAMP = 0.6
"""part of training after which UAGAN's learning rate falls and its shape term is whole: 60 of 100 epochs"""


def late(progress: float) -> float:
    """Factor on the learning rate: 1 for 60 % of training, then linear to 0.01 (UAGAN: 1e-4 to 1e-6)."""
    return 1.0 if progress <= RAMP else 1.0 - 0.99 * (progress - RAMP) / (1 - RAMP)


def half(progress: float) -> float:
    """Factor on the learning rate: 1 for half of training, then linear to 0.01 (StarGAN, CycleGAN: to 0)."""
    return 1.0 if progress <= 0.5 else 1.0 - 0.99 * (progress - 0.5) / 0.5


class Update(Protocol):
    """`update(loss, "name", ...)`: one step of the named optimisers, and of nothing else."""

    def __call__(self, loss: Tensor, *names: str) -> None: ...


class Method(nn.Module):
    """Base of all methods; see the module's docstring for what a sub-class offers."""

    Config: ClassVar[type]
    """frozen dataclass with all values filled; field `width` follows the profile unless set"""
    paper_names: ClassVar[dict[str, str]] = {}
    """paper symbol -> attribute"""
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}
    """name -> config fields that switch one ingredient off"""
    swaps_labels: ClassVar[bool] = False
    """whether it learns from the labels of the modalities whose labels are hidden: a bound"""

    def __init__(self, config: Any, problem: Problem):
        super().__init__()
        self.config, self.problem = config, problem
        self.read = nn.ModuleDict()

    @classmethod
    def reads(cls, config: Any) -> tuple[str, ...]:
        """Names of the methods (METHODS) whose finished runs this one builds on, of the same data set, task, profile,
        fold and seed. They are trained first, handed to `receive`, and stored in this method's own checkpoint."""
        return ()

    @classmethod
    def translates_labelled(cls, config: Any) -> bool:
        """Whether its segmenter sees labelled slices as their translations alone. A structure missed there may have
        been lost on the way to the other modality, which is what such a system does, no failure of training."""
        return False

    def receive(self, name: str, trained: Method) -> None:
        """Take the trained method `name` as a sub-module ``read.<name>``; it is frozen unless a stage trains it."""
        self.read[name] = trained.eval().requires_grad_(False)

    def stages(self) -> list[Stage]:
        raise LabError(f"{type(self).__name__} has no stages", mend="a method must define stages()")

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        raise LabError(f"{type(self).__name__} has no training step", mend="a method must define training_step()")

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors beyond weights that this process needs to resume exactly (image pools); saved per process."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `extra_state` gave."""


def offers(cls: type[Method]) -> list[str]:
    """Which of segment, translate and maps a method offers."""
    return [name for name in ("segment", "translate", "maps") if callable(getattr(cls, name, None))]


def build_config(cls: type[Method], values: Mapping[str, Any]) -> Any:
    """The config of `cls` with `values` in it; strings are read as the field's type.

    Raises LabError for an unknown field or a value that does not fit.
    """
    fields = {f.name: f for f in dataclasses.fields(cls.Config)}
    read = {}
    for name, value in values.items():
        if name not in fields:
            raise LabError(f"{cls.__name__} has no config field {name!r}", mend=f"it has {', '.join(fields)}")
        read[name] = _read_as(value, fields[name].default, f"{cls.__name__}.{name}")
    return cls.Config(**read)


def one_of(cls: type[Method], name: str, value: Any, known: Iterable[Any]) -> None:
    """Raise LabError unless the config field `name` has a `known` value."""
    if value not in (known := list(known)):
        raise LabError(
            f"{name} is {value!r}", where=f"{cls.__name__}.{name}", mend=f"known: {', '.join(map(str, known))}"
        )


def index_of(modality: str, known: tuple[str, ...]) -> int:
    """Place of `modality` among those a method was trained with. Raises LabError for another."""
    if modality not in known:
        raise LabError(f"not trained with {modality!r}", mend=f"it knows {', '.join(known)}")
    return known.index(modality)


def at_least_two(known: tuple[str, ...], method: str) -> None:
    """Raise LabError if there is nothing to translate to."""
    if len(known) < 2:
        raise LabError(f"{method} translates between modalities: the task has {', '.join(known)} only", where=method)


def exactly_two(known: tuple[str, ...], method: str) -> None:
    """Raise LabError unless there is one way there and one back."""
    if len(known) != 2:
        raise LabError(f"{method} is of two modalities: the task has {', '.join(known)}", where=method)


def source_and_target(problem: Problem, method: str) -> tuple[str, str]:
    """The one labelled modality and the one without labels. Raises LabError unless the task has just these two."""
    if len(problem.labelled) != 1 or len(problem.unlabelled) != 1:
        raise LabError(
            f"{method} adapts from one labelled modality to one without labels: the task labels "
            f"{', '.join(problem.labelled) or 'none'} and leaves {', '.join(problem.unlabelled) or 'none'}",
            where=method,
        )
    return problem.labelled[0], problem.unlabelled[0]


def a_multiple(size: int, of: int, method: str) -> None:
    """Raise LabError if slices of `size` pixels do not come back from the network's levels."""
    if size % of:
        raise LabError(f"{method} needs slices of a multiple of {of} pixels, these have {size}", where=method)


def side_by_side(images: Mapping[str, Tensor], known: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """The images of all modalities in one tensor (b, k, h, w), and the place of each one's modality (b,) in `known`."""
    places = [torch.full((len(image),), index_of(m, known), device=image.device) for m, image in images.items()]
    return torch.cat(list(images.values())), torch.cat(places)


def _read_as(value: Any, default: Any, where: str) -> Any:
    kind = type(default)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    try:
        if kind is bool and str(value).lower() in ("true", "false", "1", "0"):
            return str(value).lower() in ("true", "1")
        if kind in (int, float, str):
            return kind(value)
        if kind is tuple:
            parts = str(value).split(",") if isinstance(value, str) else list(value)
            return tuple(type(default[0])(part) if default else part for part in parts)
    except ValueError:
        pass
    raise LabError(f"value {value!r} does not fit, {kind.__name__} expected (default {default!r})", where=where)
