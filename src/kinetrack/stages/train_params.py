"""The params of the stage `train`: sections `model` and `train`, and what else a training takes."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field
from pydantic import model_validator as validator

from kinetrack.data.decoding import Decoding
from kinetrack.data.sampling import ClipGeometry
from kinetrack.learning.augment import AugmentParams
from kinetrack.learning.fitting import Keep
from kinetrack.learning.inputs import ClipInput
from kinetrack.learning.models import ModelName
from kinetrack.learning.optimising import OptimiserName, Schedule
from kinetrack.learning.training import Precision
from kinetrack.params import Section, load_part, load_section

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Text = Annotated[str, Field(min_length=1)]


class ModelParams(Section):
    """Section `model` of params.yaml."""

    name: ModelName
    """Which network."""
    weights: Text | None
    """Pretrained weights to start from: the name that torchvision has for them, or a file; null
    starts from chance."""
    weights_sha256: Text | None
    """Of that file."""
    backbone: Literal["trained", "frozen"]
    """Whether all layers are trained, or only the head that tells the classes."""


class TrainParams(Section):
    """Section `train` of params.yaml."""

    epochs: Count
    """How often every training clip is seen, at most."""
    batch_size: Count
    """Clips of one optimiser step, over all processes."""
    micro_batch: Count
    """Clips that go through the network at once; bounds the memory, not the gradient."""
    precision: Precision
    """Of the calculation: "fp32", or "bf16" where that is accurate enough (weights stay fp32)."""
    optimiser: OptimiserName
    """Adam, AdamW (weight decay apart from the gradient), or SGD with Nesterov's momentum."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)]
    """The largest step size; `schedule` says when."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Of "sgd"."""
    weight_decay: Annotated[float, Field(ge=0, le=1000)]
    """Pull of the weights towards 0; not of biases and norms."""
    schedule: Schedule
    """How the rate goes on: "constant", "cosine" (falls towards 0), "step" (a tenth after every
    `step_epochs`), or "one_cycle" (rises for `warmup_epochs`, then falls to 0)."""
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000)]
    """Epochs in which the rate rises."""
    step_epochs: Count | None
    """Of "step"."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Share of each label that is spread over all classes."""
    class_weights: Literal["none", "balanced"]
    """Whether clips of rare classes count for more: as if all classes had as many."""
    clip_gradient: Annotated[float, Field(gt=0, le=1e9)] | None
    """Longest gradient (Euclidean norm); null does not limit it."""
    keep: Keep
    """Which weights are the model: those of the "last" epoch, or the "best" on the `val` side."""
    patience: Count | None
    """Training ends after so many epochs without a better one on the `val` side; null goes on."""
    init_from: Text | None
    """Another model to start from: a model folder, `run:ID` or `models:/NAME@ALIAS` of MLflow."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Of the first weights, the order of the clips, and all that is drawn of them."""
    threads: Annotated[int, Field(ge=1, le=256)]
    """Threads on a CPU, over all processes; fixed: another number gives other last bits."""
    watch: Annotated[list[Literal["val", "test"]], Field(max_length=2)]
    """Sides whose loss and accuracy are taken after every epoch."""

    @validator(mode="after")
    def _choices_go_together(self) -> Self:
        if (self.keep == "best" or self.patience) and "val" not in self.watch:
            raise ValueError("keep best and patience need val in watch")
        if self.warmup_epochs >= self.epochs:
            raise ValueError("warmup_epochs should be fewer than epochs")
        if self.schedule == "one_cycle" and not self.warmup_epochs:
            raise ValueError("schedule one_cycle needs warmup_epochs, in which the rate rises")
        if self.schedule == "step" and not self.step_epochs:
            raise ValueError("schedule step needs step_epochs")
        return self


class Settings(NamedTuple):
    """The sections that a training depends on."""

    decoding: Decoding
    """Of section `frames`: for those who use the model."""
    pack: ClipGeometry
    input: ClipInput
    augment: AugmentParams
    model: ModelParams
    train: TrainParams


def load_settings() -> Settings:
    """Read what a training takes from `params.yaml` in the working directory.

    Raises:
        InputError: a section is missing or has a mistake.
    """
    return Settings(
        decoding=load_part(Decoding, "frames"),
        pack=load_section(ClipGeometry, "pack"),
        input=load_section(ClipInput, "input"),
        augment=load_section(AugmentParams, "augment"),
        model=load_section(ModelParams, "model"),
        train=load_section(TrainParams, "train"),
    )
