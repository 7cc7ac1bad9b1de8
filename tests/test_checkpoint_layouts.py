"""What trainings save and downloads leave: the same model as the plain file, with what was left out said, or refused by name."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from checkpoints import FAMILIES, V, in_hub_cache, official, refusal, same_weights
from safetensors.torch import save_file

from codi_bench.errors import CheckpointError
from codi_bench.models import backbone
from codi_bench.models.codi import COCONUT
from codi_bench.models.loading import load

PEFT, BIN, SAFE = "codi.base_model.model.", "pytorch_model.bin", "model.safetensors"
TABLES = {"gpt2": ("transformer.wte.weight", "lm_head.weight"), "llama": ("model.embed_tokens.weight", "lm_head.weight")}
QUESTIONS = ["Mia has 7 apples .", "Tom buys 3 pens and 4 cups ."]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 497774208\n"
RANDOM = torch.Generator().manual_seed(0)


@pytest.fixture
def base(tmp_path):
    return shutil.copytree(official("gpt2")[1], tmp_path / "base")


@pytest.fixture
def made(tmp_path):
    """A folder without weights."""
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def weights_of(family="gpt2"):
    return torch.load(official(family)[0] / BIN, weights_only=True)


def codi_of(checkpoint, base=None, family="gpt2"):
    return load(checkpoint, base=base or official(family)[1], device="cpu", num_latents=6, lora_alpha=32)


def same_model(first, second):
    """Bit for bit, in weights, hidden states and answers."""
    runs = [model.think(QUESTIONS, max_new_tokens=4) for model in (first, second)]
    assert (runs[0].hidden_states == runs[1].hidden_states).all() and runs[0].answers == runs[1].answers
    return same_weights(first.codi, second.codi)


def save_in_shards(folder, tensors, *, file=SAFE, count=3):
    """As transformers saves a large model: every third tensor in one file, and the index."""
    stem, suffix = file.rsplit(".", 1)
    names = [f"{stem}-{i + 1:05}-of-{count:05}.{suffix}" for i in range(count)]
    shard_of = {key: names[i % count] for i, key in enumerate(sorted(tensors))}
    for name in names:
        shard = {key: tensors[key].clone() for key, place in shard_of.items() if place == name}
        (torch.save if suffix == "bin" else save_file)(shard, folder / name)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": shard_of}
    (folder / f"{file}.index.json").write_text(json.dumps(index))
    return names


def with_decoder(tensors):
    """What SIM-CoT trains beside the model: a language model and two projections."""
    decoder = {f"decoder.{key.removeprefix(PEFT)}": value for key, value in tensors.items() if key.startswith(PEFT)}
    return {**tensors, **decoder, "pj_in.weight": torch.full((8, 32), float("nan")), "pj_out.U": torch.ones(4, 2)}


def with_more_rows(tensors, family, rows):
    keys = [PEFT + key for key in TABLES[family]]
    more = torch.randn(rows, tensors[keys[0]].shape[1], generator=RANDOM)
    return {**tensors, **{key: torch.cat([tensors[key], more]) for key in keys}}


def prefixed(prefix):
    return lambda tensors: {prefix + key: value for key, value in tensors.items()}


def nested(*names, **beside):
    def nest(tensors):
        for name in reversed(names):
            tensors = {name: tensors, **beside}
        return tensors

    return nest


STATE = {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]}, "epoch": 3}
SAVED = {  # what is saved of the tensors, and what is said to be left out
    "ddp": (prefixed("module."), ()),
    "compiled": (prefixed("_orig_mod."), ()),
    "compiled ddp": (prefixed("module._orig_mod."), ()),
    "ddp compiled": (prefixed("_orig_mod.module."), ()),
    "state_dict": (nested("state_dict", **STATE), ("optimizer", "epoch")),
    "model": (nested("model", iteration=7), ("iteration",)),
    "model_state_dict": (nested("model_state_dict"), ()),
    "state in state": (nested("model", "state_dict", **STATE), ("optimizer", "epoch")),
    "nested ddp": (lambda t: nested("state_dict", **STATE)(prefixed("module.")(t)), ("optimizer", "epoch")),
    "sim-cot": (with_decoder, ("decoder.* (65 keys", "pj_in.* (1 keys", "pj_out.* (1 keys")),
    "all of it": (lambda t: nested("model")(prefixed("module.")(with_decoder(t))), ("decoder.*",)),
}


@pytest.mark.parametrize(("save", "left_out"), SAVED.values(), ids=SAVED)
def test_what_trainings_save_is_the_same_model(made, save, left_out, caplog):
    torch.save(save(weights_of()), made / BIN)
    assert same_model(codi_of(made), codi_of(official("gpt2")[0]))
    said = " ".join(record.getMessage() for record in caplog.records)
    assert all(part in said for part in left_out) and said.count("left out") == bool(left_out)


@FAMILIES
@pytest.mark.parametrize("file", [BIN, SAFE])
@pytest.mark.parametrize("change", [lambda t: t, prefixed("module."), with_decoder], ids=["plain", "ddp", "sim-cot"])
def test_shards_are_the_same_model(made, family, file, change):
    save_in_shards(made, change(weights_of(family)), file=file)
    assert same_model(codi_of(made, family=family), codi_of(official(family)[0], family=family))


@FAMILIES
def test_rows_of_further_ids_are_left_out_by_name(made, family, caplog):
    torch.save(with_more_rows(weights_of(family), family, 2), made / BIN)
    assert same_model(codi_of(made, family=family), codi_of(official(family)[0], family=family))
    assert f"embedding rows {V + 3}, {V + 4} (of ids behind pad, bot and eot)" in caplog.text


@pytest.mark.parametrize("rows", [1, 3])
def test_another_number_of_rows_is_refused(made, rows):
    torch.save(with_more_rows(weights_of(), "gpt2", rows), made / BIN)
    assert f"the checkpoint has {V + 3 + rows} rows" in refusal(lambda: codi_of(made), CheckpointError)


def test_rows_of_one_table_alone_are_refused(made):
    tensors, key = weights_of(), f"{PEFT}lm_head.weight"
    torch.save({**tensors, key: with_more_rows(tensors, "gpt2", 2)[key]}, made / BIN)
    assert f"wrong shape: {key} [{V + 5}, 32]" in refusal(lambda: codi_of(made), CheckpointError)


def coconut(tensors):
    """Coconut's names for a model without LoRA."""
    plain = {key.removeprefix(PEFT): value for key, value in tensors.items() if key.startswith(PEFT) and ".lora_" not in key}
    named = {f"base_causallm.{key.replace('.base_layer.', '.')}": value for key, value in plain.items()}
    return {**named, "embedding.weight": named["base_causallm.transformer.wte.weight"]}


