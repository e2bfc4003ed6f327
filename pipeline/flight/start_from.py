"""How a run begins from the weights of another model, and why it needs them only once.

`settle` takes shape and tokenizer from the folder that `init_from` names, before anything else looks at the
configuration. The first launch seals the weights as step 0. From then on the run directory has all that a resume needs.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.config import BadInput, Config, Refused
from pipeline.config.learning import Corpus, Model
from pipeline.flight.recorded import TOKENIZER, begun_with, was_sealed, whole_tokenizers

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.flight.open_weights import OpenWeights
    from pipeline.lm.model import Params
    from pipeline.lm.step import TrainState


def settle(config: Config) -> Config:
    """`config` with what `init_from` decides: the model's shape, the tokenizer and its vocabulary.

    A run that has begun says so itself, in its config.yaml. What the configuration gives explicitly must agree.

    Raises:
        BadInput: a key that was given conflicts, or the folder holds no model of this family.
    """
    if config.init_from is None:
        return config
    begun = _begun(config)
    if begun:
        from pipeline.lm import qwen3

        fixed = {key: getattr(begun.model, key) for key in (*qwen3.SHAPE.values(), "rope_theta")}
        fixed["context"] = _given(config.model).get("context", begun.model.context)
        vocab_size, sha256 = begun.corpus.vocab_size, begun.init_sha256
    else:
        weights = _folder(config)
        fixed, vocab_size, sha256 = weights.shape, weights.vocab_size, config.init_sha256
        fixed["context"] = _context(config, weights.longest)
    brought = {"tokenizer": "given", "vocab_size": vocab_size}
    _require_agreement(config, "model", fixed)
    _require_agreement(config, "corpus", brought)
    try:
        model = Model(**(_given(config.model) | fixed))
        corpus = Corpus(**(_given(config.corpus) | brought))
        decided = {"model": model, "corpus": corpus, "init_sha256": config.init_sha256 or sha256}
        return Config(**(dict(config) | decided))  # batch and learning rates follow from this model
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ".".join(map(str, first["loc"])) or "its shape"
        raise BadInput(f"init_from: {config.init_from}: {what}: {first['input']!r}: {first['msg']}") from error


def tokenizer(config: Config) -> "Tokenizer | None":
    """The tokenizer that the run was given: that of the run's directory, its second device, the cache of its tokens or
    the folder which is as it was sealed; or else the first that can be read, which `record_tokenizer` does not take
    for the run's."""
    if config.init_from is None:
        return None
    from pipeline.flight.open_weights import read_tokenizer

    brought = config.init_from / TOKENIZER
    if _begun(config):
        places = [place for place in (config.directory, config.mirror) if place]
        whole = whole_tokenizers(places, config.corpus.cache_dir)
        # A run that began when the folder's cut or padded the text goes on with that: it was sealed as it is.
        tries = [(place, True) for place in (*whole, config.init_from)] + [(config.init_from, False)]
        for place, as_it_is in tries + [(place, True) for place in places]:
            with suppress(BadInput):  # not there, or damaged
                found = read_tokenizer(place / TOKENIZER, config.corpus.vocab_size, as_it_is)
                if place != config.init_from or was_sealed(found, places):
                    return found
    if config.corpus.source == "tokens" and not brought.exists():
        return None
    return read_tokenizer(brought, config.corpus.vocab_size)


def first_params(config: Config) -> "tuple[Params, str]":
    """The weights to begin with, and the SHA-256 of the folder that they come from.

    Raises:
        BadInput: the folder is gone, damaged, or no longer what `init_sha256` says.
    """
    weights = _folder(config)
    sha256 = weights.sha256()
    if config.init_sha256 not in (None, sha256):
        raise Refused(
            f"init_sha256: {config.init_sha256}, but {config.init_from} is {sha256}; give the folder that was meant, "
            "or another --run_dir"
        )
    return weights.params(config.model), sha256


def begin(config: Config, make: "Callable[..., TrainState]") -> "tuple[TrainState, Config]":
    """The state before step 0, from the seed alone or with the weights of `init_from`; `config` with their hash.

    Raises:
        BadInput: as `first_params`.
    """
    if config.init_from is None:
        return make(), config
    params, sha256 = first_params(config)
    return make(params), config.model_copy(update={"init_sha256": sha256})


def _begun(config: Config) -> Config | None:
    """The configuration saved by an earlier launch from the same folder."""
    saved = begun_with(config)
    return saved if saved and saved.init_from == config.init_from else None


def _folder(config: Config) -> "OpenWeights":
    from pipeline.flight.open_weights import open_weights

    return open_weights(config.init_from or Path())


def _context(config: Config, longest: int) -> int:
    """Training sequences may be shorter than the weights allow, and by default are."""
    if "context" not in config.model.model_fields_set:
        return min(config.model.context, longest)
    if config.model.context > longest:
        raise BadInput(
            f"model.context: {config.model.context}, but init_from: {config.init_from} allows {longest}; lower it"
        )
    return config.model.context


def _given(section: Model | Corpus) -> dict[str, Any]:
    return {key: getattr(section, key) for key in section.model_fields_set}


def _require_agreement(config: Config, name: str, brought: dict[str, Any]) -> None:
    given = _given(getattr(config, name))
    if wrong := [key for key in brought if given.get(key) not in (None, brought[key])]:
        conflicts = ", ".join(f"{name}.{key} {given[key]} (there {brought[key]})" for key in wrong)
        raise BadInput(f"{conflicts}: conflicts with init_from: {config.init_from}; leave it out")
