"""The word-level tokenizer of the generated problems, written in Hugging Face layout for `AutoTokenizer`."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from codi_bench.store.files import write_text, write_whole

UNKNOWN, END = "<unk>", "<eos>"


def write_tokenizer(words: list[str], folder: Path) -> None:
    """Write `tokenizer.json` and its configuration; id 0 is the unknown word, id 1 the end of a text."""
    ids = {word: i for i, word in enumerate((UNKNOWN, END, *words))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([UNKNOWN, END])
    write_whole(folder / "tokenizer.json", lambda path: tokenizer.save(str(path)))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
