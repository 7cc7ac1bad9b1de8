"""Our SAE folders in the real SAELens, and its folders here. `tox -e sae-lens` installs it; elsewhere this module is skipped."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sae_lens")

from sae_lens import SAE, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

from codi_bench.measures.sae import train_relu_sae, train_topk_sae
from codi_bench.measures.sae_folder import load_sae, save_sae


def vectors(m, seed):
    return torch.randn(m, 16, generator=torch.Generator().manual_seed(seed)) + 1


def trained(architecture):
    if architecture == "standard":
        return train_relu_sae(vectors(500, 0), features=40, l1=0.01, l1_kind="sum", epochs=5, seed=0)
    return train_topk_sae(vectors(500, 0), features=40, k=5, epochs=5, seed=0)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_sae_lens_computes_what_we_compute(tmp_path, architecture):
    ours, x = trained(architecture), vectors(100, 1)
    save_sae(ours, tmp_path / "sae", metadata={"model_name": "gpt2-mini", "hook_name": "blocks.3.hook_resid_post"})
    theirs = SAE.load_from_disk(tmp_path / "sae")
    assert theirs.cfg.architecture() == architecture
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    with torch.no_grad():
        features = theirs.encode(x)
        close(features, ours.encode(x))
        close(theirs.decode(features), ours.decode(features))
        close(theirs(x), ours.decode(ours.encode(x)))
        close(theirs.encode(x.reshape(4, 25, 16)), ours.encode(x.reshape(4, 25, 16)))


@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.parametrize(
    ("kind", "config"),
    [(StandardSAE, StandardSAEConfig(16, 40)), (TopKSAE, TopKSAEConfig(16, 40, k=5))],
    ids=["standard", "topk"],
)
def test_we_compute_what_sae_lens_saved(tmp_path, kind, config, subtracted):
    config.apply_b_dec_to_input = subtracted
    theirs, x = kind(config), vectors(100, 1)
    with torch.no_grad():
        theirs.b_enc.copy_(0.1 * torch.randn(40, generator=torch.Generator().manual_seed(2)))
        theirs.b_dec.copy_(0.1 * torch.randn(16, generator=torch.Generator().manual_seed(3)))
        theirs.save_model(tmp_path / "sae")
        ours = load_sae(tmp_path / "sae")
        torch.testing.assert_close(ours.encode(x), theirs.encode(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(ours.encode(x)), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_a_folder_goes_through_sae_lens_and_back(tmp_path, architecture):
    ours = trained(architecture)
    save_sae(ours, tmp_path / "ours")
    SAE.load_from_disk(tmp_path / "ours").save_model(tmp_path / "theirs")
    back = load_sae(tmp_path / "theirs")
    assert back.k == ours.k
    assert torch.equal(back.encoder_weight, ours.encoder_weight) and torch.equal(back.decoder_weight, ours.decoder_weight)
    assert torch.equal(back.encoder_bias, ours.encoder_bias) and torch.equal(back.decoder_bias, ours.decoder_bias)
