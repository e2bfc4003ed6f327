"""The text that a model is judged on."""

from typing import TYPE_CHECKING

from pipeline.config import BadInput
from pipeline.ground.arguments import user_cache
from pipeline.ground.run_directory import RunDirectory, Weights

if TYPE_CHECKING:
    from pipeline.corpus import Corpus


def held_out_corpus(run: RunDirectory, weights: Weights, path: str | None = None) -> "Corpus":
    """The run's own text, the same tokens split at the same place, or another one read with the run's tokenizer.

    Args:
        path: another text (file, folder or glob). Its second half is held out; for a run on token files, other token
            files.

    Raises:
        BadInput: the text is missing, or is not what the run was trained on.
    """
    from pipeline.corpus import open_corpus

    config, context, seed = run.config.corpus, run.config.model.context, run.config.seed
    if not config.cache_dir.is_dir():  # it is where the run was made
        config = config.model_copy(update={"cache_dir": user_cache() / "corpus"})
    tokenizer = run.tokenizer(weights.vocab_size)
    if path:
        source = "tokens" if config.source == "tokens" else "text"
        other = {"source": source, "path": path, "held_out": 0.5, "split": "tail", "limit_mb": None}
        return open_corpus(config.model_copy(update=other), context, seed, tokenizer=tokenizer)
    corpus = open_corpus(config, context, seed, tokenizer=tokenizer if config.tokenizer == "given" else None)
    if corpus.content_hash != weights.meta["corpus"] and tokenizer:  # a BPE may come out otherwise under other software
        corpus = open_corpus(config, context, seed, tokenizer=tokenizer)
    if corpus.content_hash != weights.meta["corpus"]:
        raise BadInput(
            f"corpus: {config.path or config.source}: not the text that {run.path} was trained on, so what is held out "
            "here may have been trained on; evaluate where the run was made, or name another text with --corpus.path"
        )
    return corpus