@pytest.mark.parametrize(
    "save",
    [
        prefixed("module."),
        nested("state_dict", **STATE),
        lambda t: {**t, "expainable_llm.lm_head.weight": torch.ones(3, 2), "expainable_llm.steps": torch.ones(1).int()},
    ],
    ids=["ddp", "nested", "sim-cot"],
)
def test_coconut_comes_in_these_layouts_too(made, tmp_path, save):
    (tmp_path / "plain").mkdir()
    torch.save(coconut(weights_of()), tmp_path / "plain" / "checkpoint_33")
    torch.save(save(coconut(weights_of())), made / "checkpoint_33")
    assert same_model(codi_of(made), codi_of(tmp_path / "plain"))
    assert codi_of(made).codi.prompt == COCONUT


# Refused by name


def prefixed_in_part(*prefixes):
    return lambda tensors: {
        key.replace(PEFT, prefixes[i % len(prefixes)] + PEFT): tensors[key] for i, key in enumerate(sorted(tensors))
    }


REFUSED = {
    "part of the keys": (
        prefixed_in_part("module.", ""),
        ("module. is in front of 33 of 71 keys", "and not before codi.base_model"),
    ),
    "the model without its projection": (prefixed_in_part("_orig_mod."), ("_orig_mod. is in front of", "not before prj.1.bias")),
    "an unknown wrapper": (prefixed("net."), ("net. in front of the keys is an unknown wrapper",)),
    "lightning": (lambda t: nested("state_dict")(prefixed("model.")(t)), ("model. in front of the keys",)),
    "a wrapper inside": (
        lambda t: {key.replace("codi.", "codi._orig_mod."): value for key, value in t.items()},
        ("unexpected: codi._orig_mod.base_model",),
    ),
    "a head that answers may need": (lambda t: {**t, "halt_head.weight": torch.ones(1, 32)}, ("unexpected: halt_head.weight",)),
    "a decoder alone": (
        lambda t: {"decoder.x": torch.ones(2)},
        ("no key begins with codi. or base_causallm., the first is of training alone",),
    ),
    "two state dicts": (lambda t: {"model": t, "state_dict": t}, ("holds weights twice, in state_dict and in model",)),
    "weights beside a state dict": (
        lambda t: {"model": t, "prj.1.bias": torch.ones(48)},
        ("holds weights twice, in model and in prj.1.bias",),
    ),
    "nested without end": (nested(*["model"] * 9), ("model is dict, but",)),
    "part of a state dict": (
        lambda t: nested("model")({key: value for key, value in t.items() if ".h.1." not in key}),
        ("missing: ", "(12 in all)"),
    ),
}


