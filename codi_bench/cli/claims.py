"""Claims as a list: their source, and the verdicts that are recorded for each model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from codi_bench.claims import FAMILIES, Claim
from codi_bench.errors import UnknownNameError
from codi_bench.models.registry import REGISTRY
from codi_bench.records.baseline import Record, load_baseline, of_record_key
from codi_bench.rules.validity import Validity
from codi_bench.thoughts.released import MODELS as RELEASED_MODELS

MODELS = (*REGISTRY, *RELEASED_MODELS)


def listed(
    claims: Iterable[Claim],
    baselines: Path,
    *,
    source: str | None = None,
    family: str | None = None,
    model: str | None = None,
    verdict: str | None = None,
) -> list[tuple[str, ...]]:
    """(id, family, kind, sentence, source, verdicts) of those that fit all that is asked; None asks for nothing.

    Verdicts count metrics, as recorded last. Raises UnknownNameError for an unknown family, model or verdict, BaselineError for
    a damaged file.
    """
    for what, value, known in (("family", family, FAMILIES), ("model", model, MODELS), ("verdict", verdict, list(Validity))):
        if value is not None and value not in known:
            raise UnknownNameError(what, value, known)
    rows: list[tuple[str, ...]] = []
    for claim in claims:
        if (family or claim.family) != claim.family or (source or "").lower() not in claim.source.lower():
            continue
        records = {name: load_baseline(baselines, name, claim.id) for name in ([model] if model else MODELS)}
        baselines_by_model = {name: baseline for name, baseline in records.items() if baseline.recorded or baseline.reported}
        words = {
            name: _words(max(baseline.recorded, key=lambda r: r.date)) if baseline.recorded else Counter()
            for name, baseline in baselines_by_model.items()
        }
        if (model and not baselines_by_model) or (verdict and not any(verdict in counts for counts in words.values())):
            continue
        counts_by_model = [
            f"{name}: {', '.join(f'{n} {word}' for word, n in counts.items())}" for name, counts in words.items() if counts
        ]
        rows.append((claim.id, claim.family, claim.kind, claim.sentence, claim.source, "; ".join(counts_by_model)))
    return rows


def _words(record: Record) -> Counter:
    """How many metrics have which verdict, under either protocol."""
    verdicts = {(of_record_key(key)[1], metric.verdict) for key, metric in record.metrics.items() if metric.verdict}
    return Counter(word for _, word in sorted(verdicts))
