"""How many bytes of text each token stands for: what models with different tokenizers can be compared by."""

import json
from contextlib import suppress

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from pipeline.config import BadInput


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of each token of a byte-level or character tokenizer, by its id.

    Raises:
        BadInput: another kind of tokenizer, whose tokens are not pieces of the text.
    """
    from pipeline.corpus.tokenizer import byte_tokenizer, rows

    definition = json.loads(tokenizer.to_str())
    decoder = (definition.get("decoder") or {}).get("type")
    special = {added["id"]: added["content"] for added in definition.get("added_tokens", [])}
    alphabet = byte_tokenizer().get_vocab()
    table = []
    for index in range(rows(tokenizer)):
        token = tokenizer.id_to_token(index) or ""
        if index in special:
            table.append(special[index].encode())
        elif decoder == "ByteLevel" and alphabet.keys() >= set(token):
            table.append(bytes(alphabet[character] for character in token))
        elif decoder == "Fuse":
            table.append(token.encode())
        else:
            raise BadInput(
                f"tokenizer.json: its decoder {decoder} joins tokens otherwise than end to end; compare in nats"
            )
    return table


def token_lengths(tokenizer: Tokenizer) -> Int[np.ndarray, " vocab"] | None:
    """Bytes of each token; None where its tokens are not pieces of the text."""
    with suppress(BadInput):
        return np.array([len(piece) for piece in token_bytes(tokenizer)])
    return None


def text_of(table: list[bytes], tokens: np.ndarray) -> bytes:
    return b"".join(table[token] for token in tokens.tolist())
