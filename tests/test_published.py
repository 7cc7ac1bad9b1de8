"""Published checkpoints: the numbers of the published code, every layout that exists, and one clear line for everything else."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import (
    FAMILIES,
    V,
    base_without_weights,
    edit_json,
    in_hub_cache,
    official,
    published_outputs,
    refusal,
    wide_backbone,
)
from safetensors.torch import load_file, save_file
from torch import nn

from codi_bench.errors import CheckpointError, UnknownNameError
from codi_bench.models import hub
from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import COCONUT, CODI
from codi_bench.models.loading import load
from codi_bench.models.published import is_published
from codi_bench.models.registry import PUBLISHED, REGISTRY

PEFT, BIN, SAFE = "codi.base_model.model.", "pytorch_model.bin", "model.safetensors"
SETTINGS = {"num_latents": 6, "lora_alpha": 32}
GPT2, GPT2_BASE = official("gpt2")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    getattr(huggingface_hub.utils, "reset_sessions", lambda: None)()  # sessions of older versions remember the mode
    return tmp_path / "cache"


@pytest.fixture
def tiny_gpt2(tmp_path):
    """(checkpoint, base) of the tiny GPT-2, to damage."""
    return copied("gpt2", tmp_path)


def copied(family, tmp_path):
    checkpoint, base = official(family)
    return shutil.copytree(checkpoint, tmp_path / family), shutil.copytree(base, tmp_path / base.name)


def read(checkpoint):
    return torch.load(checkpoint / BIN, weights_only=True)


def codi_of(checkpoint, base, **changes):
    return load(checkpoint, base=base, device="cpu", **{**SETTINGS, **changes}).codi


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits


IDS = torch.randint(0, V + 3, (2, 9), generator=torch.Generator().manual_seed(0))


# The numbers of the published code


@FAMILIES
def test_numbers_of_the_published_code(family):
    checkpoint, base = official(family)
    said, arrays = published_outputs(family), load_file(checkpoint.parent / "expected.safetensors")
    codi = codi_of(checkpoint, base)
    ids = [said[k] for k in ("pad_token_id", "bot_id", "eot_id", "eos_token_id")]
    assert [codi.pad_id, codi.bot_id, codi.eot_id, codi.eos_id] == ids
    for i, question in enumerate(said["questions"]):
        ids = arrays[f"single.{i}.input_ids"]
        assert codi.tokenizer(question)["input_ids"] + [codi.bot_id] == ids.tolist()
        with torch.no_grad():
            out = codi.backbone(inputs_embeds=codi.embed(ids[None]), output_hidden_states=True)
            states = torch.stack(out.hidden_states)[:, 0, -1]
            latent = codi.projection(states[-1])
        torch.testing.assert_close(states, arrays[f"single.{i}.hidden_states"][0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(latent, arrays[f"single.{i}.latents"][0], atol=1e-4, rtol=1e-4)


@FAMILIES
def test_base_weights_are_never_read(family, tmp_path):
    checkpoint, base = copied(family, tmp_path)
    (base / SAFE).unlink()
    found = codi_of(checkpoint, base)
    assert (found.num_layers, found.width, found.vocab_size, found.num_latents, found.name) == (3, 32, V, 6, family)
    assert found.backbone.get_output_embeddings().weight is found.backbone.get_input_embeddings().weight
    assert found.prompt == CODI and not found.training


def test_the_fingerprint_names_weights_base_and_alpha(tiny_gpt2):
    checkpoint, base = tiny_gpt2
    seen = [codi_of(checkpoint, base).fingerprint, codi_of(checkpoint, base, lora_alpha=16).fingerprint]
    assert codi_of(checkpoint, base, lora_alpha=32.0).fingerprint == seen[0] and len(seen[0]) == 64
    assert codi_of(GPT2, base).fingerprint == seen[0]
    edit_json(base / "config.json", layer_norm_epsilon=1e-4)
    seen.append(codi_of(checkpoint, base).fingerprint)
    tensors = read(checkpoint)
    tensors["prj.1.bias"].add_(1e-3)
    torch.save(tensors, checkpoint / BIN)
    assert len({*seen, codi_of(checkpoint, base).fingerprint}) == 4


def test_settings_are_given_registered_or_said(tiny_gpt2, caplog):
    checkpoint, base = tiny_gpt2
    with caplog.at_level(logging.WARNING):
        assert load(checkpoint, base=base, name="gpt2").num_latents == 6 and not caplog.records
        assert load(checkpoint, base=base, num_latents=3, lora_alpha=8).num_latents == 3 and not caplog.records
        assert load(checkpoint, base=str(base), num_latents=3).num_latents == 3
    assert [r.getMessage() for r in caplog.records] == [
        "gpt2: the checkpoint does not say how it was trained; assuming --lora-alpha 32, as published"
    ]


@pytest.mark.parametrize("settings", [{"num_latents": -1}, {"lora_alpha": 0}, {"lora_alpha": float("nan")}], ids=str)
def test_settings_out_of_range(tiny_gpt2, settings):
    with pytest.raises(CheckpointError, match="must be"):
        codi_of(*tiny_gpt2, **settings)


def test_the_folder_above_and_a_swapped_base_are_told_what_to_give(tiny_gpt2):
    checkpoint, base = tiny_gpt2
    above = checkpoint.parent / "above"
    above.mkdir()
    checkpoint.rename(above / "checkpoint")
    with pytest.raises(CheckpointError, match=f"holds no weights .* such as {above / 'checkpoint'}$"):
        load(above, base=base)
    with pytest.raises(CheckpointError, match="config.json.* missing.* give it as --model"):
        load(above / "checkpoint", base=above / "checkpoint")
    empty = above / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match="config.json") as refused:
        load(above / "checkpoint", base=empty)
    assert "--model" not in str(refused.value)


def test_a_shallow_model_is_probed_at_its_inner_layers_whatever_its_name(tiny_gpt2):
    for name in (None, "gpt2", "llama-3.2-1b"):
        model = load(tiny_gpt2[0], base=tiny_gpt2[1], name=name, **SETTINGS)
        layers = tuple(range(1, model.entry.layers[-1] + 1))
        assert (model.entry.architecture, model.entry.probed, model.name) == ("gpt2", layers, name or "gpt2")


# Every layout: a seeded builder, and transformers and peft as the reference


def base_folder(family, folder, *, width=16, layers=2, heads=2, **config):
    """Configuration and tokenizer of another size; nothing else is needed."""
    sizes = {"n_embd": width, "n_layer": layers, "n_head": heads}
    if family == "llama":
        sizes = {"hidden_size": width, "num_hidden_layers": layers, "head_dim": width // heads, "intermediate_size": 3 * width}
        sizes |= {"num_attention_heads": heads, "num_key_value_heads": heads}
    return base_without_weights(family, folder, **{"tie_word_embeddings": True, "torch_dtype": "float32", **sizes, **config})


def projection_of(width, inner, layer_norm):
    parts = nn.Sequential(nn.Dropout(0.1), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
    if layer_norm:
        parts.add_module("ln", nn.LayerNorm(width))
    return parts.eval()


def write(folder, tensors, file=BIN, dropped=()):
    """Save as torch does, or as safetensors does: of a shared tensor only one name."""
    folder.mkdir(exist_ok=True)
    if file == BIN:
        torch.save(tensors, folder / BIN)
    else:
        save_file({k: v.clone().contiguous() for k, v in tensors.items() if k not in dropped}, folder / SAFE)
    return folder


CASES = [  # family, width, layers, LoRA rank, adapted modules, inner width, layer norm
    ("gpt2", 16, 2, 4, ["c_attn", "c_proj", "c_fc"], 24, True),
    ("gpt2", 32, 1, 1, ["c_attn"], 8, False),
    ("gpt2", 24, 3, 7, r".*h\.[02]\.mlp\.c_proj|.*h\.1\.attn\.c_attn", 40, True),
    ("llama", 16, 2, 4, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], 24, True),
    ("llama", 32, 1, 2, ["v_proj", "down_proj"], 8, False),
    ("llama", 24, 3, 5, r".*layers\.[12]\.(self_attn\.q_proj|mlp\.up_proj)", 40, True),
]


@pytest.mark.parametrize("file", [BIN, SAFE])
@pytest.mark.parametrize(("family", "width", "layers", "rank", "targets", "inner", "layer_norm"), CASES)
def test_lora_is_merged_as_peft_applies_it(tmp_path, file, family, width, layers, rank, targets, inner, layer_norm):
    peft = pytest.importorskip("peft")
    base = base_folder(family, tmp_path / "base", width=width, layers=layers)
    config = peft.LoraConfig(
        r=rank, lora_alpha=11, target_modules=targets, fan_in_fan_out=family == "gpt2", task_type="CAUSAL_LM"
    )
    whole = nn.Module()
    whole.codi, whole.prj = peft.get_peft_model(wide_backbone(base, rank), config), projection_of(width, inner, layer_norm)
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    whole.eval()
    found = codi_of(write(tmp_path / "m", whole.state_dict(), file, {PEFT + "lm_head.weight"}), base, lora_alpha=11)
    torch.testing.assert_close(logits(found.backbone, IDS), logits(whole.codi, IDS), atol=1e-4, rtol=1e-4)
    x = torch.randn(5, width)
    torch.testing.assert_close(found.projection(x), whole.prj(x))
    assert logits(codi_of(tmp_path / "m", base, lora_alpha=22).backbone, IDS).sub(logits(whole.codi, IDS)).abs().max() > 1e-2


LM_HEAD, COPY = "lm_head.weight", "embedding.weight"
WTE = {"gpt2": "transformer.wte.weight", "llama": "model.embed_tokens.weight"}
BUFFERS = {"gpt2": ("transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"), "llama": ("model.rotary_emb.inv_freq",)}
LAYOUTS = {  # prefix, is there a projection, and what safetensors leave out of the names of the shared embedding
    "plain": ("codi.", True, ["codi.lm_head.weight"]),
    "embedding dropped": ("codi.", True, ["codi.WTE"]),
    "no projection": ("codi.", False, ["codi.lm_head.weight"]),
    "buffers": ("codi.", True, ["codi.lm_head.weight"]),
    "coconut": ("base_causallm.", False, ["base_causallm.lm_head.weight", COPY]),
    "coconut by its other embedding": ("base_causallm.", False, ["base_causallm.lm_head.weight", "base_causallm.WTE"]),
}


def in_layout(name, family, backbone, projection):
    """(tensors, what safetensors leave out) of a backbone and a projection."""
    prefix, projects, dropped = LAYOUTS[name]
    tensors = {f"{prefix}{k}": v for k, v in backbone.state_dict().items()}
    if projects:
        tensors |= {f"prj.{k}": v for k, v in projection.state_dict().items()}
    if name == "buffers":
        tensors |= {f"codi.{key}": torch.ones(1, dtype=torch.bool) for key in BUFFERS[family]}
    if prefix == "base_causallm.":
        tensors[COPY] = backbone.get_input_embeddings().weight.detach()
    return tensors, {key.replace("WTE", WTE[family]) for key in dropped}


@FAMILIES
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout(tmp_path, family, name):
    base = base_folder(family, tmp_path / "base", torch_dtype="bfloat16")  # of the base's own weights: not ours
    backbone, projection = wide_backbone(base, len(name)), projection_of(16, 8, True)
    x = torch.randn(3, 16)
    tensors, dropped = in_layout(name, family, backbone, projection)
    for file in (BIN, SAFE):
        found = codi_of(write(tmp_path / file, tensors, file, dropped), base)
        assert {p.dtype for p in found.parameters()} == {torch.float32}
        torch.testing.assert_close(logits(found.backbone, IDS), logits(backbone, IDS), atol=1e-5, rtol=1e-5)
        assert isinstance(found.projection, nn.Identity) == (not LAYOUTS[name][1])
        torch.testing.assert_close(found.projection(x), projection(x) if LAYOUTS[name][1] else x)
        ids = (V + 2, V, V + 1, COCONUT) if "coconut" in name else (V, V + 1, V + 2, CODI)
        assert (found.pad_id, found.bot_id, found.eot_id, found.prompt) == ids
        assert found.backbone.get_output_embeddings().weight is found.backbone.get_input_embeddings().weight


@FAMILIES
def test_an_untied_head_is_its_own(tmp_path, family):
    base = base_folder(family, tmp_path / "base", tie_word_embeddings=False)
    backbone = wide_backbone(base, 5)
    tensors = {f"codi.{k}": v for k, v in backbone.state_dict().items()}
    for file in (BIN, SAFE):
        found = codi_of(write(tmp_path / file, tensors, file), base)
        torch.testing.assert_close(logits(found.backbone, IDS), logits(backbone, IDS))
        assert found.backbone.get_output_embeddings().weight is not found.backbone.get_input_embeddings().weight
    del tensors["codi.lm_head.weight"]
    with pytest.raises(CheckpointError, match="missing: codi.lm_head.weight$"):
        codi_of(write(tmp_path / BIN, tensors), base)


@FAMILIES
@pytest.mark.parametrize("on_disk", [torch.bfloat16, torch.float16])
def test_half_precision_on_disk_is_merged_in_full(tmp_path, family, on_disk):
    checkpoint, base = copied(family, tmp_path)
    tensors = {k: v.to(on_disk) for k, v in read(checkpoint).items()}
    found = codi_of(write(tmp_path / "half", tensors), base)
    exact = codi_of(write(tmp_path / "exact", {k: v.float() for k, v in tensors.items()}), base)
    for name, value in found.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, exact.state_dict()[name]), name


@FAMILIES
def test_lower_precision_rounds_the_merged_weights_alone(tmp_path, family):
    checkpoint, base = copied(family, tmp_path)
    exact, found = codi_of(checkpoint, base), codi_of(checkpoint, base, dtype="bfloat16")
    for (name, value), rounded in zip(exact.named_parameters(), found.parameters(), strict=True):
        assert torch.equal(rounded, value.bfloat16()), name
    for (name, value), kept in zip(exact.named_buffers(), found.buffers(), strict=True):
        assert torch.equal(kept, value) and kept.dtype == value.dtype, name


def test_old_pytorch_files_load_too(tiny_gpt2):
    checkpoint, base = tiny_gpt2
    first = codi_of(checkpoint, base)
    torch.save(read(checkpoint), checkpoint / BIN, _use_new_zipfile_serialization=False)
    for name, value in codi_of(checkpoint, base).state_dict().items():
        assert torch.equal(value, first.state_dict()[name]), name


def test_safetensors_are_preferred(tiny_gpt2):
    checkpoint, base = tiny_gpt2
    write(checkpoint, {**read(checkpoint), "prj.1.bias": torch.ones(48)}, SAFE)
    assert codi_of(checkpoint, base).projection[1].bias.eq(1).all()


@pytest.mark.parametrize("name", ["no projection", "coconut"])
def test_a_published_model_becomes_a_folder_of_ours(tmp_path, name):
    base = base_folder("gpt2", tmp_path / "base")
    tensors, _ = in_layout(name, "gpt2", wide_backbone(base, 1), None)
    first = codi_of(write(tmp_path / "m", tensors), base)
    shutil.copytree(base, tmp_path / "ours")
    save_folder(first, tmp_path / "ours", dtype=torch.float32)
    again = load(tmp_path / "ours", device="cpu").codi
    for key, value in again.state_dict().items():
        assert torch.equal(value, first.state_dict()[key]), key
    assert isinstance(again.projection, nn.Identity) and again.prompt == first.prompt
    assert (again.pad_id, again.bot_id, again.eot_id) == (first.pad_id, first.bot_id, first.eot_id)
    for changes, message in (
        ({"extra_ids": [1, 2, 3]}, "'extra_ids' must be"),
        ({"prompt": 3}, "prompt: Input should be 'codi' or 'coconut'"),
        ({"projection_layer_norm": True}, "'projection_width' is 0"),
    ):
        shutil.copytree(tmp_path / "ours", tmp_path / "bad", dirs_exist_ok=True)
        edit_json(tmp_path / "bad" / "codi.json", **changes)
        with pytest.raises(CheckpointError, match=message):
            load(tmp_path / "bad")


# Hostile and broken files: (checkpoint, base) → damage


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def changed(change):
    """Damage that edits the state dict."""

    def damage(checkpoint, base):
        tensors = read(checkpoint)
        change(tensors)
        torch.save(tensors, checkpoint / BIN)

    return damage


def put(name, value):
    return changed(lambda t: t.update({name: value}))


def drop(*names):
    return changed(lambda t: [t.pop(name) for name in names])


def saved(value, **options):
    return lambda checkpoint, base: torch.save(value, checkpoint / BIN, **options)


def bytes_of(content, file=BIN):
    def damage(checkpoint, base):
        (checkpoint / BIN).unlink()
        (checkpoint / file).write_bytes(content)

    return damage


def bomb(**options):
    return lambda checkpoint, base: saved({"codi.x": Bomb(base / "marker")}, **options)(checkpoint, base)


def cut(size, file=BIN):
    def damage(checkpoint, base):
        if file == SAFE:
            write(checkpoint, read(checkpoint), SAFE)
        (checkpoint / file).write_bytes((checkpoint / file).read_bytes()[:size])

    return damage


def lora_on(name, on_embedding=""):
    def change(tensors):
        for ab, shape in (("A", (2, 32)), ("B", (V + 3, 2))):
            tensors[f"{PEFT}{name}.lora_{on_embedding}{ab}.default.weight"] = torch.ones(shape)
        tensors[f"{PEFT}{name}.base_layer.weight"] = tensors.pop(f"{PEFT}{name}.weight")

    return changed(change)


def words(n):
    def damage(checkpoint, base):
        held = json.loads((base / "tokenizer.json").read_text())
        vocab = held["model"]["vocab"]
        if n > V:
            vocab["surplus"] = V
        else:
            del vocab[max(vocab, key=vocab.get)]
            held["model"]["merges"] = [
                m for m in held["model"]["merges"] if "".join(m if isinstance(m, list) else m.split()) in vocab
            ]
        (base / "tokenizer.json").write_text(json.dumps(held))

    return damage


def rows(n):
    def change(tensors):
        for key in ("transformer.wte", "lm_head"):
            tensors[f"{PEFT}{key}.weight"] = torch.ones(n, 32)

    return changed(change)


def shards(checkpoint, base):
    (checkpoint / BIN).rename(checkpoint / "pytorch_model-00001-of-00001.bin")
    (checkpoint / f"{BIN}.index.json").write_text("{}")


def the_base_itself(checkpoint, base):
    (checkpoint / BIN).unlink()
    shutil.copy(base / SAFE, checkpoint / SAFE)


def published_base(checkpoint, base):
    the_base_itself(checkpoint, base)  # gpt2 on the hub is saved without its head and without `transformer.`
    held = {k.removeprefix("transformer."): v for k, v in load_file(checkpoint / SAFE).items() if k != "lm_head.weight"}
    save_file(held, checkpoint / SAFE)


def without(*names):
    return lambda checkpoint, base: [(base / name).unlink() for name in names]


ATTN, PROJ = f"{PEFT}transformer.h.0.attn.c_attn", f"{PEFT}transformer.h.1.mlp.c_proj"
DAMAGE = {
    "bomb": (bomb(), "a pickle of more than tensors (posix.system), which was not executed"),
    "old-bomb": (
        bomb(_use_new_zipfile_serialization=False),
        "a pickle of more than tensors (posix.system), which was not executed",
    ),
    "text-bomb": (bytes_of(b"cos\nsystem\n(S'touch marker'\ntR."), "it is a text file"),
    "module": (saved(nn.Linear(2, 2)), "a pickle of more than tensors (torch.nn.modules.linear.Linear)"),
    "list": (saved([torch.ones(2)]), "holds a list, but weights by name are expected"),
    "tensor": (saved(torch.ones(2)), "holds a Tensor, but weights by name are expected"),
    "nothing": (saved({}), "holds nothing"),
    "training-state": (saved({"state_dict": {"codi.x": torch.ones(2)}, "step": 3}), "missing: codi.lm_head.weight"),
    "whole-numbers": (put("prj.1.bias", torch.ones(48, dtype=torch.int8)), "prj.1.bias is a tensor of int8"),
    "number": (put("prj.1.bias", 1.0), "prj.1.bias is float, but"),
    "number-as-name": (put(3, torch.ones(2)), "3 is a tensor of float32, but"),
    "sparse": (put("prj.1.bias", torch.ones(48).to_sparse()), "prj.1.bias is not a plain dense tensor"),
    "truncated": (cut(-4000), "not a complete PyTorch file of tensors (its end is missing); download it again"),
    "truncated-early": (cut(100), "not a complete PyTorch file of tensors (its end is missing)"),
    "truncated-safetensors": (cut(-100, SAFE), "model.safetensors: not a complete safetensors file"),
    "truncated-header": (cut(30, SAFE), "model.safetensors: not a complete safetensors file"),
    "empty": (bytes_of(b""), "not a complete PyTorch file of tensors (it is empty)"),
    "empty-safetensors": (bytes_of(b"", SAFE), "not a complete safetensors file (it is empty)"),
    "text": (bytes_of(b"<html>\n<body>404</body>"), "it is a text file"),
    "bytes": (bytes_of(bytes(range(256))), "neither a zip nor a pickle"),
    "pickle-start": (bytes_of(b"\x80\x02"), "not a complete PyTorch file of tensors"),
    "lfs": (bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "it is a Git LFS pointer: its content"),
    "lfs-safetensors": (bytes_of(b"version https://git-lfs.github.com/spec/v1\n", SAFE), "it is a Git LFS pointer"),
    "shards": (shards, "pytorch_model.bin.index.json: unreadable or incomplete (weight_map"),
    "other-architecture": (
        lambda c, base: shutil.copy(official("llama")[0] / BIN, c / BIN),
        "holds llama weights, the base is gpt2",
    ),
    "lora-on-head": (lora_on("lm_head"), f"LoRA on {PEFT}lm_head; with this base only c_attn, c_proj, c_fc may have LoRA"),
    "lora-on-embedding": (lora_on("transformer.wte", "embedding_"), f"LoRA on {PEFT}transformer.wte; with this base only"),
    "a-without-b": (drop(f"{ATTN}.lora_B.default.weight"), f"missing: {ATTN}.lora_B.default.weight"),
    "b-without-a": (drop(f"{ATTN}.lora_A.default.weight"), f"missing: {ATTN}.lora_A.default.weight"),
    "lora-without-base": (drop(f"{PROJ}.base_layer.weight"), f"missing: {PROJ}.base_layer.weight"),
    "other-adapter": (put(f"{ATTN}.lora_A.other.weight", torch.ones(2, 32)), f"unexpected: {ATTN}.lora_A.other.weight"),
    "other-rank": (
        put(f"{ATTN}.lora_B.default.weight", torch.ones(96, 7)),
        f"wrong shape: {ATTN}.lora_B.default.weight [96, 7] instead of [96, 8]",
    ),
    "extra": (put("surplus", torch.ones(2)), "unexpected: surplus"),
    "extra-buffer-like": (put("prj.attn_bias", torch.ones(2)), "unexpected: prj.attn_bias"),
    "two-lines": (put("a\nb", torch.ones(2)), "unexpected: a b"),
    "missing": (drop(f"{PEFT}transformer.ln_f.bias"), f"missing: {PEFT}transformer.ln_f.bias"),
    "no-embeddings": (
        drop(f"{PEFT}transformer.wte.weight", f"{PEFT}lm_head.weight"),
        f"missing: {PEFT}lm_head.weight, {PEFT}transformer.wte.weight; its embedding rows 420 (pad), 421 (bot), 422 (eot)",
    ),
    "half-a-projection": (drop("prj.3.weight"), "missing: prj.3.weight"),
    "half-a-norm": (drop("prj.ln.bias"), "missing: prj.ln.bias"),
    "many": (changed(lambda t: [t.pop(k) for k in list(t) if ".h.2." in k]), " … (12 in all)"),
    "shape": (put("prj.1.weight", torch.ones(48, 31)), "wrong shape: prj.1.weight [48, 31] instead of [48, 32]"),
    "nan": (changed(lambda t: t["prj.3.bias"].fill_(float("nan"))), "NaN or infinite weights in prj.3.bias"),
    "nan-in-lora": (changed(lambda t: t[f"{ATTN}.lora_A.default.weight"].fill_(float("inf"))), "NaN or infinite weights in"),
    "too-large": (
        changed(lambda t: [t[f"{ATTN}.lora_{ab}.default.weight"].fill_(1e20) for ab in "AB"]),
        "h.0.attn.c_attn.weight does not fit into float32",
    ),
    "more-words": (words(V + 1), "its config.json says 420 words, the tokenizer has 421"),
    "fewer-words": (words(V - 1), "its config.json says 420 words, the tokenizer has 419"),
    "rows-not-enlarged": (
        rows(V),
        "has 420 rows (420 words and 3 ids would be right); its embedding rows 420 (pad), 421 (bot), 42",
    ),
    "too-many-rows": (rows(V + 4), "the checkpoint has 424 rows"),
    "other-vocabulary": (
        lambda c, base: edit_json(base / "config.json", vocab_size=99),
        f"the vocabulary does not match {os.sep}",
    ),
    "two-heads": (put(f"{PEFT}lm_head.weight", torch.ones(V + 3, 32)), "should be one tied tensor according to config.json"),
    "other-depth": (lambda c, base: edit_json(base / "config.json", n_layer=2), f"unexpected: {PEFT}transformer.h.2."),
    "base-itself": (the_base_itself, "has weights of a plain language model, not of a CODI checkpoint"),
    "base-as-published": (published_base, "has weights of a plain language model, not of a CODI checkpoint"),
    "something-else": (
        saved({"a": torch.ones(2)}),
        "not a CODI checkpoint: no key begins with codi. or base_causallm., the first is a",
    ),
}
BASE_DAMAGE = {
    "no-folder": (lambda c, base: shutil.rmtree(base), "no such folder"),
    "no-config": (without("config.json"), "config.json missing; give a folder with"),
    "no-tokenizer": (without("tokenizer.json"), "tokenizer.json missing; give a folder with"),
    "broken-config": (lambda c, base: (base / "config.json").write_text("{"), "config.json: unreadable or incomplete"),
    "broken-tokenizer": (lambda c, base: (base / "tokenizer.json").write_text("{}"), "configuration or tokenizer cannot be read"),
    "another-kind": (
        lambda c, base: edit_json(base / "config.json", model_type="gpt_neox"),
        "the base is gpt_neox; known are gpt2",
    ),
    "heads": (lambda c, base: edit_json(base / "config.json", n_head=5), "no model can be built from it"),
}


def one_line(checkpoint, base, damage):
    damage(checkpoint, base)
    said = refusal(lambda: codi_of(checkpoint, base), CheckpointError)
    assert not (base / "marker").exists() and not Path("marker").exists()
    return said


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_one_clear_line(tiny_gpt2, damage, message):
    said = one_line(*tiny_gpt2, damage)
    assert message in said and said.startswith(f"{tiny_gpt2[0]}{os.sep}")


@pytest.mark.parametrize(("damage", "message"), BASE_DAMAGE.values(), ids=BASE_DAMAGE)
def test_a_damaged_base_is_one_clear_line(tiny_gpt2, damage, message):
    said = one_line(*tiny_gpt2, damage)
    assert message in said and said.startswith(str(tiny_gpt2[1]))


def test_the_numbers_may_not_fit_the_dtype(tiny_gpt2):
    changed(lambda t: t["prj.3.bias"].fill_(1e6))(*tiny_gpt2)
    assert codi_of(*tiny_gpt2).projection[3].bias.eq(1e6).all()
    with pytest.raises(CheckpointError, match="projection.3.bias does not fit into float16; use --dtype float32"):
        codi_of(*tiny_gpt2, dtype="float16")


# Which folder, which base, which name


def test_the_layouts_are_told_apart(tiny_gpt2, tiny_folders, tmp_path):
    checkpoint, base = tiny_gpt2
    assert is_published(checkpoint) and is_published(base) and not is_published(tiny_folders["gpt2"])
    assert not is_published(tmp_path)
    for surplus in ({"base": base}, {"lora_alpha": 8}):
        with pytest.raises(CheckpointError, match="needs no base and has no LoRA.*leave out --base and --lora-alpha"):
            load(tiny_folders["gpt2"], **surplus)


def test_a_base_that_is_not_given(tiny_gpt2):
    with pytest.raises(CheckpointError, match="gpt2: no codi.json.*give --base FOLDER"):
        load(tiny_gpt2[0], name="mine")
    with pytest.raises(CheckpointError, match="^gpt2: not in the local cache.*--base gpt2=FOLDER"):
        load(tiny_gpt2[0], name="gpt2")
    for base in ("./nowhere", tiny_gpt2[1] / "nowhere"):
        with pytest.raises(CheckpointError, match="nowhere: no such folder; give a folder with config.json and tokenizer.json"):
            load(tiny_gpt2[0], base=base)


# The hub, by way of its cache


@pytest.mark.parametrize(("name", "family"), [("gpt2", "gpt2"), ("llama-3.2-1b", "llama")])
def test_a_published_name_is_found_in_the_hub_cache(cache, name, family, tmp_path, monkeypatch):
    entry, (checkpoint, base) = REGISTRY[name], official(family)
    in_hub_cache(cache, entry.hub, checkpoint)
    in_hub_cache(cache, entry.base, base)
    (tmp_path / name).mkdir()  # a folder of that name is not what a registered name means
    monkeypatch.chdir(tmp_path)
    fingerprint = codi_of(checkpoint, base).fingerprint
    for asked in (name, entry.hub):
        found = load(asked, device="cpu")
        assert (found.name, found.num_latents, found.fingerprint) == (name, 6, fingerprint)
    assert load(checkpoint, name=name).fingerprint == fingerprint


def test_any_repository_with_its_base(cache):
    in_hub_cache(cache, "some/codi", GPT2)
    in_hub_cache(cache, "gpt2", GPT2_BASE)
    assert load("some/codi", base="gpt2", **SETTINGS).name == "codi"
    with pytest.raises(CheckpointError, match="no codi.json.*give --base FOLDER"):
        load("some/codi", **SETTINGS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_that_is_not_cached_says_what_to_do(cache, name, tmp_path):
    entry = REGISTRY[name]
    mend = f"run `{entry.download}` and `hf download {entry.base}` where there is a network, or give --model {name}=FOLDER"
    for asked in (name, entry.hub):
        said = refusal(lambda asked=asked: load(asked), CheckpointError)
        assert said.startswith(f"{entry.hub}: not in the local cache") and mend in said and f"--base {name}=FOLDER" in said
    folder = shutil.copytree(GPT2, tmp_path / "weights")
    if entry.weights:
        (folder / entry.weights).parent.mkdir(exist_ok=True)
        (folder / "pytorch_model.bin").rename(folder / entry.weights)
    in_hub_cache(cache, entry.hub, folder)
    with pytest.raises(CheckpointError, match=f"^{entry.base}: not in the local cache, and HF_HUB_OFFLINE"):
        load(name)


def test_a_partial_snapshot(cache, tmp_path):
    shutil.copytree(GPT2_BASE, tmp_path / "base")
    (tmp_path / "base" / "tokenizer.json").unlink()
    in_hub_cache(cache, "gpt2", tmp_path / "base")
    with pytest.raises(CheckpointError, match="^gpt2: config.json and tokenizer.json not found in the local cache"):
        load(GPT2, name="gpt2")
    in_hub_cache(cache, "zen-E/CODI-gpt2", tmp_path / "base")
    (cache / "models--zen-E--CODI-gpt2" / "snapshots" / "0123456789abcdef0123456789abcdef01234567" / SAFE).unlink()
    with pytest.raises(CheckpointError, match="CODI-gpt2: model.safetensors or pytorch_model.bin or .*not found in"):
        load("gpt2")


def hub_error(kind):
    from huggingface_hub import errors

    def fail(*args, **kwargs):
        raise getattr(errors, kind).__new__(getattr(errors, kind)) if kind else RuntimeError("broken\npipe")

    return fail


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "gated: accept its licence on https://huggingface.co/zen-E/CODI-gpt2 and log in"),
        ("RepositoryNotFoundError", "no such folder and no such repository on the hub"),
        ("LocalEntryNotFoundError", "not in the local cache, and the hub cannot be reached"),
        (None, r"cannot be downloaded \(broken\)"),
    ],
)
def test_what_the_hub_may_answer(monkeypatch, kind, message):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub_error(kind))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(CheckpointError, match=f"^zen-E/CODI-gpt2: {message}.*hf download zen-E/CODI-gpt2") as caught:
        load("gpt2")
    assert "\n" not in str(caught.value)


def test_only_one_file_of_weights_is_downloaded(monkeypatch, tmp_path):
    import huggingface_hub

    asked = []

    def download(repository, *, allow_patterns):
        asked.extend(p for p in allow_patterns if p in hub.WEIGHT_FILES)
        return str(GPT2)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.fetch("a/b", patterns=hub.BESIDE_WEIGHTS, one_of=hub.WEIGHT_FILES).name == "codi-checkpoint"
    assert asked == [SAFE, BIN]


def test_names_that_are_neither_registered_nor_a_folder(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'gpt2-mini'"):
        load("gpt2-min")
    for path in ("./a/b", "a/b/c", str(tmp_path / "none"), tmp_path / "none", "../no-such-folder"):
        with pytest.raises(CheckpointError, match="no such folder; give the name of a registered model or a folder with weights"):
            load(path)
    with pytest.raises(CheckpointError, match="^runs/mine: not in the local cache"):
        load("runs/mine")
    assert hub.locate(tmp_path, patterns=()) == tmp_path