@pytest.mark.parametrize(("save", "messages"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_whole_model_is_refused_by_name(made, save, messages):
    torch.save(save(weights_of()), made / BIN)
    said = refusal(lambda: codi_of(made), CheckpointError)
    assert said.startswith(f"{made / BIN}: ") and all(message in said for message in messages), said


def edit_map(change):
    """Damage to an index, given the map of tensors to shards and the shards' names."""

    def damage(made, names):
        index = json.loads((made / f"{SAFE}.index.json").read_text())
        change(index["weight_map"], names)
        (made / f"{SAFE}.index.json").write_text(json.dumps(index))

    return damage


def in_two_shards(made, names):
    tensors = {**weights_of(), "prj.1.bias": torch.zeros(48)}
    first = min(tensors)
    save_file({key: tensors[key].clone() for key in sorted(tensors)[1::3]} | {first: tensors[first].clone()}, made / names[1])


SHARDS = {
    "a missing shard": (
        lambda made, names: (made / names[1]).unlink(),
        "1 of 3 shards missing: model-00002-of-00003.safetensors",
    ),
    "a pointer": (
        lambda made, names: (made / names[2]).write_bytes(POINTER),
        "00003.safetensors: not a complete safetensors file (it is a",
    ),
    "an index of nothing": (edit_map(lambda shard_of, names: shard_of.clear()), "index.json: holds nothing"),
    "an index that is empty": (
        lambda made, names: (made / f"{SAFE}.index.json").write_bytes(b""),
        "index.json: unreadable or incomplete (it is empty)",
    ),
    "an index that is a pointer": (
        lambda made, names: (made / f"{SAFE}.index.json").write_bytes(POINTER),
        "run `git lfs pull`",
    ),
    "a tensor that its shard lacks": (
        edit_map(lambda shard_of, names: shard_of.update(surplus=names[0])),
        "model-00001-of-00003.safetensors: lacks surplus, by model.safetensors.index.json",
    ),
    "a tensor that no index names": (
        edit_map(lambda shard_of, names: shard_of.pop("prj.ln.weight")),
        "holds too prj.ln.weight, by model.safetensors.index.json",
    ),
    "a tensor in two shards": (in_two_shards, "model-00002-of-00003.safetensors: holds too codi.base_model.model"),
    "another folder's shard": (
        edit_map(lambda shard_of, names: shard_of.update(surplus="../made/model-00001-of-00003.safetensors")),
        "../made/model-00001-of-00003.safetensors is no .safetensors file of this folder",
    ),
    "a shard from the root": (
        edit_map(lambda shard_of, names: shard_of.update(surplus="/tmp/x.safetensors")),
        "is no .safetensors file",
    ),
    "a pickle among safetensors": (
        edit_map(lambda shard_of, names: shard_of.update(surplus=BIN)),
        f"{BIN} is no .safetensors file",
    ),
}


@pytest.mark.parametrize(("damage", "message"), SHARDS.values(), ids=SHARDS)
def test_shards_and_index_agree_exactly(made, damage, message):
    names = save_in_shards(made, weights_of())
    damage(made, names)
    said = refusal(lambda: codi_of(made), CheckpointError)
    assert message in said and said.startswith(str(made)), said


def test_a_file_counts_before_an_index_and_other_shards_are_named(made, caplog):
    names = save_in_shards(made, weights_of())
    (made / "model-00004-of-00004.safetensors").write_bytes(b"of another save")
    in_shards = codi_of(made)
    assert "left out: model-00004-of-00004.safetensors (not of model.safetensors.index.json, which counts)" in caplog.text
    (made / names[0]).unlink()
    shutil.copy(official("gpt2")[0] / BIN, made / BIN)
    whole = codi_of(made)
    assert same_model(whole, in_shards) and whole.fingerprint == codi_of(official("gpt2")[0]).fingerprint != in_shards.fingerprint
    assert f"{SAFE}.index.json (not of {BIN}, which counts)" in caplog.text and names[1] in caplog.text


def test_the_fingerprint_of_shards_is_theirs(made):
    save_in_shards(made, weights_of())
    first = codi_of(made).fingerprint
    assert first == codi_of(made).fingerprint != codi_of(official("gpt2")[0]).fingerprint
    save_in_shards(made, {**weights_of(), "prj.1.bias": torch.zeros(48)})
    assert codi_of(made).fingerprint != first


def test_shards_come_from_the_hub_too(made, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    save_in_shards(made, weights_of())
    in_hub_cache(tmp_path / "cache", "some/codi", made)
    assert codi_of("some/codi").fingerprint == codi_of(made).fingerprint


# What is not read stops nothing; what is read is named


BROKEN = {"empty": b"", "blank": b" \n", "pointer": POINTER, "cut": b'{"model_type": "gp'}
UNREAD = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "adapter_config.json",
    "adapter.json",
)


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_lies_beside_published_weights_is_not_read(made, content):
    shutil.copy(official("gpt2")[0] / BIN, made)
    for name in UNREAD:
        (made / name).write_bytes(content)
    assert codi_of(made).fingerprint == codi_of(official("gpt2")[0]).fingerprint


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_of_a_base_and_of_our_own_folders_only_what_is_used_is_read(base, tiny_folders, tmp_path, content):
    own = shutil.copytree(tiny_folders["gpt2"], tmp_path / "own")
    for name in ("generation_config.json", "adapter_config.json", "vocab.json", "tokenizer.model", "README.md"):
        (own / name).write_bytes(content)
        (base / name).write_bytes(content)
    (base / SAFE).write_bytes(content)
    assert load(own, device="cpu").fingerprint == load(tiny_folders["gpt2"], device="cpu").fingerprint
    assert same_model(codi_of(official("gpt2")[0], base), codi_of(official("gpt2")[0]))


NAMED = {
    "empty": (b"", "it is empty"),
    "pointer": (POINTER, "it is a Git LFS pointer: its content was not downloaded, run `git lfs pull`"),
}


@pytest.mark.parametrize(("content", "fault"), NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "codi.json", SAFE])
def test_the_only_one_that_could_be_read_is_named(base, tiny_folders, tmp_path, content, fault, name):
    own = shutil.copytree(tiny_folders["gpt2"], tmp_path / "own")
    (own / name).write_bytes(content)
    said = refusal(lambda: load(own, device="cpu"), CheckpointError)
    assert said.startswith(f"{own / name}: ") and fault in said
    if name not in ("codi.json", SAFE):
        (base / name).write_bytes(content)
        said = refusal(lambda: codi_of(official("gpt2")[0], base), CheckpointError)
        assert said.startswith(f"{base / name}: ") and fault in said


@pytest.mark.parametrize(("content", "fault"), NAMED.values(), ids=NAMED)
def test_words_in_two_files_are_looked_at_where_they_are_read(base, content, fault):
    words = json.loads((base / "tokenizer.json").read_text())["model"]
    (base / "tokenizer.json").unlink()
    (base / "vocab.json").write_text(json.dumps(words["vocab"]))
    (base / "merges.txt").write_bytes(content)  # without merges every word would come in single characters
    said = refusal(lambda: codi_of(official("gpt2")[0], base), CheckpointError)
    assert said.startswith(f"{base / 'merges.txt'}: ") and fault in said


@pytest.mark.parametrize(("content", "fault"), NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("name", [SAFE, BIN, "checkpoint_33"])
def test_weights_that_are_not_there_are_named(made, content, fault, name):
    (made / name).write_bytes(content)
    said = refusal(lambda: codi_of(made), CheckpointError)
    assert said.startswith(f"{made / name}: ") and fault in said


def test_how_a_library_would_generate_is_not_read_of_a_backbone_either(base):
    first = backbone.read_backbone(base)
    (base / "generation_config.json").write_text("[]")
    assert same_weights(backbone.read_backbone(base), first)


@pytest.mark.parametrize(("content", "fault"), NAMED.values(), ids=NAMED)
def test_an_adapter_that_was_not_downloaded_is_named(made, content, fault):
    (made / "adapter.json").write_bytes(content)
    said = refusal(lambda: load(made, device="cpu"), CheckpointError)
    assert said.startswith(f"{made / 'adapter.json'}: ") and fault in said


@pytest.mark.parametrize(("content", "fault"), NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("name", [SAFE, "config.json", "tokenizer.json"])
def test_a_backbone_to_train_over_is_named_too(base, content, fault, name):
    (base / name).write_bytes(content)
    said = refusal(lambda: backbone.base_folder(base), CheckpointError)
    assert said.startswith(f"{base / name}: ") and fault in said
