"""Claims: what was claimed, by whom, under which protocol. One module a source; a new source is named here."""

from codi_bench.claims import own_study, papers_study, seed_study
from codi_bench.claims.claim import Bench, Captured, Claim, Measured
from codi_bench.errors import UnknownNameError

CLAIMS = {claim.id: claim for source in (seed_study, own_study, papers_study) for claim in source.CLAIMS}
FAMILIES = tuple(dict.fromkeys(claim.family for claim in CLAIMS.values()))


def claim(name: str) -> Claim:
    """The claim of that id; raises UnknownNameError with the nearest one."""
    if name not in CLAIMS:
        raise UnknownNameError("claim", name, CLAIMS)
    return CLAIMS[name]


def in_words() -> dict[str, dict]:
    """Every claim as a report needs it, by id, with its position: a report has no other way to know them."""
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
    }


__all__ = ["CLAIMS", "FAMILIES", "Bench", "Captured", "Claim", "Measured", "claim", "in_words"]
