"""`load` and the model it gives: think, answer, explain."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from codi_bench.errors import CheckpointError, MissingWeightsError, UnknownNameError
from codi_bench.models import adapter, hub, loop, reading
from codi_bench.models.checkpoint import load_folder
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import (
    CLEAN,
    MASKED,
    PADDINGS,
    Condition,
    Discretised,
    Edited,
    Fed,
    InWords,
    Patched,
    Shortened,
    latents_of,
)
from codi_bench.models.discrete import answer_discretised
from codi_bench.models.edits import Edit, Reference, draws, replacements
from codi_bench.models.objective import encode_examples
from codi_bench.models.patching import answer_patched
from codi_bench.models.published import is_published, load_published
from codi_bench.models.registry import PUBLISHED, REGISTRY, ModelEntry, entry, entry_for
from codi_bench.models.settings import check_settings
from codi_bench.problems import Problem
from codi_bench.rules.stats import stream
from codi_bench.thoughts.record import Answers, Thoughts

_ORDER = (Fed, Edited, Shortened, Discretised, InWords)  # runs of patches answer the clean run too, so they come first
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
    def layers(self) -> tuple[int, ...]:
        """The layers that are probed; raises CheckpointError for a model too shallow for the suite."""
        return self.entry.probed

    @property
    def sae_layers(self) -> tuple[int, ...]:
        return self.entry.sae_layers

    @property
    def num_layers(self) -> int:
        return self.codi.num_layers

    @property
    def width(self) -> int:
        return self.codi.width

    @property
    def num_parameters(self) -> int:
        """Of the backbone, as sources count them: without CODI's projection."""
        return sum(parameter.numel() for parameter in self.codi.backbone.parameters())

    @property
    def identity(self) -> tuple[str, int]:
        """What names its computations."""
        return self.fingerprint, self.num_latents

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
        protocol: str = MASKED,
        progress: Callable[[int], object] = lambda count: None,
    ) -> Thoughts:
        """Capture every state of `num_latents` thoughts (default K); with max_new_tokens also answer, in the same pass.

        protocol: `masked`, or `unmasked-padding` as the published evaluation has it, where batch_size and order show.
        Raises ProblemError for an empty question, MeasureError for thoughts that are not finite, ValueError for a negative
        num_latents, UnknownNameError for an unknown protocol.
        """
        self._check(num_latents, protocol)
        return loop.capture(
            self.codi,
            questions,
            num_latents=self._latents(num_latents),
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            padding=protocol,
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
        protocol: str = MASKED,
        seed: int = 0,
    ) -> Answers:
        """Greedy answers, under edits if any. Resampling also needs the problems' gold answers and groups."""
        return self.answers(
            questions,
            [Edited(tuple(edits), protocol)],
            reference=reference,
            golds=answers,
            groups=groups,
            num_latents=num_latents,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            seed=seed,
        )[0]

    def answers(
        self,
        questions: Sequence[str],
        conditions: Sequence[Condition],
        *,
        reference: Reference | None = None,
        golds: Sequence[str] = (),
        groups: Sequence[str] = (),
        num_latents: int | None = None,
        max_new_tokens: int = 256,
        batch_size: int = 64,
        seed: int = 0,
        hidden_states: np.ndarray | None = None,
        log_probabilities: np.ndarray | None = None,
        progress: Callable[[int], object] = lambda count: None,
    ) -> list[Answers]:
        """Greedy answers under each condition, all of which share what they can.

        golds, groups: the gold answer and the group of each question. An edit that is given again draws again.
        hidden_states: an array [n, 1 + K, L + 1, d] to fill with the clean run's, such as a file mapped into memory.
        log_probabilities: an array [conditions, n] to fill with the natural log-probability of the gold answer, in the sentence
        that CODI is trained to give, with eos; both of edits alone. progress: told how many problems a batch has answered.
        Raises what `think` raises, EditError for what cannot be made (before anything runs), MeasureError for log-probabilities
        that are not finite, and ValueError where resampling lacks golds and groups, or log-probabilities lack golds.
        """
        self._check(num_latents, MASKED)
        latents = self._latents(num_latents)
        settings: dict[str, Any] = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        captures: dict[str, Any] = {"hidden_states": hidden_states, "log_probabilities": log_probabilities}
        found: dict[int, Answers] = {}
        runs: dict[tuple, list[int]] = {}
        for i, condition in enumerate(conditions):
            runs.setdefault(_run_of(condition, latents), []).append(i)
        if any(run[0] != Edited for run in runs) and any(array is not None for array in captures.values()):
            raise ValueError("hidden states and log-probabilities are those of clean and edited runs alone")
        for run, rows in sorted(runs.items(), key=lambda item: _ORDER.index(item[0][0])):
            rows = [i for i in rows if i not in found]
            members: list[Any] = [conditions[i] for i in rows]
            if not members:
                continue
            if run[0] is Fed:
                clean, part = answer_patched(
                    self.codi, questions, members, rng=stream(seed, "patch"), num_latents=run[1], progress=progress, **settings
                )
                if run[1] == latents:  # the clean run is a part of it
                    found |= {i: clean for i, condition in enumerate(conditions) if condition == CLEAN}
            elif run[0] is Edited:
                part = self._edited(
                    questions, members, reference, golds, groups, latents, seed=seed, **settings, **captures, progress=progress
                )
            elif run[0] is Shortened:
                part = reading.answer_early(self.codi, questions, [member.latents for member in members], **settings)
            elif run[0] is Discretised:
                part = [answer_discretised(self.codi, questions, member.places, **settings) for member in members]
            else:
                part = [loop.explain(self.codi, questions, **settings)] * len(members)
            found |= dict(zip(rows, part, strict=True))
        return [found[i] for i in range(len(conditions))]

    def _edited(
        self,
        questions: Sequence[str],
        conditions: Sequence[Edited],
        reference: Reference | None,
        golds: Sequence[str],
        groups: Sequence[str],
        latents: int,
        *,
        batch_size: int,
        max_new_tokens: int,
        seed: int,
        hidden_states: np.ndarray | None,
        log_probabilities: np.ndarray | None,
        progress: Callable[[int], object],
    ) -> list[Answers]:
        """Answers under conditions of one padding."""
        padding = conditions[0].padding
        self._check(latents, padding)
        every = [condition.edits for condition in conditions]
        needs_donors = any(edit.kind == "resample" for edits in every for edit in edits)
        if needs_donors and not len(golds) == len(groups) == len(questions):
            raise ValueError("resample needs the gold answer and the group of every question, to choose donors that differ")
        if log_probabilities is not None and len(golds) != len(questions):
            raise ValueError("log-probabilities need the gold answer of every question")
        values = [
            replacements(
                edits,
                num_latents=latents,
                width=self.codi.width,
                n=len(questions),
                reference=reference,
                answers=golds,
                groups=groups,
                rng=rng,
            )
            for edits, rng in zip(every, draws(every, seed))
        ]
        noise = [
            frozenset(p for e in edits if e.kind == "noise" for p in (range(latents) if e.place == "all" else (e.place,)))
            for edits in every
        ]
        return loop.answer_conditions(
            self.codi,
            questions,
            values,
            noise,
            num_latents=latents,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            padding=padding,
            keep=None if hidden_states is None else Thoughts(hidden_states),
            golds=None if log_probabilities is None else self._golds(questions, golds),
            log_probabilities=log_probabilities,
            progress=progress,
        )

    def lens_ranks(self, hidden_states: np.ndarray, words: Sequence[Sequence[str]]) -> np.ndarray:
        """How many ids the head puts before each of a problem's m words, int32 [n, places, L + 2, m], from [n, places, L + 1, d].

        The last entry of the layers is the projected thought; -1 where a word takes several ids.
        """
        word_ids = {word: reading.word_ids(self.codi, word) for problem_words in words for word in problem_words}
        return reading.lens_ranks(
            self.codi, hidden_states, [[word_ids[word] for word in problem_words] for problem_words in words]
        )

    def lens_words(self, states: np.ndarray, *, count: int) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """The first words that the head reads in states behind the final norm, [n][places][count], from [n, places, d]."""
        return reading.lens_words(self.codi, states, count)

    def untrained(self, seed: int = 0) -> Model:
        """The same architecture and tokenizer with fresh weights: a control for what training has put there.

        The backbone's are drawn as its configuration says, the projection's as PyTorch does.
        """
        codi = copy.deepcopy(self.codi)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = type(codi.backbone)(codi.backbone.config)
            for module in codi.projection.modules():
                if hasattr(module, "reset_parameters"):
                    cast(torch.nn.Linear | torch.nn.LayerNorm, module).reset_parameters()
        codi.backbone.load_state_dict(backbone.state_dict())
        codi.fingerprint = f"{self.fingerprint} untrained {seed}"
        return Model(codi, self.entry, self.device, self.dtype)

    def explain(self, questions: Sequence[str], *, batch_size: int = 64, max_new_tokens: int = 64) -> Answers:
        """The teacher's chain of thought and answer in words, greedily."""
        return loop.explain(self.codi, questions, batch_size=batch_size, max_new_tokens=max_new_tokens)

    def reference(
        self,
        questions: Sequence[str],
        answers: Sequence[str],
        groups: Sequence[str],
        *,
        num_latents: int | None = None,
        batch_size: int = 64,
        protocol: str = MASKED,
    ) -> Reference:
        """Thoughts of other problems, as the source of means and donors. Raises what `think` raises."""
        self._check(num_latents, protocol)
        latents = self._latents(num_latents)
        thoughts = Thoughts(latents=np.empty((len(questions), latents + 1, self.codi.width), np.float32))
        loop.answer_conditions(
            self.codi,
            questions,
            [{}],
            [frozenset()],
            num_latents=latents,
            batch_size=batch_size,
            max_new_tokens=0,
            padding=protocol,
            keep=thoughts,
        )
        assert thoughts.latents is not None
        return Reference(thoughts.latents, tuple(answers), tuple(groups))

    def _golds(self, questions: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        """Ids of the gold answers as training has them, with eos."""
        problems = [Problem(question, (), answer, "") for question, answer in zip(questions, answers, strict=True)]
        return [example.answer for example in encode_examples(self.codi, problems)]

    def _latents(self, num_latents: int | None) -> int:
        return self.num_latents if num_latents is None else num_latents

    def _check(self, num_latents: int | None, protocol: str) -> None:
        if num_latents is not None and num_latents < 0:
            raise ValueError(f"num_latents must be 0 or more, got {num_latents}")
        if protocol not in PADDINGS:
            raise UnknownNameError("protocol", protocol, PADDINGS)


def _run_of(condition: Condition, num_latents: int) -> tuple:
    """Conditions of one run share their thoughts: its kind, and what else must be equal."""
    if isinstance(condition, Patched | Fed):
        return Fed, latents_of(condition, num_latents)
    return (Edited, condition.padding) if isinstance(condition, Edited) else (type(condition),)


def resolve(device: str, dtype: str) -> tuple[str, str]:
    """What `auto` means here: cuda where there is one, and float32."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, "float32" if dtype == "auto" else dtype


def check_device(device: str, dtype: str) -> None:
    """Raises CheckpointError unless both are known and the device is here."""
    if dtype not in DTYPES:
        raise CheckpointError(f"unknown dtype '{dtype}': use one of {', '.join(DTYPES)}")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise CheckpointError(f"unknown device '{device}': use cpu, cuda, cuda:N or auto")
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"device '{device}' was asked for, but PyTorch does not see it here; use --device cpu")


def load(
    name_or_path: str | Path,
    *,
    base: str | Path | None = None,
    name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    num_latents: int | None = None,
    lora_alpha: float | None = None,
) -> Model:
    """Load a registered model by name, a folder (ours, or a checkpoint as published), or `org/name` on the hub.

    base: folder or hub name of the language model under a published checkpoint; a registered one knows its own. name: what to
    call a folder (default: its own name). device: `auto` is cuda where there is one; dtype: `auto` is float32. num_latents (K)
    and lora_alpha: training settings that published files do not hold; default: the registered ones, else 6 and 32.
    Raises CheckpointError or UnknownNameError with one line that says what to do.
    """
    device, dtype = resolve(device, dtype)
    check_device(device, dtype)
    if num_latents is not None and num_latents < 0:
        raise CheckpointError(f"num_latents must be 0 or more, got {num_latents}")
    if lora_alpha is not None and not 0 < lora_alpha < float("inf"):
        raise CheckpointError(f"lora_alpha must be a positive number, got {lora_alpha}")
    folder, named_entry = _find(name_or_path)
    check_settings(folder)
    model_entry = named_entry or REGISTRY.get(name or "")
    model_name = name or (named_entry.name if named_entry else Path(name_or_path).name)
    if is_published(folder):
        base_path = _find_base(folder, base, model_name, model_entry)
        check_settings(base_path)
        codi = load_published(
            folder,
            base_path,
            device=device,
            dtype=DTYPES[dtype],
            name=model_name,
            **_settings(model_name, model_entry, num_latents, lora_alpha),
        )
    elif (folder / adapter.META).is_file():
        codi = adapter.load_adapter(folder, base, device=device, dtype=DTYPES[dtype], name=model_name, num_latents=num_latents)
    elif (folder / "codi.json").is_file() and not (base is None and lora_alpha is None):
        raise CheckpointError(
            f"{folder}: a folder of codi-bench is whole, without base or LoRA; leave out --base and --lora-alpha"
        )
    else:
        codi = load_folder(folder, device=device, dtype=DTYPES[dtype], name=model_name, num_latents=num_latents)
    codi.backbone.config.return_dict = True  # how results are handed over is no property of a model
    architecture = "gpt2" if codi.backbone.config.model_type == "gpt2" else "llama"
    # another model under a known name has an entry of its own
    if model_entry is None or not model_entry.has_shape(architecture, codi.num_layers, codi.width):
        model_entry = entry_for(model_entry.name if model_entry else model_name, architecture, codi.num_layers)
    return Model(codi, model_entry, device, dtype)


def _find(name_or_path: str | Path) -> tuple[Path, ModelEntry | None]:
    """The folder of a model, downloaded if need be, and its entry if it was asked for by its registered or hub name."""
    text = name_or_path if isinstance(name_or_path, str) else ""
    named_entry = REGISTRY.get(text)
    if named_entry is None and Path(name_or_path).is_dir():
        return Path(name_or_path), None
    named_entry = named_entry or next((candidate for candidate in REGISTRY.values() if text and candidate.hub == text), None)
    if named_entry is not None and not named_entry.hub:
        if named_entry.adapter and not named_entry.folder.is_dir():
            mend = "install from a clone of the repository, with `pip install -e .`"
            raise MissingWeightsError(f"{named_entry.folder}: {text} is not in the wheel; {mend}")
        return named_entry.folder, named_entry
    if named_entry is not None or hub.is_repository(text):
        repository = named_entry.hub if named_entry else text
        assert repository is not None
        mend = _mend(named_entry) if named_entry else ""
        return hub.fetch(repository, patterns=hub.BESIDE_WEIGHTS, one_of=hub.WEIGHT_FILES, mend=mend), named_entry
    if not text or "/" in text or text.startswith("."):
        raise CheckpointError(f"{name_or_path}: no such folder; give a registered model name or a folder with weights")
    entry(text)  # raises, naming the nearest model
    raise AssertionError("an entry is on the hub or in a folder")


def _find_base(folder: Path, base: str | Path | None, model_name: str, model_entry: ModelEntry | None) -> Path:
    """The folder of the language model under a published checkpoint."""
    if base is not None:
        return hub.locate(base, patterns=hub.BASE_FILES)
    if model_entry is None or model_entry.base is None:
        raise CheckpointError(
            f"{folder}: no codi.json, so this is not a model folder of codi-bench; a published checkpoint needs the language "
            f"model it was trained over: give --base FOLDER or its hub name (to pytest: --base {model_name}=FOLDER)"
        )
    return hub.fetch(model_entry.base, patterns=hub.BASE_FILES, mend=_mend(model_entry))


def _mend(model_entry: ModelEntry) -> str:
    return (
        f"run `hf download {model_entry.hub}` and `hf download {model_entry.base}` where there is a network, or give --model "
        f"{model_entry.name}=FOLDER --base {model_entry.name}=FOLDER"
    )


def _settings(
    model_name: str, model_entry: ModelEntry | None, num_latents: int | None, lora_alpha: float | None
) -> dict[str, Any]:
    """K and alpha of a published checkpoint; assuming them is said."""
    source = model_entry if model_entry and model_entry.hub else REGISTRY[PUBLISHED[0]]
    if source is not model_entry and None in (num_latents, lora_alpha):
        flags = {"--num-latents": (num_latents, source.num_latents), "--lora-alpha": (lora_alpha, source.lora_alpha)}
        assumptions = [f"{flag} {default}" for flag, (value, default) in flags.items() if value is None]
        logging.getLogger(__name__).warning(
            "%s: the checkpoint does not say how it was trained; assuming %s, as published", model_name, " and ".join(assumptions)
        )
    return {
        "num_latents": source.num_latents if num_latents is None else num_latents,
        "lora_alpha": source.lora_alpha if lora_alpha is None else lora_alpha,
    }
