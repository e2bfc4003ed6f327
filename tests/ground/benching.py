"""A training so small that a bench of it takes seconds."""

from pathlib import Path

import yaml

TEXT = "the sun rises over the sea.\nthe satellite sleeps in shadow.\n" * 60


def write_config(folder: Path) -> Path:
    """A YAML file of a tiny run on a text beside it, and no path that leads out of `folder`."""
    text = folder / "text.txt"
    text.write_text(TEXT)
    corpus = {"source": "text", "path": str(text), "tokenizer": "char", "cache_dir": str(folder / "cache")}
    config = {
        "name": "tiny",
        "corpus": corpus,
        "model": {"depth": 1, "width": 32, "heads": 2, "context": 16},
        "optimizer": {"warmup_steps": 2},
        "train": {"batch": 2, "chunk_steps": 2, "precision": "fp32", "device": "cpu"},
        "budget": {"steps": 8},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
