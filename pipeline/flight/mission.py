"""The scenario of a configuration: its orbit, satellite and GPU, and what a step of its model costs."""

from dataclasses import replace

from pipeline.config import Config
from pipeline.config.learning import Corpus
from pipeline.lm.flops import token_flops
from pipeline.plan import Scenario, scenario

CHAR_VOCABULARY = 128  # of a corpus not read yet
SENSOR_K = 1.0  # by so much may what measures the plate err
SIGMAS = 3.0  # of a noise that is known


def mission(config: Config, vocab_size: int | None = None) -> Scenario:
    """The scenario that `config` describes; `vocab_size` null: of a run whose corpus has not been read.

    Raises:
        BadInput: elements that cannot be read.
    """
    vocabulary = unread_vocabulary(config.corpus) if vocab_size is None else vocab_size
    flops = token_flops(config.model, vocabulary) * config.tokens_per_step
    made, telemetry = scenario(config.orbit, config.satellite, config.gpu, config.mission, flops), config.telemetry
    if config.mission.policy != "optimal":  # which alone plans to stay at the limit, where the watchdog stands too
        return made
    kept_k = SENSOR_K if telemetry.source != "simulated" else SIGMAS * telemetry.temperature_noise_k
    limits = {name: getattr(made.plant, name) - kept_k for name in ("limit_c", "junction_limit_c")}
    return replace(made, plant=replace(made.plant, **limits))


def unread_vocabulary(corpus: Corpus) -> int:
    """Tokens that the vocabulary of a corpus not read yet is taken to have."""
    return {"byte": 256, "char": CHAR_VOCABULARY}.get(corpus.tokenizer, corpus.vocab_size)
