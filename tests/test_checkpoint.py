"""Model folders: saved and loaded exactly, and every damage is one clear line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from checkpoints import FAMILIES, edit_json, refusal
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import codi_bench
from codi_bench.errors import CheckpointError
from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import Codi
from codi_bench.models.loading import load
from codi_bench.models.registry import REGISTRY, entry_for, inner_layers
from codi_bench.problems import generate

WEIGHTS = "model.safetensors"
QUESTIONS = [p.question for p in generate(8, seed=6)]


@pytest.fixture
def folder(tiny_folders, tmp_path):
    """A copy of a tiny model to damage."""
    return shutil.copytree(tiny_folders["gpt2"], tmp_path / "mine")


def edit_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


# Round trip


@FAMILIES
def test_what_is_loaded_is_what_was_saved_rounded_to_half(tiny_folders, tmp_path, family):
    first = load(tiny_folders[family], device="cpu").codi
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.mul_(1 + 2**-14)  # no longer a half-precision number
    shutil.copytree(tiny_folders[family], tmp_path / "m")
    save_folder(first, tmp_path / "m")
    again = load(tmp_path / "m", device="cpu").codi
    assert again.state_dict().keys() == first.state_dict().keys()
    for name, value in again.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, first.state_dict()[name].half().float()), name
    assert any(not torch.equal(value, first.state_dict()[name]) for name, value in again.state_dict().items())
    assert again.backbone.get_output_embeddings().weight is again.backbone.get_input_embeddings().weight
    save_folder(again, tmp_path / "m")
    assert (tmp_path / "m" / WEIGHTS).read_bytes() and load(tmp_path / "m", device="cpu").fingerprint == again.fingerprint


@FAMILIES
def test_size_and_names(tiny_folders, family):
    model = load(tiny_folders[family], device="cpu")
    assert (model.name, model.num_latents, model.codi.num_layers, model.codi.width) == (f"tiny-{family}", 6, 4, 32)
    assert (model.entry.architecture, model.entry.layers, model.entry.embedded) == (family, (1, 2, 3), True)
    assert model.codi.num_parameters == sum(v.numel() for v in load_file(tiny_folders[family] / WEIGHTS).values())
    assert load(tiny_folders[family], name="mine", num_latents=3).name == "mine"
    assert load(tiny_folders[family], num_latents=3).num_latents == 3
    assert codi_bench.load(tiny_folders[family]).fingerprint == model.fingerprint


def test_the_fingerprint_changes_with_weights_and_settings(folder, tiny_folders):
    first = load(folder).fingerprint
    assert first == load(tiny_folders["gpt2"]).fingerprint and len(first) == 64
    edit_json(folder / "codi.json", num_latents=5)
    second = load(folder).fingerprint
    edit_weights(folder, lambda t: t["projection.1.bias"].add_(1e-3))
    assert len({first, second, load(folder).fingerprint, load(tiny_folders["llama"]).fingerprint}) == 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes_are_near(tiny_folders, dtype):
    model = load(tiny_folders["gpt2"], device="cpu", dtype=dtype)
    assert {p.dtype for p in model.codi.parameters()} == {getattr(torch, dtype)}
    exact = load(tiny_folders["gpt2"], device="cpu").think(QUESTIONS).hidden_states
    error = abs(model.think(QUESTIONS).hidden_states - exact)
    assert 0 < error[:, 0].max() < 0.5


# Damage


def weights(change):
    return lambda folder: edit_weights(folder, change)


def put(name, value):
    return weights(lambda tensors: tensors.update({name: value}))


def drop(name):
    return weights(lambda tensors: tensors.pop(name))


def gone(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def content(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def field(name, **changes):
    return lambda folder: edit_json(folder / name, **changes)


def twice(name, key):
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(f'"{key}"', f'"{key}": 2, "{key}"'))


def cut(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def another_word(folder):
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    vocabulary["model"]["vocab"]["surplus"] = len(vocabulary["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))


NORM, WTE = "projection.ln.bias", "backbone.transformer.wte.weight"
DAMAGE = {
    "no weights": (gone(WEIGHTS), "no weights (model.safetensors is missing)"),
    "cut": (cut, "model.safetensors: not a complete safetensors file"),
    "pointer": (
        content(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n"),
        "model.safetensors: not a complete safetensors file",
    ),
    "shape": (put("projection.1.weight", torch.zeros(64, 31)), "wrong shape: projection.1.weight [64, 31] instead of [64, 32]"),
    "missing": (drop(NORM), f"missing: {NORM}"),
    "no embedding": (drop(WTE), f"missing: backbone.lm_head.weight, {WTE}"),
    "unexpected": (put("projection.9.bias", torch.zeros(2)), "unexpected: projection.9.bias"),
    "nan": (weights(lambda t: t[NORM].__setitem__(0, float("nan"))), f"NaN or infinite weights in {NORM}"),
    "infinite": (weights(lambda t: t[NORM].__setitem__(0, float("inf"))), f"NaN or infinite weights in {NORM}"),
    "tokenizer": (another_word, "the tokenizer does not match"),
    "vocabulary": (field("codi.json", vocab_size=7), "codi.json says 7"),
    "layers": (field("config.json", n_layer=3), "unexpected: backbone.transformer.h.3."),
    "layers without end": (field("config.json", n_layer=10**9), "n_layer: Input should be less than"),
    "no heads": (field("config.json", n_head=-1), "n_head: Input should be greater than or equal to 0"),
    "a field twice": (twice("config.json", "n_head"), "'n_head': occurs twice"),
    "a length that is none": (field("tokenizer_config.json", model_max_length="x"), "model_max_length"),
    "no eos": (field("tokenizer_config.json", eos_token=None), "tokenizer_config.json: field 'eos_token' is missing"),
    "no config": (gone("config.json"), "config.json missing"),
    "no tokenizer": (gone("tokenizer.json", "tokenizer_config.json"), "tokenizer.json and tokenizer_config.json missing"),
    "broken tokenizer": (
        content("tokenizer.json", b'{"model":'),
        "tokenizer.json: unreadable or incomplete (the file: Invalid JSON",
    ),
    "architecture": (field("config.json", model_type="gpt9"), "configuration or tokenizer cannot be read"),
    "no meta": (gone("codi.json"), "no codi.json, so this is not a model folder"),
    "cut meta": (content("codi.json", b'{"num_latents": 6,'), "codi.json: unreadable or incomplete"),
    "binary meta": (content("codi.json", b"\xff\xfe\x00"), "codi.json: unreadable or incomplete"),
    "list meta": (content("codi.json", b"[6]"), "codi.json: unreadable or incomplete"),
    "half meta": (field("codi.json", vocab_size=None), "codi.json: unreadable or incomplete (vocab_size: Field required)"),
    "text meta": (field("codi.json", num_latents="6"), "(num_latents: Input should be a valid integer)"),
    "a projection of no size": (field("codi.json", projection_width=10**12), "projection_width: Input should be less than"),
    "negative meta": (field("codi.json", num_latents=-1), "(num_latents: Input should be greater than or equal to 0)"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_one_clear_line(folder, damage, message):
    damage(folder)
    said = refusal(lambda: load(folder, device="cpu"), CheckpointError)
    assert message in said and said.startswith(str(folder))


def test_an_unknown_dtype(folder):
    with pytest.raises(CheckpointError, match="unknown dtype 'fp8': use one of float32, bfloat16, float16"):
        load(folder, dtype="fp8")


def test_a_gpu_that_is_not_there(folder):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here: nothing to refuse")
    with pytest.raises(CheckpointError, match="device 'cuda' is not available to PyTorch"):
        load(folder, device="cuda")


def test_left_padding_says_where_the_words_are(tiny):
    ids, mask = Codi.pad(tiny.codi, [[5, 6, 7], [8]])
    pad = tiny.codi.vocab_size
    assert ids.tolist() == [[5, 6, 7], [pad, pad, 8]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]


# Probed layers


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted), st.integers(4, 40))
def test_probed_layers_are_distinct_and_inside(depths, layers):
    found = inner_layers(tuple(depths), layers)
    assert len(found) == 3 and 1 <= found[0] < found[1] < found[2] <= layers - 1


@pytest.mark.parametrize(
    ("family", "wanted"), [("gpt2", {12: (4, 8, 11), 4: (1, 2, 3)}), ("llama", {16: (8, 14, 15), 5: (2, 3, 4), 4: (1, 2, 3)})]
)
def test_a_user_s_model_is_probed_where_the_study_probed(family, wanted):
    for layers in range(4, 41):
        mine = entry_for("mine", family, layers)
        assert 1 <= mine.layers[0] < mine.layers[1] < mine.layers[2] <= layers - 1
        assert mine.layers == wanted.get(layers, mine.layers)
        assert mine.sae_layers == (mine.layers if family == "gpt2" else tuple(range(max(1, layers - 4), layers + 1)))
    for held in REGISTRY.values():
        mine = entry_for(held.name, held.architecture, held.num_layers)
        assert (held.layers, held.sae_layers) == (mine.layers, mine.sae_layers)


def test_a_shallow_model_is_probed_at_all_its_inner_layers_and_one_without_any_is_refused():
    for family in ("gpt2", "llama"):
        assert entry_for("mine", family, 3).probed == (1, 2) and entry_for("mine", family, 2).probed == (1,)
        with pytest.raises(CheckpointError, match="'mine' has one layer.*at least 2"):
            entry_for("mine", family, 1).probed  # noqa: B018
