"""The whole configuration of a run."""

from datetime import datetime
from pathlib import Path

from pydantic import Field, model_validator

from pipeline.config import recipe
from pipeline.config.base import Section
from pipeline.config.learning import Corpus, Model, Optimizer, Train
from pipeline.config.mission import Gpu, Mission, Orbit, Satellite, Telemetry

STARCLOUD_1 = Orbit(
    tle=(
        "1 66303U 25248L   26207.16029198  .00005005  00000+0  22976-3 0  9990",
        "2 66303  45.3997 271.0639 0006321 268.1150  91.9012 15.21652070 40476",
    ),
    source="catalogue elements of NORAD 66303",
)


class Budget(Section):
    """What may be spent. The first limit reached ends the run; the learning rate reaches zero there."""

    steps: int | None = Field(None, ge=1, description="Optimizer steps")
    tokens: int | None = Field(None, ge=1, description="Training tokens")
    orbits: float | None = Field(None, gt=0, description="Revolutions")
    wh: float | None = Field(None, gt=0, description="Energy drawn by GPU and host while training [Wh]")
    until: datetime | None = Field(None, description="UTC at which the run must be done, as 2026-12-24T00:00Z")
    margin: float = Field(
        0.005, ge=0, lt=0.5, description="Share of the forecast kept back when orbits, energy or a date end the run"
    )


class Checkpoint(Section):
    """When the state is saved, and what is kept."""

    interval_s: float = Field(
        600.0, gt=0, description="Longest time between saves, on the mission's clock and on the wall's [s]"
    )
    notice_s: float = Field(
        20.0,
        gt=0,
        description="Power lasts so long after SIGTERM or SIGPWR; a launch that seals slower than that, or than the "
        "20 s ahead of which a planned stop is announced, is refused [s]",
    )
    mtbf_s: float = Field(
        86400.0,
        gt=0,
        description="Assumed mean time between faults that nothing announces, in the quiet part of the orbit [s]; over "
        "the South Atlantic they are as much more frequent as the hazard model says",
    )
    keep: int = Field(3, ge=2, description="Newest sealed checkpoints kept")
    keep_orbits_s: float = Field(
        86400.0, ge=0, description="For so long the last checkpoint of each orbit is kept besides [mission s]"
    )
    min_free_mb: float = Field(200.0, ge=0, description="Free space left on the disk after a save [MB]")
    write_budget_gb_day: float | None = Field(
        200.0,
        gt=0,
        description="What saves may write in a day of mission time [GB]: flash wears out. When it is spent, only the "
        "saves before stops go on. null: no limit",
    )
    mirror_dir: Path | None = Field(
        None, description="Directory on a second device; sealed checkpoints are copied to NAME/ in it. null: none"
    )
    mirror_every: int = Field(1, ge=1, description="Every so many sealed checkpoints one is copied there")
    scrub_every_s: float = Field(
        600.0, gt=0, description="How often one sealed checkpoint is read again and checked, by the wall's clock [s]"
    )


class Config(Section):
    name: str = Field("run", pattern=r"^[A-Za-z0-9._-]+$", description="Label; the run goes to runs/NAME")
    run_dir: Path | None = Field(None, description="Where the run lives; null: runs/NAME")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of parameters and data order")
    init_from: Path | None = Field(
        None,
        description="Folder of a Qwen3-shaped model (config.json, safetensors, tokenizer.json) to start from, which "
        "brings model shape and tokenizer; null: fresh parameters",
    )
    init_sha256: str | None = Field(
        None, description="SHA-256 over the files of init_from; null: written to config.yaml when the run begins"
    )
    corpus: Corpus = Field(Corpus(), description="Text")
    model: Model = Field(Model(), description="Network")
    optimizer: Optimizer = Field(Optimizer(), description="Optimizer and learning-rate schedule")
    train: Train = Field(Train(), description="Training loop")
    budget: Budget = Field(Budget(), description="What may be spent")
    checkpoint: Checkpoint = Field(Checkpoint(), description="Saving")
    orbit: Orbit = Field(STARCLOUD_1, description="Orbit")
    satellite: Satellite = Field(Satellite(), description="Satellite")
    gpu: Gpu = Field(Gpu(), description="GPU")
    mission: Mission = Field(Mission(), description="Clock, policy and ground stations")
    telemetry: Telemetry = Field(Telemetry(), description="Measured charge and temperature")

    @property
    def directory(self) -> Path:
        return self.run_dir or Path("runs") / self.name

    @property
    def mirror(self) -> Path | None:
        """The run's directory on the second device."""
        return self.checkpoint.mirror_dir and self.checkpoint.mirror_dir / self.directory.absolute().name

    @property
    def tokens_per_step(self) -> int:
        return self.train.batch * self.model.context

    @model_validator(mode="after")
    def _from_size(self) -> "Config":
        model = self.model.complete()
        train = self.train.resolved(batch=recipe.batch(model))
        if train.microbatch and train.batch % train.microbatch:
            raise ValueError(f"train.microbatch: {train.microbatch} does not divide train.batch {train.batch}")
        optimizer = self.optimizer.resolved(lr=recipe.lr(model), muon_lr=recipe.muon_lr(model))
        for name, section in (("model", model), ("train", train), ("optimizer", optimizer)):
            object.__setattr__(self, name, section)  # for the last time: it is frozen
        return self

    @model_validator(mode="after")
    def _hardware_is_real(self) -> "Config":
        if self.telemetry.source != "simulated" and self.mission.clock == "simulated":
            raise ValueError(
                f"telemetry.source: {self.telemetry.source} needs mission.clock real; nothing else keeps its time"
            )
        if self.gpu.actuator != "simulated" and self.mission.clock == "simulated":
            raise ValueError(f"gpu.actuator: {self.gpu.actuator} needs mission.clock real; simulated time caps nothing")
        return self

    @model_validator(mode="after")
    def _tokenizer_is_given(self) -> "Config":
        if self.corpus.tokenizer == "given" and self.init_from is None:
            raise ValueError("corpus.tokenizer: given, but init_from is null; name the folder that brings it")
        return self

    @model_validator(mode="after")
    def _kernels_fit(self) -> "Config":
        if self.model.attention != "cudnn":
            return self
        if self.train.precision in ("fp32", "mixed"):
            raise ValueError(
                f"model.attention: cudnn attends in 16 bits, and train.precision is {self.train.precision}; give bf16, "
                "fp16 or fp8, or model.attention xla"
            )
        if (channels := self.model.channels_per_head) % 8:  # `Model` allows 256 at most
            raise ValueError(
                f"model.head_dim: {channels}: cudnn attends with heads of a multiple of 8 channels, at most 256; give "
                "such a one, or model.attention xla"
            )
        return self
