"""What an entry of `data_manifest.yaml` may hold; every field is checked, an unknown one is an error.

`xmod_lab.data.manifest` reads the files and hands these models out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from xmod_lab import paths
from xmod_lab.errors import LabError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _relative(value: str) -> str:
    if value.startswith(("/", "~")) or ".." in Path(value).parts:
        raise ValueError("must stay inside the data set's folder")
    return value


class _Strict(BaseModel):
    """Unknown fields are errors: a misspelt one must not be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RemoteFile(_Strict):
    """One download. `path` is relative to the data set's folder; `sha256`/`bytes` are null until locked."""

    path: str
    urls: list[str] = Field(min_length=1)
    sha256: Sha256 | None = None
    bytes: int | None = Field(default=None, ge=0)
    unpack: bool = False
    """Unpack the archive into a folder `into` of its own below the data set's folder, then remove it."""
    into: str = ""
    strip: int = Field(default=0, ge=0)
    """Leading folders to drop from the members' names when unpacking."""

    @field_validator("path", "into")
    @classmethod
    def _inside(cls, value: str) -> str:
        return _relative(value)

    @model_validator(mode="after")
    def _own_folder(self) -> RemoteFile:
        if self.unpack != bool(self.into):
            raise ValueError("into: unpack needs a folder of its own, so that what is finished can be told")
        return self


class LabelFiles(_Strict):
    """Where the labels of a patient lie: one file of label values, or one binary mask a structure (`masks`)."""

    pattern: str | None = None
    masks: dict[str, str] = Field(default_factory=dict)
    """structure -> file pattern, for data sets with one binary mask a structure."""
    values: dict[int, str] = Field(default_factory=dict)
    """stored value -> structure; 0 is background and need not be listed."""
    manual: bool = True
    """False for masks drawn by a program: such scores never count as accuracy."""

    @model_validator(mode="after")
    def _one_form(self) -> LabelFiles:
        if bool(self.pattern) == bool(self.masks):
            raise ValueError("give either pattern with values, or masks")
        if self.pattern and not self.values:
            raise ValueError("values is empty: list what each stored label value means")
        return self

    @property
    def structures(self) -> list[str]:
        if self.masks:
            return list(self.masks)
        return list(dict.fromkeys(name for value, name in sorted(self.values.items()) if value != 0))


class Modality(_Strict):
    """One modality: `pattern` holds ``{patient}``; `label` replaces the data set's own where the files differ.

    A pattern without ``{patient}`` means one patient only, named after the file's folder or the data set's key.
    """

    kind: Literal["MR", "CT"]
    pattern: str
    label: LabelFiles | None = None

    @field_validator("pattern")
    @classmethod
    def _inside(cls, value: str) -> str:
        return _relative(value)


class Split(_Strict):
    """Split by patient: fold f tests on part f of `folds` of the shuffled patients; `val` of the rest validates.

    disjoint: each fold is a data set of its own, part f of the patients, and tests on a third of them (UAGAN).
    most: training patients that each modality keeps, to learn from few; those of 2 are among those of 4.
    like: of a task that stacks these modalities: it tests whom a task of theirs tests, if each patient has them all.
    """

    folds: int = Field(default=4, ge=2)
    disjoint: bool = False
    most: int | None = Field(default=None, ge=2)
    like: list[str] = Field(default_factory=list)
    val: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0


