"""What is learned, from what, and how: corpus, model, optimizer, training loop."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from pipeline.config.base import Section

if TYPE_CHECKING:
    # A null stands for what follows from the depth. Config replaces it: whoever reads one finds a number.
    Count: TypeAlias = int
    Rate: TypeAlias = float
else:
    Count, Rate = int | None, float | None
BY_SIZE: Any = None
WIDEST_HEAD = 256  # [channels]


class Corpus(Section):
    """Where the text comes from and how it becomes tokens."""

    source: Literal["python-docs", "text", "tokens", "tiny-shakespeare"] = Field(
        "python-docs",
        description="python-docs: what ships inside CPython; text: your files; tokens: uint16/uint32 files as nanoGPT "
        "and llm.c write them; tiny-shakespeare: downloaded once, or taken from corpus.path",
    )
    path: str | None = Field(
        None, min_length=1, description="File, folder or glob (sources text, tokens, tiny-shakespeare)"
    )
    field: str = Field("text", description="Name of the field that holds the text in .jsonl files")
    limit_mb: float | None = Field(None, gt=0, description="Take at most this much text [MB]; null: all of it")
    tokenizer: Literal["byte", "char", "bpe", "given"] = Field(
        "bpe", description="How text becomes tokens; given: by the tokenizer of init_from"
    )
    vocab_size: int = Field(
        4096, ge=1, le=262144, description="Vocabulary of a trained BPE, of `tokens` files, or of init_from [tokens]"
    )
    held_out: float = Field(0.1, gt=0, le=0.5, description="Share of the text kept for validation")
    split: Literal["tail", "documents"] = Field(
        "tail", description="tail: the last share of the text; documents: whole files chosen by hash"
    )
    cache_dir: Path = Field(Path("data/cache"), description="Where downloads and token caches are kept")

    @model_validator(mode="after")
    def _path_given(self) -> "Corpus":
        if self.source in ("text", "tokens") and not self.path:
            raise ValueError(f"corpus.path: null, but corpus.source is {self.source}; name a file, a folder or a glob")
        if self.source == "python-docs" and self.path:
            raise ValueError(f"corpus.path: {self.path}: of no effect with corpus.source python-docs; set that to text")
        return self

    @model_validator(mode="after")
    def _vocabulary_holds_bytes(self) -> "Corpus":
        if self.tokenizer == "bpe" and self.source != "tokens" and self.vocab_size < 257:
            raise ValueError(f"corpus.vocab_size: {self.vocab_size}, but a BPE begins with 256 bytes; give 257 or more")
        return self


class Model(Section):
    """Decoder-only, Qwen3-shaped. A null is derived, so that the depth alone makes a sound model."""

    depth: int = Field(4, ge=1, le=256, description="Layers")
    width: Count = Field(
        BY_SIZE, ge=8, le=16384, multiple_of=8, description="Residual stream [channels]; null: 64 times the depth"
    )
    heads: int | None = Field(None, ge=1, description="Query heads; null: width / head_dim")
    kv_heads: int | None = Field(None, ge=1, description="Key and value heads (grouped-query attention); null: heads")
    head_dim: int | None = Field(
        None,
        ge=2,
        le=WIDEST_HEAD,
        multiple_of=2,
        description="Channels of one head; null: width / heads, or 64, or 32 if narrow",
    )
    hidden: int | None = Field(None, ge=8, description="SwiGLU hidden width; null: 8/3 of width, rounded up to 32")
    context: int = Field(256, ge=2, le=131072, description="Context length [tokens]")
    rope_theta: float = Field(10000.0, gt=1, description="Base of the rotary position embedding")
    norm_eps: float = Field(1e-6, gt=0, description="RMSNorm epsilon")
    attention: Literal["xla", "cudnn"] = Field(
        "xla", description="Kernel: xla (plain, any device) or cudnn (flash attention on an NVIDIA GPU, in 16 bits)"
    )
    remat: Literal["none", "dots", "block"] = Field(
        "none",
        description="Gradient checkpointing, from fastest to smallest: none; dots (keep layer inputs and products with "
        "matrices); block (keep layer inputs, recompute the rest)",
    )

    @model_validator(mode="after")
    def _shapes_agree(self) -> "Model":
        made = self.resolved(width=64 * self.depth)
        if self.heads and self.head_dim is None and made.width % (2 * self.heads):
            raise ValueError(f"model.heads: {self.heads} does not give an even head_dim at width {made.width}")
        if made.channels_per_head > WIDEST_HEAD:
            raise ValueError(
                f"model.head_dim: {made.channels_per_head}, from model.heads {self.heads} at width {made.width}, but a "
                f"head has at most {WIDEST_HEAD} channels; raise model.heads"
            )
        if made.query_heads % made.key_heads:
            raise ValueError(f"model.kv_heads: {self.key_heads} does not divide model.heads {made.query_heads}")
        return self

    def complete(self) -> "Model":
        """With a number for every null."""
        made = self.resolved(width=64 * self.depth)
        made = made.resolved(head_dim=made.channels_per_head, hidden=made.hidden_width, heads=made.query_heads)
        return made.resolved(kv_heads=made.heads)

    @property
    def query_heads(self) -> int:
        return self.heads or max(1, self.width // self.channels_per_head)

    @property
    def key_heads(self) -> int:
        return self.kv_heads or self.query_heads

    @property
    def channels_per_head(self) -> int:
        if self.head_dim:
            return self.head_dim
        if self.heads:
            return self.width // self.heads
        return min(self.width, 64 if self.width >= 256 else 32)

    @property
    def hidden_width(self) -> int:
        return self.hidden or -(-self.width * 8 // 3 // 32) * 32


class Optimizer(Section):
    """AdamW for all parameters, or Muon for matrices with AdamW for embeddings and norms."""

    name: Literal["adamw", "muon"] = Field("muon", description="Optimizer of the matrices")
    lr: Rate = Field(BY_SIZE, gt=0, le=1, description="Peak learning rate of AdamW; null: by width (recipe.py)")
    muon_lr: Rate = Field(
        BY_SIZE, gt=0, le=1, description="Peak learning rate of Muon (update RMS 0.2, as AdamW's); null: by width"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW first-moment decay")
    beta2: float = Field(0.99, ge=0, lt=1, description="AdamW second-moment decay")
    momentum: float = Field(0.95, ge=0, lt=1, description="Muon momentum")
    weight_decay: float = Field(0.1, ge=0, le=10, description="Decoupled weight decay of matrices")
    clip_norm: float = Field(1.0, gt=0, description="Global gradient norm above which gradients are scaled down")
    warmup_steps: int = Field(100, ge=0, description="Linear learning-rate warmup [steps]")
    cooldown: float = Field(0.4, ge=0, le=1, description="Last share of the steps, over which the rate falls to zero")


class Train(Section):
    """The training loop. Global batch is constant: power decides when steps run, never what they compute."""

    batch: Count = Field(BY_SIZE, ge=1, description="Global batch [sequences]; null: by depth (recipe.py)")
    microbatch: int | None = Field(None, ge=1, description="Sequences at a time; null: the whole batch")
    chunk_steps: int = Field(10, ge=1, le=1000, description="At most this many steps in one dispatch")
    precision: Literal["fp32", "mixed", "bf16", "fp16", "fp8"] = Field(
        "bf16",
        description="Compute type; master parameters stay fp32. mixed: fp32, but products in the layers round "
        "their factors to bf16, which a CPU with AVX512-BF16 multiplies faster; fp16: with dynamic "
        "loss scaling, where bf16 is not; fp8: bf16, but all products with weights, save those that are "
        "their gradients, take factors of 8 bits, for Hopper and later",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where it runs; auto: the best that JAX finds")
    eval_every: int = Field(500, ge=1, description="Steps between validations")
    eval_batches: int | None = Field(
        None, ge=1, description="Validate on at most this many batches; null: all held-out text"
    )
    max_skipped: int = Field(
        10, ge=1, description="Stop after this many updates in a row skipped for a non-finite loss or gradient"
    )
    log_every: int = Field(10, ge=1, description="Steps between metric lines in the ledger and the tracker")
    tracker: Literal["tensorboard", "wandb", "none"] = Field(
        "tensorboard",
        description="Who gets the curves besides the ledger: tensorboard; wandb (offline, in RUN/wandb); none",
    )
    replay_every: int | None = Field(
        200,
        ge=1,
        description="One step in so many is computed twice and compared bit for bit, at that share of the time, and "
        "besides what stands out by loss or gradient norm; keeps two more states in device memory. null: none is",
    )
