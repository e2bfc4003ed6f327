"""Text as a person gets it."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pipeline.config import BadInput
from pipeline.corpus.tokenizer import byte_tokenizer, char_tokenizer
from pipeline.ground.run_directory import open_run
from pipeline.ground.sample import default_prompt, main, printable
from pipeline.ground.text_stream import TextStream
from pipeline.lm.generate import Sampling

GREEDY = Sampling(temperature=0)


def written(run: Path, prompts: list[str], tokens: int = 30, sampling: Sampling = GREEDY, seed: int = 0) -> list[str]:
    return open_run(run).model().sample(prompts, tokens, seed, **sampling._asdict())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_streamed_text_equals_the_text_at_once(size: int) -> None:
    """Characters of two, three and four bytes, cut anywhere, and bytes that are no character at all."""
    tokenizer = byte_tokenizer()
    ids = list("żółw 東京 🛰️!".encode() + b"\xff\xe6" + "ok é".encode() + b"\xc3")
    stream = TextStream(tokenizer)
    pieces = [stream.push(ids[i : i + size]) for i in range(0, len(ids), size)]
    assert "".join([*pieces, stream.finish()]) == tokenizer.decode(ids)


def test_no_piece_cuts_a_character() -> None:
    tokenizer = byte_tokenizer()
    stream = TextStream(tokenizer)
    assert [stream.push([byte]) for byte in "é東🛰".encode()] == ["", "é", "", "", "東", "", "", "", "🛰"]


def test_text_of_a_run_that_the_corpus_is_gone_of(bpe_run: Path, tmp_path: Path) -> None:
    """Only config, tokenizer and one checkpoint came down."""
    copy = tmp_path / "down"
    shutil.copytree(bpe_run / "checkpoints" / "40", copy / "checkpoints" / "40")
    for name in ("config.yaml", "tokenizer.json"):
        shutil.copy(bpe_run / name, copy)
    assert written(copy, ["the sun "]) == written(bpe_run, ["the sun "])


def test_prompts_in_one_batch_give_the_text_that_they_give_alone(run_dir: Path) -> None:
    prompts = ["t", "the satellite sleeps", "a model learns while the array turns.\n" * 2]
    together = written(run_dir, prompts, sampling=Sampling(1.0), seed=5)
    assert together == [written(run_dir, [p], sampling=Sampling(1.0), seed=5 + i)[0] for i, p in enumerate(prompts)]


def test_the_verb_writes_prompt_and_continuation(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(run_dir), "--prompt", "the sun", "--prompt", "a ", "--tokens", "30", "--temperature", "0"]
    assert main(arguments) == 0
    sun, model = written(run_dir, ["the sun", "a "])
    assert capsys.readouterr().out == f"the sun{sun}\n{'-' * 40}\na {model}\n"
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["step"] == 40
    assert [s["text"] for s in found["samples"]] == [sun, model]


def test_a_character_outside_the_vocabulary_is_refused(run_dir: Path) -> None:
    with pytest.raises(BadInput, match="does not know 'Ω'"):
        main([str(run_dir), "--prompt", "the Ω"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", ""], "--prompt: empty"),
        (["--prompt", "\udcff"], "--prompt: .*not text"),
        (["--tokens", "0"], "--tokens: '0' is not a whole number of at least 1"),
        (["--temperature", "-1"], "--temperature: '-1' is not a number of at least 0"),
        (["--temperature", "nan"], "--temperature: 'nan' is not a number"),
        (["--top_k", "0"], "--top_k"),
        (["--top_p", "0"], "--top_p: '0' is not a number above 0, at most 1"),
        (["--min_p", "1.5"], "--min_p"),
    ],
)
def test_a_bad_argument_is_one_line(arguments: list[str], message: str, run_dir: Path) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        main([str(run_dir), *arguments])
    assert "\n" not in str(raised.value)


def test_without_a_prompt_there_is_one_that_the_run_knows(run_dir: Path, tmp_path: Path) -> None:
    assert default_prompt(open_run(run_dir)) == "\n"
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    known = set(Tokenizer.from_file(str(copy / "tokenizer.json")).get_vocab())
    char_tokenizer(known - {"\n"} | {"#"}).save(str(copy / "tokenizer.json"))  # as if the text had been one line
    assert default_prompt(open_run(copy)) == " "


def test_a_terminal_is_never_sent_what_it_would_obey() -> None:
    assert printable("a\x1b[2J\tb\r\x9b\x7f\nż") == "a\ufffd[2J\tb\ufffd\ufffd\ufffd\nż"