class Task(_Strict):
    """What is learned from a data set."""

    title: str
    labelled: list[str] = Field(default_factory=list)
    """modalities whose labels training may read; empty for a task without classes (translation, registration)"""
    unlabelled: list[str] = Field(default_factory=list)
    """modalities whose labels nothing reads before evaluation"""
    tested: list[str] = Field(min_length=1)
    classes: dict[str, list[str]] = Field(default_factory=dict)
    """class name -> structures it unites; class index = position + 1, 0 is background. May not overlap."""
    regions: dict[str, list[str]] = Field(default_factory=dict)
    """region name -> class names it unites, scored beside the classes (whole tumour, tumour core)"""
    reported: list[str] = Field(default_factory=list)
    """classes and regions that tables and claims are about, in the tables' order; empty: every class, no region"""
    draw: Literal["unpaired", "paired"] = "unpaired"
    """paired: the same slices of registered data, or of a task whose overrides register"""
    one_modality_per_patient: bool = True
    """each training patient contributes one modality only, dealt round-robin; test patients show all they have"""
    neighbours: Literal[1, 3] = 1
    stack: list[str] = Field(default_factory=list)
    """registered modalities stacked as channels of one input, named by joining them with '+'"""
    recipe: str
    """key of RECIPES (xmod_lab.data.recipes)"""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """recipe fields that this task sets otherwise"""
    split: Split = Field(default_factory=Split)
    default: bool = False

    @property
    def modalities(self) -> list[str]:
        return [*self.labelled, *self.unlabelled]

    @property
    def class_names(self) -> list[str]:
        return list(self.classes)

    @property
    def structures(self) -> list[str]:
        """What tables and claims are about."""
        return self.reported or self.class_names

    @property
    def register(self) -> Any:
        """The modality onto whose grid the others are brought, or None (`Recipe.register`); only `overrides` name it,
        since a recipe belongs to no data set."""
        return self.overrides.get("register")


