"""Tokens to text as they come, without cutting a character that takes several tokens."""

from collections.abc import Sequence

from tokenizers import Tokenizer

# UTF-8 needs at most four bytes and so at most four byte tokens; what is still broken after that is no character.
_LONGEST = 4


class TextStream:
    """The text of one row. What `push` and `finish` return, joined, is the text of all tokens."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._held: list[int] = []  # the start of a character whose end has not come yet

    def push(self, tokens: Sequence[int]) -> str:
        """The text that is complete with `tokens`."""
        self._held += map(int, tokens)
        for kept in range(min(_LONGEST, len(self._held))):
            end = len(self._held) - kept
            text = self._decode(self._held[:end])
            if not text.endswith("\ufffd"):
                self._held = self._held[end:]
                return text
        return "" if len(self._held) < _LONGEST else self.finish()

    def finish(self) -> str:
        """What is left; a character cut in two is written as U+FFFD."""
        text, self._held = self._decode(self._held), []
        return text

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=False)
