"""Text -> tokens -> batches. Start at `dataset.open_corpus`; a corpus is tokenised once and mapped ever after."""

from pipeline.corpus.batches import Batches
from pipeline.corpus.dataset import Corpus, open_corpus
from pipeline.corpus.tokenizer import encode

__all__ = ["Batches", "Corpus", "encode", "open_corpus"]