class Dataset(_Strict):
    """One entry of the manifest."""

    key: str
    title: str
    licence: str
    citation: str
    homepage: str
    access: Literal["phantom", "open", "registration", "joined", "own"]
    """`joined`: made of other entries (`parts`); `own`: a reader's folder, only in the user's manifest"""
    steps: list[str] = Field(default_factory=list)
    """what a person does to obtain it, one sentence each (access: registration)"""
    parts: list[str] = Field(default_factory=list)
    """keys of the entries it joins (access: joined); patterns then begin with the part's key as folder"""
    location: str | None = None
    """absolute path of the folder (access: own)"""
    convert: str | None = None
    """name of the converter in xmod_lab.data.convert that turns what is downloaded into the layout below"""
    demonstration: bool = False
    """too few patients for a split and unpaired drawing: patients may be reused, and no score counts"""
    phantom: dict[str, Any] = Field(default_factory=dict)
    """parameters of the generator (access: phantom)"""
    files: list[RemoteFile] = Field(default_factory=list)
    relation: Literal["independent", "same_subject", "registered"]
    unit: Literal["mm", "voxel"] = "mm"
    """voxel: the voxel size was lost, distances are in voxels"""
    orientation: str | None = None
    """axis codes such as LPS, for files whose affine does not say; null: the affine counts"""
    modalities: dict[str, Modality] = Field(min_length=1)
    label: LabelFiles | None = None
    foreground: str | None = None
    """pattern of a mask of the body or brain, where the data set ships one"""
    notes: str = ""
    tasks: dict[str, Task] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Dataset:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.key):
            raise ValueError("key: use lower-case letters, digits, _ and - only; it names folders")
        if bad := [m for m in self.modalities if not re.fullmatch(r"[\w-]+", m) or m.endswith("-")]:
            raise ValueError(f"modalities: {bad[0]!r} may hold letters, digits, _ and - only ('+' joins, '->' derives)")
        if self.access == "registration" and not self.steps:
            raise ValueError("steps: access 'registration' needs the steps a person takes")
        if self.access == "phantom" and not self.phantom:
            raise ValueError("phantom: access 'phantom' needs the generator's parameters")
        if self.access == "open" and not self.files:
            raise ValueError("files: access 'open' needs at least one file")
        if (self.access == "joined") != bool(self.parts):
            raise ValueError("parts: go with access 'joined', and it needs them")
        if (self.access == "own") != bool(self.location):
            raise ValueError("location: goes with access 'own', and it needs one")
        if self.location and not Path(self.location).is_absolute():
            raise ValueError("location: must be an absolute path")
        for name, task in self.tasks.items():
            self._check_task(name, task)
        if sum(task.default for task in self.tasks.values()) > 1:
            raise ValueError("tasks: more than one is the default")
        return self

    def _check_task(self, name: str, task: Task) -> None:
        known = set(self.modalities) | {"+".join(task.stack)} - {""}
        for modality in [*task.modalities, *task.tested, *task.stack]:
            if modality not in known:
                raise ValueError(f"tasks.{name}: unknown modality {modality!r}, known are {sorted(known)}")
        if overlap := set(task.labelled) & set(task.unlabelled):
            raise ValueError(f"tasks.{name}: {sorted(overlap)} both labelled and unlabelled")
        if bool(task.labelled) != bool(task.classes):
            raise ValueError(f"tasks.{name}: labelled modalities and classes go together")
        if not task.modalities:
            raise ValueError(f"tasks.{name}: names no modality to train on")
        for modality in [*task.labelled, *(task.tested if task.classes else [])]:
            files = self._label(modality)
            if files is None:
                raise ValueError(f"tasks.{name}: modality {modality!r} has no label")
            structures = set(files.structures)
            for cls, members in task.classes.items():
                if missing := set(members) - structures:
                    raise ValueError(f"tasks.{name}.classes.{cls}: unknown structure {sorted(missing)}")
        members = [s for group in task.classes.values() for s in group]
        if len(members) != len(set(members)):
            raise ValueError(f"tasks.{name}.classes: a structure belongs to two classes")
        for region, group in task.regions.items():
            if missing := set(group) - set(task.classes):
                raise ValueError(f"tasks.{name}.regions.{region}: unknown class {sorted(missing)}")
        if unknown := set(task.reported) - {*task.classes, *task.regions}:
            raise ValueError(f"tasks.{name}.reported: unknown class or region {sorted(unknown)}")
        if unknown := set(task.split.like) - set(task.stack):
            raise ValueError(f"tasks.{name}.split.like: {sorted(unknown)} not in the stack")
        if task.register is not None:
            self._check_registration(name, task)
        elif task.draw == "paired" and self.relation != "registered":
            raise ValueError(f"tasks.{name}.draw: paired needs relation 'registered', not {self.relation!r}, or "
                             "overrides that register")

    def _check_registration(self, name: str, task: Task) -> None:
        if task.register not in self.modalities:
            raise ValueError(f"tasks.{name}.overrides.register: unknown modality {task.register!r}, "
                             f"known are {sorted(self.modalities)}")
        for wrong, why in (
            (self.relation != "same_subject", f"needs relation 'same_subject', not {self.relation!r}"),
            (self.unit != "mm" or self.orientation is not None, "needs files that tell where they lie, in mm"),
            (bool(task.classes), "goes with a task without classes: labels are not moved"),
        ):
            if wrong:
                raise ValueError(f"tasks.{name}.overrides.register: {why}")

    def label_of(self, modality: str) -> LabelFiles:
        """The label files of `modality`, for a stack the first member's. Raises LabError if it has none (RIRE)."""
        label = self._label(modality)
        if label is None:
            raise LabError(f"data set {self.key!r} has no labels for {modality}", mend="choose a task that needs none")
        return label

    def _label(self, modality: str) -> LabelFiles | None:
        return self.modalities[modality.split("+")[0]].label or self.label

    @property
    def default_task(self) -> str:
        return next((name for name, task in self.tasks.items() if task.default), next(iter(self.tasks)))

    def task(self, name: str | None = None) -> Task:
        """The task called `name`, or the default one. Raises LabError for an unknown name."""
        name = name or self.default_task
        if name not in self.tasks:
            raise LabError(f"data set {self.key!r} has no task {name!r}", mend=f"it has {', '.join(self.tasks)}")
        return self.tasks[name]

    @property
    def folder(self) -> Path:
        """Where its files lie. A joined entry's folder is the one that holds all its parts."""
        if self.location:
            return Path(self.location)
        if self.parts:
            roots = [paths.data_folder(part).parent for part in self.parts]
            complete = (root for root in roots if all((root / part).is_dir() for part in self.parts))
            return next(complete, paths.data_home())
        return paths.data_folder(self.key)
