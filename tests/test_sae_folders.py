"""Autoencoders of SAELens and dictionary_learning: each architecture by hand and by another forward, and what is refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_folders import write_folder, write_sae
from safetensors.torch import load_file, save_file

from codi_bench.errors import CodiBenchError
from codi_bench.measures.sae import Sae, sae_quality
from codi_bench.measures.sae_folder import CONFIG, PICKLE, PICKLE_CONFIG, WEIGHTS, load_sae
from codi_bench.measures.sae_heldout import quality

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"

# d = 2, F = 3. x - b_dec is [[1, 2], [2, 0]].
# Pre-activations: centred [[1.5, 1, -1], [2.5, -1, 2]], else [[2.5, 0, 1], [3.5, -2, 4]].
X = np.array([[2, 1], [3, -1]], np.float32)
W_ENC, B_ENC = torch.tensor([[1.0, 0, 1], [0, 1, -1]]), torch.tensor([0.5, -1, 0])
W_DEC, B_DEC = torch.tensor([[1.0, 0], [0, 2], [1, 1]]), torch.tensor([1.0, -1])
THRESHOLD = torch.tensor([1.5, 0.5, 2])  # two pre-activations are equal to it, and off
ONE, MINUS_ONE = torch.tensor(1.0), torch.tensor(-1.0)
LENS = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC}
LINEAR = {"encoder.weight": W_ENC.T.contiguous(), "encoder.bias": B_ENC, "decoder.weight": W_DEC.T.contiguous()}
ROOT = 2 * 2**0.5
K = torch.tensor(1, dtype=torch.int32)
OLD = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 1}}  # SAELens 3 to 5


def lens(architecture, **settings):
    return {"architecture": architecture, "d_in": 2, "d_sae": 3} | settings


def trainer(dict_class, **settings):
    return {"dict_class": dict_class, "trainer_class": "AnyTrainer", "activation_dim": 2, "dict_size": 3} | settings


HAND = {
    "standard": (lens("standard"), LENS, [[1.5, 1, 0], [2.5, 0, 2]], [[2.5, 1], [5.5, 1]]),
    "standard, not centred": (
        lens("standard", apply_b_dec_to_input=False),
        LENS,
        [[2.5, 0, 1], [3.5, 0, 4]],
        [[4.5, 0], [8.5, 3]],
    ),
    "topk": (lens("topk", k=1), LENS, [[1.5, 0, 0], [2.5, 0, 0]], [[2.5, -1], [3.5, -1]]),
    "topk of SAELens 5": (lens("topk", **OLD), LENS, [[1.5, 0, 0], [2.5, 0, 0]], [[2.5, -1], [3.5, -1]]),
    "topk, not centred": (
        lens("topk", k=1, apply_b_dec_to_input=False),
        LENS,
        [[2.5, 0, 0], [0, 0, 4]],
        [[3.5, -1], [5, 3]],
    ),
    "topk by norms": (  # 1.5, 2 and -√2, then 2.5, -2 and 2√2, and each over its norm 1, 2, √2
        lens("topk", k=1, rescale_acts_by_decoder_norm=True),
        LENS,
        [[0, 2, 0], [0, 0, ROOT]],
        [[1, 1], [3, 1]],
    ),
    "jumprelu": (lens("jumprelu"), LENS | {"threshold": THRESHOLD}, [[0, 1, 0], [2.5, 0, 0]], [[1, 1], [3.5, -1]]),
    "jumprelu, not centred": (
        lens("jumprelu", apply_b_dec_to_input=False, activation_fn_str="relu"),
        LENS | {"threshold": THRESHOLD},
        [[2.5, 0, 0], [3.5, 0, 4]],
        [[3.5, -1], [8.5, 3]],
    ),
    "jumprelu below 0": (
        lens("jumprelu"),
        LENS | {"threshold": torch.full((3,), -5.0)},
        [[1.5, 1, 0], [2.5, 0, 2]],
        [[2.5, 1], [5.5, 1]],
    ),
    "batchtopk": (
        lens("batchtopk", k=1.5),
        LENS | {"topk_threshold": ONE.double()},
        [[1.5, 0, 0], [2.5, 0, 2]],
        [[2.5, -1], [5.5, 1]],
    ),
    "batchtopk, a threshold each": (
        lens("batchtopk", k=1),
        LENS | {"threshold": THRESHOLD},
        [[0, 1, 0], [2.5, 0, 0]],
        [[1, 1], [3.5, -1]],
    ),
    "AutoEncoder": (trainer("AutoEncoder"), LINEAR | {"bias": B_DEC}, [[1.5, 1, 0], [2.5, 0, 2]], [[2.5, 1], [5.5, 1]]),
    "AutoEncoderNew": (
        trainer("AutoEncoderNew"),
        LINEAR | {"decoder.bias": B_DEC},
        [[2.5, 0, 1], [3.5, 0, 4]],
        [[4.5, 0], [8.5, 3]],
    ),
    "AutoEncoderTopK": (  # its threshold is unused
        trainer("AutoEncoderTopK", k=1),
        LINEAR | {"b_dec": B_DEC, "k": K, "threshold": torch.tensor(2.0)},
        [[1.5, 0, 0], [2.5, 0, 0]],
        [[2.5, -1], [3.5, -1]],
    ),
    "AutoEncoderTopK of 2024": (
        trainer("AutoEncoderTopK", k=1),
        LINEAR | {"b_dec": B_DEC},
        [[1.5, 0, 0], [2.5, 0, 0]],
        [[2.5, -1], [3.5, -1]],
    ),
    "BatchTopKSAE": (
        trainer("BatchTopKSAE", k=1),
        LINEAR | {"b_dec": B_DEC, "k": K, "threshold": ONE},
        [[1.5, 0, 0], [2.5, 0, 2]],
        [[2.5, -1], [5.5, 1]],
    ),
    "MatryoshkaBatchTopKSAE": (
        trainer("MatryoshkaBatchTopKSAE", k=1, group_sizes=[1, 2]),
        LENS | {"k": K, "threshold": ONE, "group_sizes": torch.tensor([1, 2])},
        [[1.5, 0, 0], [2.5, 0, 2]],
        [[2.5, -1], [5.5, 1]],
    ),
    "JumpReluAutoEncoder": (
        trainer("JumpReluAutoEncoder"),
        LENS | {"threshold": THRESHOLD},
        [[2.5, 0, 0], [3.5, 0, 4]],
        [[3.5, -1], [8.5, 3]],
    ),
}


def some_sae(k, *, features=12, d=8, threshold=False):
    generator = torch.Generator().manual_seed(0)
    shapes = ((features, d), (features,), (d, features), (d,))
    weights = [torch.randn(shape, generator=generator) for shape in shapes]
    return Sae(*weights, k, torch.rand(features, generator=generator) if threshold else None)


@pytest.mark.parametrize("name", HAND)
def test_an_architecture_computes_what_was_computed_by_hand(tmp_path, name):
    config, tensors, features, recon = HAND[name]
    sae = load_sae(str(write_folder(tmp_path / "sae", config, tensors)))
    np.testing.assert_allclose(sae.encode(X), features, atol=1e-6)
    np.testing.assert_allclose(sae.decode(sae.encode(X)), recon, atol=1e-6)
    np.testing.assert_allclose(sae.encode(X[None, :1]), [features[:1]], atol=1e-6)  # no vector depends on its batch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", HAND)
def test_random_weights_compute_what_numpy_computes(tmp_path, name, dtype):
    config, tensors, *_ = HAND[name]
    rng = np.random.default_rng(0)
    d, features, k = 8, 12, 3
    shapes = {2: d, 3: features, 1: 1}
    drawn = {
        key: torch.from_numpy(rng.standard_normal([shapes[size] for size in value.shape])).to(dtype)
        if value.is_floating_point()
        else value
        for key, value in tensors.items()
    }
    drawn |= {key: drawn[key].abs() for key in drawn if "threshold" in key}
    drawn |= {"k": torch.tensor(k)} if "k" in drawn else {}
    sizes = {"d_in": d, "d_sae": features} if "d_in" in config else {"activation_dim": d, "dict_size": features}
    config = config | sizes | ({"k": k} if config.get("k") or "activation_fn_kwargs" in config else {})
    config = {key: {"k": k} if key == "activation_fn_kwargs" else value for key, value in config.items()}
    sae, x = load_sae(write_folder(tmp_path / "sae", config, drawn)), rng.standard_normal((40, d)).astype(np.float32)

    weights = {key: value.double().numpy() for key, value in drawn.items()}
    encoder, decoder = (
        (weights["W_enc"], weights["W_dec"]) if "W_enc" in weights else (weights["encoder.weight"].T, weights["decoder.weight"].T)
    )
    b_enc = weights.get("b_enc", weights.get("encoder.bias"))
    b_dec = next(weights[key] for key in ("b_dec", "bias", "decoder.bias") if key in weights)
    centred = config.get("apply_b_dec_to_input", name not in ("AutoEncoderNew", "JumpReluAutoEncoder"))
    norms = np.linalg.norm(decoder, axis=1) if config.get("rescale_acts_by_decoder_norm") else 1
    before = ((x - b_dec * centred) @ encoder + b_enc) * norms
    expected = np.maximum(before, 0)
    if name.startswith(("topk", "AutoEncoderTopK")):
        expected[before < np.sort(before, axis=1)[:, [-k]]] = 0
    elif thresholds := [value for key, value in weights.items() if "threshold" in key]:
        expected[before <= thresholds[0]] = 0
    np.testing.assert_allclose(sae.encode(x), expected, atol=1e-4)
    np.testing.assert_allclose(sae.decode(sae.encode(x)), expected / norms @ decoder + b_dec, atol=1e-4)
    assert all(weight.dtype == torch.float32 for weight in (sae.encoder_weight, sae.encoder_bias, sae.decoder_weight))


@pytest.mark.parametrize("sae", [some_sae(None), some_sae(3), some_sae(None, threshold=True)], ids=["relu", "topk", "jumprelu"])
def test_an_sae_folder_loads_exactly(tmp_path, sae):
    loaded = load_sae(write_sae(sae, tmp_path / "sae"))
    for name in ("encoder_weight", "encoder_bias", "decoder_weight", "decoder_bias"):
        assert torch.equal(getattr(loaded, name), getattr(sae, name))
    assert loaded.k == sae.k
    assert loaded.threshold is None if sae.threshold is None else torch.equal(loaded.threshold, sae.threshold)


def test_the_quality_of_a_jumprelu_is_counted_by_hand(tmp_path):
    """Errors [[-1, 0], [0.5, 0]] of vectors whose squares around their mean are 2.5; one of three features is never active."""
    config, tensors, *_ = HAND["jumprelu"]
    sae = load_sae(write_folder(tmp_path / "sae", config, tensors))
    found = sae_quality(sae, X)
    assert (found.explained_variance, found.l0, found.dead) == (0.5, 1.0, pytest.approx(1 / 3))
    found = quality(sae, X, X)
    assert (found.explained_variance, found.l0, found.dead) == (0.5, 1.0, pytest.approx(1 / 3))


def test_fields_that_change_nothing_pass(tmp_path):
    said = {
        "dtype": "torch.float32", "hook_name": "blocks.3.hook_resid_post", "hook_layer": 3, "l1_coefficient": float("nan"),
        "jumprelu_init_threshold": 0.001, "jumprelu_bandwidth": 0.001, "activation_fn_kwargs": {}, "k": None,
        "normalize_activations": None, "finetuning_scaling_factor": False, "model_from_pretrained_kwargs": {"k": 3},
        "metadata": {"sae_lens_version": "6.22.1", "k": 3, "architecture": "topk"},
    }  # fmt: skip
    sae = load_sae(write_folder(tmp_path / "sae", lens("standard", **said), LENS))
    assert sae.encode(X).tolist() == HAND["standard"][2]


def test_sizes_may_be_those_of_the_weights_alone(tmp_path):
    for dict_class in ("AutoEncoder", "JumpReluAutoEncoder"):
        _, tensors, features, _ = HAND[dict_class]
        assert load_sae(write_folder(tmp_path / dict_class, {"dict_class": dict_class}, tensors)).encode(X).tolist() == features


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 3}, "cfg.json: k is 3 and belongs to 'topk' and 'batchtopk', but architecture is 'standard'"),
        ({"architecture": "jumprelu", "k": 3}, "k is 3 and belongs to"),
        ({"activation_fn_kwargs": {"k": 3}}, "activation_fn_kwargs is .'k': 3. and belongs to 'topk'"),
        (
            {"architecture": "batchtopk", "activation_fn_kwargs": {"k": 3}},
            "activation_fn_kwargs is .'k': 3. and belongs to 'topk'",
        ),
        ({"architecture": "topk", "activation_fn_kwargs": {"k": 3}}, ".'k': 3., without an activation_fn"),
        ({"architecture": "topk", "activation_fn_str": "topk"}, "k is None, not a positive number"),
        ({"architecture": "topk", **OLD, "k": 2}, "k is 2 and activation_fn_kwargs.k is 1"),
        ({"architecture": "topk", **OLD, "activation_fn_kwargs": {"k": 1, "signed": True}}, "topk has only k"),
        ({"architecture": "topk", **OLD, "activation_fn_kwargs": [1]}, "activation_fn_kwargs is .1."),
        ({"activation_fn_str": "topk"}, "activation_fn_str is 'topk', which is no 'standard' architecture"),
        ({"activation_fn": "tanh-relu"}, "activation_fn is 'tanh-relu'"),
        ({"architecture": "topk", "k": 2, "activation_fn": "relu"}, "activation_fn is 'relu', which is no 'topk'"),
        ({"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm is True and belongs to 'topk' and 'batchtopk'"),
        (
            {"architecture": "topk", "k": 2, "rescale_acts_by_decoder_norm": []},
            "rescale_acts_by_decoder_norm is .., not true or false",
        ),
        ({"threshold": 0.5}, "threshold is 0.5 and is not supported by any"),
        ({"d_out": 2}, "d_out is 2"),
        ({"architecture": "gated"}, "architecture is 'gated'; 'standard', 'topk', 'jumprelu' and 'batchtopk' can be loaded"),
        ({"architecture": None}, "architecture is None"),
        ({"architecture": ["topk"]}, "architecture is .'topk'."),
        ({"normalize_activations": "layer_norm"}, "normalize_activations is 'layer_norm'; only 'none'"),
        ({"normalize_activations": "expected_average_only_in"}, "normalize_activations is 'expected"),
        ({"reshape_activations": "hook_z"}, "reshape_activations is 'hook_z'"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor is True"),
        ({"apply_b_dec_to_input": "yes"}, "apply_b_dec_to_input is 'yes'"),
        ({"architecture": "topk", "k": 4}, "k is 4, but there are 3 features"),
        ({"architecture": "topk", "k": True}, "k is True, not a positive number"),
        ({"architecture": "topk", "k": 2.0}, "k is 2.0, not a positive number"),
        ({"d_in": "2"}, "d_in is '2', not a positive number"),
        ({"d_sae": None}, "d_sae is None"),
        ({"d_in": 9}, "wrong shape: W_dec .3, 2. instead of .3, 9., W_enc .2, 3. instead of .9, 3."),
        ({"architecture": "jumprelu"}, "sae_weights.safetensors: .*'jumprelu': missing: threshold"),
        ({"architecture": "batchtopk", "k": 1}, "'batchtopk': missing: threshold"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(tmp_path, settings, message):
    refused(write_folder(tmp_path / "sae", lens("standard") | settings, LENS), message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 1}, "config.json: k is 1 and belongs to 'AutoEncoderTopK', .*but dict_class is 'AutoEncoder'"),
        ({"group_sizes": [1, 2]}, "group_sizes is .1, 2."),
        ({"threshold": 0.5}, "threshold is 0.5 and belongs to"),
        ({"dict_class": "GatedAutoEncoder"}, "trainer.dict_class is 'GatedAutoEncoder'; 'AutoEncoder', .* can be loaded"),
        ({"dict_class": {}}, "trainer.dict_class is {}"),
        ({"dict_class": "JumpReluAutoEncoder"}, "dict_class is 'JumpReluAutoEncoder', but the weights beside it have no W_enc"),
        ({"dict_class": "AutoEncoderNew"}, "ae.pt: .*'AutoEncoderNew': missing: decoder.bias; unexpected: bias"),
        ({"dict_class": "AutoEncoderTopK"}, "trainer.k is None, not a positive number"),
        ({"dict_class": "AutoEncoderTopK", "k": 4}, "trainer.k is 4, but there are 3 features"),
        ({"activation_dim": 3, "dict_size": 2}, "wrong shape: .*encoder.weight .3, 2. instead of .2, 3."),
        ({"dict_size": "3"}, "trainer.dict_size is '3'"),
    ],
)
def test_a_trainer_that_does_not_fit_is_refused_by_name(tmp_path, settings, message):
    refused(write_folder(tmp_path / "sae", trainer("AutoEncoder") | settings, LINEAR | {"bias": B_DEC}), message)


@pytest.mark.parametrize(
    ("name", "tensors", "message"),
    [
        ("standard", {"threshold": THRESHOLD}, "sae_weights.safetensors: .*'standard': unexpected: threshold"),
        ("topk", {"threshold": THRESHOLD}, "'topk': unexpected: threshold"),
        ("standard", {"r_mag": B_ENC.clone(), "b_gate": B_ENC.clone()}, "unexpected: b_gate, r_mag"),
        ("standard", {"b_dec": None}, "missing: b_dec"),
        ("standard", {"W_enc": W_ENC.T.contiguous(), "W_dec": W_DEC.T.contiguous()}, "W_enc .3, 2. instead of .2, 3."),
        ("standard", {"b_enc": torch.tensor([0, torch.nan, 0])}, "NaN or infinite weights in b_enc"),
        ("standard", {"W_dec": W_DEC.double() * 1e300}, "NaN or infinite weights in W_dec"),
        ("standard", {"W_dec": W_DEC.to(torch.int8)}, "'W_dec' is of int8"),
        ("jumprelu", {"threshold": ONE}, "threshold .. instead of .3."),
        ("jumprelu", {"threshold": torch.tensor([0, torch.inf, 0])}, "NaN or infinite weights in threshold"),
        ("batchtopk", {"threshold": THRESHOLD}, "unexpected: topk_threshold"),
        ("BatchTopKSAE", {"threshold": MINUS_ONE}, "ae.pt: threshold is -1: training ended before there was one"),
        ("BatchTopKSAE", {"threshold": None}, "'BatchTopKSAE': missing: threshold"),
        ("BatchTopKSAE", {"k": 2 * K}, "trainer.k is 1, but the weights say 2"),
        ("AutoEncoderTopK", {"k": torch.tensor(1.5)}, "trainer.k is 1, but the weights say 1.5"),
        ("AutoEncoder", {"activation_rescale_factor": B_ENC}, "unexpected: activation_rescale_factor"),
        ("AutoEncoder", {"bias": "zero"}, "holds bias .str., not a tensor by name"),
        ("AutoEncoder", {"bias": B_DEC.to_sparse()}, "bias is not a plain dense tensor"),
        ("AutoEncoder", {"bias": B_DEC.to("meta")}, "bias is not a plain dense tensor"),
        ("AutoEncoder", {7: B_DEC}, "ae.pt: holds 7 .Tensor., not a tensor by name"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, name, tensors, message):
    config, whole, *_ = HAND[name]
    changed = {key: value for key, value in (whole | tensors).items() if value is not None}
    refused(write_folder(tmp_path / "sae", config, changed), message)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("executed",)


DAMAGES = {
    "no weights": (WEIGHTS, None, "no weights .sae_weights.safetensors is missing"),
    "weights cut": (WEIGHTS, lambda data: data[:-1], "sae_weights.safetensors: not a complete safetensors file"),
    "weights empty": (WEIGHTS, lambda _: b"", "sae_weights.safetensors: .*empty"),
    "weights LFS": (WEIGHTS, lambda _: LFS, "sae_weights.safetensors: .*LFS pointer"),
    "no config": (CONFIG, None, "cfg.json: there is no such file"),
    "config cut": (CONFIG, lambda data: data[:-1], "cfg.json: cannot be read"),
    "config empty": (CONFIG, lambda _: b"", "cfg.json: cannot be read .it is empty"),
    "config LFS": (CONFIG, lambda _: LFS, "cfg.json: cannot be read .it is a Git LFS pointer"),
    "config not UTF-8": (CONFIG, lambda data: data.replace(b"float32", b"\xff"), "cfg.json: cannot be read"),
    "config a list": (CONFIG, lambda _: b"[]", "cfg.json: cannot be read .the file"),
    "config twice": (CONFIG, lambda data: b'{"architecture": "standard",' + data[1:], "'architecture': occurs twice"),
    "config twice inside": (CONFIG, lambda data: b'{"metadata": {"a": 1, "a": 1},' + data[1:], "'a': occurs twice"),
    "config deep": (CONFIG, lambda data: b'{"metadata":' + b"[" * 10**5 + b"]" * 10**5 + b"," + data[1:], "cannot be read"),
    "ae.pt cut": (PICKLE, lambda data: data[:-30], "ae.pt: "),
    "ae.pt empty": (PICKLE, lambda _: b"", "ae.pt: .*empty"),
    "ae.pt LFS": (PICKLE, lambda _: LFS, "ae.pt: .*LFS pointer"),
    "no trainer": (PICKLE_CONFIG, lambda _: b'{"buffer": {}}', "config.json: trainer is None"),
    "trainer twice": (PICKLE_CONFIG, lambda data: b'{"trainer": {},' + data[1:], "config.json: .*'trainer': occurs twice"),
    "no config.json": (PICKLE_CONFIG, None, "config.json: there is no such file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_one_clear_error(tmp_path, name):
    file, damage, message = DAMAGES[name]
    config, tensors, *_ = HAND["AutoEncoder" if file in (PICKLE, PICKLE_CONFIG) else "jumprelu"]
    path = write_folder(tmp_path / "sae", config | {"dtype": "float32"}, tensors) / file
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    refused(tmp_path / "sae", message)


@pytest.mark.parametrize("contents", [Attack(), {"bias": Attack()}, [B_DEC]], ids=["attack", "attack inside", "list"])
def test_nothing_of_a_pickle_is_executed(tmp_path, monkeypatch, contents):
    monkeypatch.chdir(tmp_path)
    refused(write_folder(tmp_path / "sae", trainer("AutoEncoder"), contents), "ae.pt: ")
    assert not Path("executed").exists()


def test_a_folder_of_both_libraries_is_refused(tmp_path):
    folder = write_folder(tmp_path / "sae", *HAND["AutoEncoder"][:2])
    (folder / CONFIG).write_text(json.dumps(lens("standard")))
    save_file(LENS, folder / WEIGHTS)
    refused(folder, "has both cfg.json and ae.pt")


@pytest.mark.parametrize("folder", [None, 3, b"sae", "a\0b", "\ud83d", "a" * 5000, ["sae"]], ids=ascii)
def test_what_is_no_folder_is_refused(folder):
    refused(folder, "folder must be a path, got")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", object(), 99])
def test_a_device_that_is_not_there_is_refused(tmp_path, device):
    folder = write_folder(tmp_path / "sae", *HAND["standard"][:2])
    with pytest.raises(CodiBenchError, match="device"):
        load_sae(folder, device=device)


def test_weights_do_not_change_with_their_file(tmp_path):
    """A file of `torch.save` is mapped into memory."""
    folder = write_folder(tmp_path / "sae", *HAND["AutoEncoder"][:2])
    sae = load_sae(folder)
    (folder / PICKLE).write_bytes(bytes((folder / PICKLE).stat().st_size))
    assert sae.encode(X).tolist() == HAND["AutoEncoder"][2]
    assert load_file(write_folder(tmp_path / "other", *HAND["standard"][:2]) / WEIGHTS).keys() == LENS.keys()


def refused(folder, message):
    with pytest.raises(CodiBenchError, match=message) as error:
        load_sae(folder)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 6000
