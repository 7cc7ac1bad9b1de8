"""The folders of the real SAELens here. `tox -e sae-lens` installs it; elsewhere this module is skipped."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sae_lens")

from sae_lens import JumpReLUSAE, JumpReLUSAEConfig, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

from codi_bench.measures.sae_folder import load_sae


def vectors(m, seed):
    return torch.randn(m, 16, generator=torch.Generator().manual_seed(seed)) + 1


@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (StandardSAE, StandardSAEConfig(16, 40)),
        (TopKSAE, TopKSAEConfig(16, 40, k=5)),
        (TopKSAE, TopKSAEConfig(16, 40, k=5, rescale_acts_by_decoder_norm=True)),
        (JumpReLUSAE, JumpReLUSAEConfig(16, 40)),
    ],
    ids=["standard", "topk", "topk by norms", "jumprelu"],
)
def test_we_compute_what_sae_lens_saved(tmp_path, kind, config, subtracted):
    config.apply_b_dec_to_input = subtracted
    theirs, x = kind(config), vectors(100, 1)
    with torch.no_grad():
        theirs.b_enc.copy_(0.1 * torch.randn(40, generator=torch.Generator().manual_seed(2)))
        theirs.b_dec.copy_(0.1 * torch.randn(16, generator=torch.Generator().manual_seed(3)))
        if kind is JumpReLUSAE:
            theirs.threshold.fill_(0.5)
        theirs.save_model(tmp_path / "sae")
        ours = load_sae(tmp_path / "sae")
        torch.testing.assert_close(ours.encode(x), theirs.encode(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(ours.encode(x)), theirs(x), rtol=1e-5, atol=1e-5)
