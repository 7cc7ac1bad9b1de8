"""The models codi-bench knows by name. Adding one is one entry here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from codi_bench.errors import CheckpointError, UnknownNameError

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class ModelEntry:
    """A registered model.

    architecture: of the backbone, `gpt2` or `llama`. layers: the three probed `hidden_states` indices and sae_layers those that
    the SAE reads, stored so that nobody recomputes them. hub: the published checkpoint, None for a model of this project.
    num_latents, lora_alpha: training settings of a published checkpoint, that its files do not hold (the training scripts of
    github.com/zhenyi4/codi; the rank, 128 there, is read off the weights). projects: are thoughts projected before they are fed?
    (Coconut feeds the state itself.) weights: the file of `hub` that holds its weights; "" for the first known name. problems:
    the set that a published model was trained for and is measured on. partner: the model that it is compared with. beside: the
    published model that it stands beside, by whose sentences it is judged and whose scripts its reported protocols follow; "" for
    a user's own, which is judged by those of all. control_of: the model of which this one is the control without recurrence (see
    `Pauses`). Its weights lie in the repository, not in the wheel, and it is measured when it is named.
    """

    name: str
    architecture: str
    layers: tuple[int, ...]
    sae_layers: tuple[int, ...]
    hub: str | None = None
    base: str | None = None
    num_layers: int = 0
    width: int = 0
    num_latents: int = 6
    lora_alpha: float = 32
    projects: bool = True
    weights: str = ""
    problems: str = "gsm8k"
    partner: str = ""
    beside: str = ""
    control_of: str = ""

    def has_shape(self, architecture: str, num_layers: int, width: int) -> bool:
        """Is a backbone of this architecture, depth and width like the registered one?"""
        return (self.architecture, self.num_layers, self.width) == (architecture, num_layers, width)

    @property
    def embedded(self) -> bool:
        """Do its weights lie in this project?"""
        return self.hub is None

    @property
    def folder(self) -> Path:
        """Where a model lies that is not published elsewhere."""
        return PACKAGE / ("controls" if self.control_of else "embedded") / self.name

    @property
    def whence(self) -> str:
        """Where its weights come from, in words."""
        if self.control_of:
            return "in the repository"
        return "in this package" if self.embedded else f"{self.hub} over {self.base}"

    @property
    def download(self) -> str:
        """The command that fetches the weights of a published model."""
        return f"hf download {self.hub} {self.weights}".rstrip()

    @property
    def probed(self) -> tuple[int, ...]:
        """`layers`; raises CheckpointError for a model of one layer, which has none to probe (it can still think and answer)."""
        if not self.layers:
            raise CheckpointError(
                f"model '{self.name}' has one layer, and the claims are measured between layers: they need a model of at least "
                "2; it works with `codi-bench think` and `answer`"
            )
        return self.layers


# The published models of the first study; others over the same bases are probed where they are.
GPT2 = ModelEntry(
    "gpt2",
    "gpt2",
    layers=(4, 8, 11),
    sae_layers=(4, 8, 11),
    hub="zen-E/CODI-gpt2",
    base="gpt2",
    num_layers=12,
    width=768,
    partner="llama-3.2-1b",
    beside="gpt2",
)
LLAMA = ModelEntry(
    "llama-3.2-1b",
    "llama",
    layers=(8, 14, 15),
    sae_layers=(12, 13, 14, 15, 16),
    hub="zen-E/CODI-llama3.2-1b-Instruct",
    base="meta-llama/Llama-3.2-1B-Instruct",
    num_layers=16,
    width=2048,
    partner="gpt2",
    beside="llama-3.2-1b",
)
# Coconut's training saves its epochs as files. It feeds the state itself.
COCONUT = replace(GPT2, projects=False)

REGISTRY = {
    entry.name: entry
    for entry in (
        ModelEntry(
            "gpt2-mini",
            "gpt2",
            layers=(1, 2, 3),
            sae_layers=(1, 2, 3),
            num_layers=4,
            width=104,
            partner="llama-mini",
            beside="gpt2",
        ),
        # the study's layers 8, 14, 15 of 16 at the like depth of five, made distinct; its SAE read the last five
        ModelEntry(
            "llama-mini",
            "llama",
            layers=(2, 3, 4),
            sae_layers=(1, 2, 3, 4, 5),
            num_layers=5,
            width=200,
            partner="gpt2-mini",
            beside="llama-3.2-1b",
        ),
        GPT2,
        LLAMA,
        # three stages of two thoughts, epoch 33
        replace(COCONUT, name="coconut-gpt2", hub="connordilgren/gpt2-gsm8k-coconut", weights="checkpoint_33", partner="gpt2"),
        # logic problems: six stages of one thought, and always six thoughts; the first is that of the released outcomes
        replace(
            COCONUT,
            name="coconut-gpt2-prosqa",
            hub="bmarti44/coconut-curriculum-checkpoints",
            weights="coconut/checkpoint_best",
            problems="prosqa",
            partner="coconut-gpt2-prosqa-dilgren",
        ),
        replace(
            COCONUT,
            name="coconut-gpt2-prosqa-dilgren",
            hub="connordilgren/gpt2-prosqa-coconut",
            weights="checkpoint_40",
            problems="prosqa",
            partner="coconut-gpt2-prosqa",
        ),
        replace(
            COCONUT,
            name="coconut-gpt2-prontoqa",
            hub="connordilgren/gpt2-prontoqa-coconut",
            weights="checkpoint_36",
            problems="prontoqa",
            partner="coconut-gpt2-prosqa-dilgren",
        ),
        # SIM-CoT (github.com/InternLM/SIM-CoT): its scripts test_*.sh say K and alpha, and depths are those of the study's models
        replace(GPT2, name="sim-cot-gpt2", hub="internlm/SIM_COT-GPT2-CODI", partner="gpt2"),
        replace(LLAMA, name="sim-cot-llama-1b", hub="internlm/SIM_COT-LLaMA3-CODI-1B", partner="llama-3.2-1b"),
        ModelEntry(
            "sim-cot-llama-3b",
            "llama",
            layers=(14, 24, 26),
            sae_layers=(24, 25, 26, 27, 28),
            hub="internlm/SIM_COT-LLaMA3-CODI-3B",
            base="meta-llama/Llama-3.2-3B-Instruct",
            num_layers=28,
            width=3072,
            partner="sim-cot-llama-1b",
            beside="llama-3.2-1b",
        ),
        ModelEntry(
            "sim-cot-llama-8b",
            "llama",
            layers=(16, 28, 30),
            sae_layers=(28, 29, 30, 31, 32),
            hub="internlm/SIM_COT-LLaMA3-CODI-8B",
            base="meta-llama/Llama-3.1-8B-Instruct",
            num_layers=32,
            width=4096,
            partner="sim-cot-llama-1b",
            beside="llama-3.2-1b",
        ),
        # Coconut under SIM-CoT, `checkpoint_28`: five stages of two thoughts, ten from the first stage on
        replace(
            COCONUT,
            name="sim-cot-coconut",
            hub="internlm/SIM_COT-GPT2-Coconut",
            weights="checkpoint_28",
            num_latents=10,
            partner="coconut-gpt2",
        ),
    )
}
REGISTRY |= {
    f"{entry.name}-pause": replace(entry, name=f"{entry.name}-pause", partner=f"{entry.partner}-pause", control_of=entry.name)
    for entry in tuple(REGISTRY.values())
    if entry.embedded
}
CONTROLS = {entry.control_of: name for name, entry in REGISTRY.items() if entry.control_of}
EMBEDDED = tuple(name for name, entry in REGISTRY.items() if entry.embedded and not entry.control_of)
PUBLISHED = tuple(name for name, entry in REGISTRY.items() if entry.hub)


def entry(name: str) -> ModelEntry:
    """The registered model of that name; raises UnknownNameError with the nearest one."""
    if name not in REGISTRY:
        raise UnknownNameError("model", name, REGISTRY)
    return REGISTRY[name]


def entry_for(name: str, architecture: str, num_layers: int) -> ModelEntry:
    """An entry for a user's own model: the study's relative depths, distinct, inside 1..L-1.

    A model of two or three layers has fewer than three inner ones, and all of them are probed. One layer has none: `layers` is
    empty then, and `probed` raises.
    """
    depths = (4 / 12, 8 / 12, 11 / 12) if architecture == "gpt2" else (8 / 16, 14 / 16, 15 / 16)
    layers = inner_layers(depths[-min(3, num_layers - 1) :], num_layers) if num_layers > 1 else ()
    last_five = tuple(range(max(1, num_layers - 4), num_layers + 1))
    return ModelEntry(name, architecture, layers, layers if architecture == "gpt2" else last_five)


def inner_layers(depths: tuple[float, ...], num_layers: int) -> tuple[int, ...]:
    """Relative depths as distinct rising layers inside 1..L-1: rounded, then pushed apart from the deepest down."""
    layers = [min(max(round(depth * num_layers), 1), num_layers - 1) for depth in depths]
    for i in range(len(layers) - 2, -1, -1):
        layers[i] = min(layers[i], layers[i + 1] - 1)
    for i in range(len(layers)):  # pushed below 1: shift up again
        layers[i] = max(layers[i], i + 1)
    return tuple(layers)
