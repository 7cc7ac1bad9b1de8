"""`load` and the model it gives: think, answer, explain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from codi_bench.errors import CheckpointError
from codi_bench.models import loop
from codi_bench.models.checkpoint import load_folder
from codi_bench.models.codi import Codi
from codi_bench.models.edits import Edit, Reference, replacements
from codi_bench.models.registry import REGISTRY, ModelEntry, entry, entry_for
from codi_bench.stats import stream
from codi_bench.thoughts.record import Answers, Thoughts

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Model:
    """A loaded CODI model. Results do not depend on batch_size or on a problem's neighbours."""

    codi: Codi
    entry: ModelEntry
    device: str
    dtype: str

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def num_latents(self) -> int:
        return self.codi.num_latents

    @property
    def fingerprint(self) -> str:
        """sha256 of weights, configuration and tokenizer as they lie on disk."""
        return self.codi.fingerprint

    def think(
        self,
        questions: Sequence[str],
        *,
        num_latents: int | None = None,
        batch_size: int = 64,
        max_new_tokens: int | None = None,
        progress=lambda done: None,
    ) -> Thoughts:
        """Capture every state of `num_latents` thoughts (default K); with max_new_tokens also answer, in the same pass."""
        self._check(num_latents)
        return loop.capture(
            self.codi,
            questions,
            num_latents=self._latents(num_latents),
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            progress=progress,
        )

    def answer(
        self,
        questions: Sequence[str],
        *,
        edits: Sequence[Edit] = (),
        reference: Reference | None = None,
        answers: Sequence[str] = (),
        groups: Sequence[str] = (),
        num_latents: int | None = None,
        max_new_tokens: int = 256,
        batch_size: int = 64,
        seed: int = 0,
    ) -> Answers:
        """Greedy answers, under edits if any. Resampling also needs the problems' gold answers and groups."""
        return self.answer_conditions(
            questions,
            [edits],
            reference=reference,
            answers=answers,
            groups=groups,
            num_latents=num_latents,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            seed=seed,
        )[0]

    def answer_conditions(
        self,
        questions: Sequence[str],
        conditions: Sequence[Sequence[Edit]],
        *,
        reference: Reference | None = None,
        answers: Sequence[str] = (),
        groups: Sequence[str] = (),
        num_latents: int | None = None,
        max_new_tokens: int = 256,
        batch_size: int = 64,
        seed: int = 0,
        progress=lambda done: None,
    ) -> list[Answers]:
        """Greedy answers under several conditions (each a list of edits; empty: clean) that share all they can.

        Raises EditError before anything runs.
        """
        self._check(num_latents)
        latents = self._latents(num_latents)
        resampled = any(edit.kind == "resample" for edits in conditions for edit in edits)
        if resampled and not len(answers) == len(groups) == len(questions):
            raise ValueError("resample needs the gold answer and the group of every question, to choose donors that differ")
        values = [
            replacements(
                edits,
                num_latents=latents,
                width=self.codi.width,
                n=len(questions),
                reference=reference,
                answers=answers,
                groups=groups,
                rng=stream(seed, "edit", *map(str, edits)),
            )
            for edits in conditions
        ]
        noise = [
            frozenset(p for e in edits if e.kind == "noise" for p in (range(latents) if e.place == "all" else (e.place,)))
            for edits in conditions
        ]
        return loop.answer_conditions(
            self.codi,
            questions,
            values,
            noise,
            num_latents=latents,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            progress=progress,
        )

    def explain(self, questions: Sequence[str], *, batch_size: int = 64, max_new_tokens: int = 64) -> Answers:
        """The teacher's chain of thought and answer in words, greedily."""
        return loop.explain(self.codi, questions, batch_size=batch_size, max_new_tokens=max_new_tokens)

    def reference(
        self, questions: Sequence[str], answers: Sequence[str], groups: Sequence[str], *, batch_size: int = 64
    ) -> Reference:
        """Thoughts of other problems, as the source of means and donors."""
        return Reference(self.think(questions, batch_size=batch_size).latents, tuple(answers), tuple(groups))

    def _latents(self, num_latents: int | None) -> int:
        return self.num_latents if num_latents is None else num_latents

    def _check(self, num_latents: int | None) -> None:
        if num_latents is not None and num_latents < 0:
            raise ValueError(f"num_latents must be 0 or more, got {num_latents}")


def resolve(device: str, dtype: str) -> tuple[str, str]:
    """What `auto` means here: cuda where there is one, and float32."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, "float32" if dtype == "auto" else dtype


def load(
    name_or_path: str | Path,
    *,
    name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    num_latents: int | None = None,
) -> Model:
    """Load a registered model by name, or a folder written by `codi-bench train`.

    device: `auto` is cuda where there is one; dtype: `auto` is float32. name: what to call a folder (default: its own name).
    Raises CheckpointError or UnknownNameError with one line that says what to do.
    """
    device, dtype = resolve(device, dtype)
    if dtype not in DTYPES:
        raise CheckpointError(f"unknown dtype '{dtype}': use one of {', '.join(DTYPES)}")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise CheckpointError(f"unknown device '{device}': use cpu, cuda, cuda:N or auto")
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"device '{device}' was asked for, but PyTorch does not see it here; use --device cpu")
    registered = None if isinstance(name_or_path, Path) else REGISTRY.get(name_or_path)
    if registered is None and not Path(name_or_path).is_dir():
        if isinstance(name_or_path, Path) or "/" in name_or_path or name_or_path.startswith("."):
            raise CheckpointError(f"{name_or_path}: no such folder; give a registered model name or a folder with weights")
        entry(str(name_or_path))  # raises, naming the nearest model
    if registered is not None and not registered.embedded:
        raise CheckpointError(
            f"the weights of '{registered.name}' are not in this package; give --model {registered.name}=FOLDER"
        )
    folder = registered.folder if registered else Path(name_or_path)
    codi = load_folder(folder, device=device, dtype=DTYPES[dtype], name=name or folder.name, num_latents=num_latents)
    known = registered or REGISTRY.get(name or "")
    family = "gpt2" if codi.backbone.config.model_type == "gpt2" else "llama"
    return Model(codi, known or entry_for(name or folder.name, family, codi.num_layers), device, dtype)
