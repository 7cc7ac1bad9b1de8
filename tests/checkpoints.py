"""What tests of checkpoints share: the published ones in tests/fixtures, random ones, the hub's cache, damage and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codi_bench.errors import CodiBenchError
from codi_bench.training import train as training

OFFICIAL = Path(__file__).parent / "fixtures" / "official"
FAMILIES = pytest.mark.parametrize("family", ["gpt2", "llama"])
V = 420  # words of the tiny tokenizers


def official(family):
    """(checkpoint, base) of a tiny checkpoint in the published format."""
    return OFFICIAL / f"{family}-tiny" / "codi-checkpoint", OFFICIAL / f"{family}-tiny" / f"base-{family}"


def published_outputs(family):
    """What the published code says of it."""
    return json.loads((OFFICIAL / f"{family}-tiny" / "expected.json").read_text())


def base_without_weights(family, folder, **config):
    """Configuration and tokenizer of a tiny base, some settings of another value."""
    shutil.copytree(official(family)[1], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    edit_json(folder / "config.json", **config)
    return folder


def wide_backbone(base, seed):
    """A random language model over V + 3 words, wide enough for every weight to matter."""
    config = AutoConfig.from_pretrained(base)
    config.vocab_size = V + 3
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def in_hub_cache(cache, repository, folder):
    """A repository as the hub library keeps it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    return shutil.copytree(folder, root / "snapshots" / commit)


def edit_json(path, **changes):
    """Change fields of a JSON file; None takes one out."""
    fields = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))


def refusal(act, error=CodiBenchError):
    """What an error of ours says: one line."""
    with pytest.raises(error) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same_weights(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def killed_at(step, run, monkeypatch):
    """Run a training that is interrupted before that step."""
    real = training._step

    def mortal(*args):
        if args[-1] == step:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "_step", mortal)
        run()
