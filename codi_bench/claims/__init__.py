"""Claims: what was claimed, by whom, under which protocol. There is one module per source; every module here is imported."""

from collections.abc import Collection
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

from codi_bench.claims.claim import CLAIMS, Bench, Claim, Measured
from codi_bench.claims.families import FAMILIES
from codi_bench.errors import UnknownNameError

for module in sorted(walk_packages(__path__, f"{__name__}."), key=lambda module: module.name):
    import_module(module.name)
_ordered = sorted(CLAIMS.values(), key=lambda each: list(FAMILIES).index(each.family))  # as the report has them
CLAIMS |= {each.id: CLAIMS.pop(each.id) for each in _ordered}


def get_claim(id: str) -> Claim:
    """The claim of that id. Raises UnknownNameError with the nearest one."""
    if id not in CLAIMS:
        raise UnknownNameError("claim", id, CLAIMS)
    return CLAIMS[id]


def in_words(ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """These claims as texts for a report, by id, each with its position among all claims."""
    return {
        claim.id: {
            "position": i,
            "family": claim.family,
            "kind": claim.kind,
            "sentence": claim.sentence,
            "source": claim.source,
            "protocol": claim.protocol,
            "sound": claim.sound_protocol,
        }
        for i, claim in enumerate(CLAIMS.values())
        if claim.id in ids
    }


__all__ = ["CLAIMS", "FAMILIES", "Bench", "Claim", "Measured", "get_claim", "in_words"]
