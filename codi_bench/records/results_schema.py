"""What a results file holds, field by field: whatever is read by these types can be drawn, compared and told.

Fields of objects may be absent, as older files leave them out. Where an object is open there is more than a report reads.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

LARGEST = 1e15  # what has more digits is no measurement, and axes could not be laid out for it
CLOSED, OPEN = ConfigDict(extra="forbid"), ConfigDict(extra="allow")


def _drawable(x: float) -> float:
    if not (abs(x) <= LARGEST or x != x):  # an int beyond the floats is compared, and cannot be asked whether it is NaN
        raise ValueError(f"a number is at most {LARGEST:g} in size, or NaN")
    return x


Name = Annotated[str, Field(min_length=1, max_length=200)]
Real = Annotated[int | float, AfterValidator(_drawable)]
Count = Annotated[int, Field(ge=0, le=int(LARGEST))]
Steps = Annotated[str, Field(pattern="^[0-9]{1,4}$")]
Ends = Annotated[list[Real | None], Field(max_length=3)]  # value, low, high
Grid = Annotated[list[Annotated[list[Real | None], Field(max_length=200)]], Field(max_length=200)]  # layers x places
Status = Literal["ok", "blocked", "not-run"]
Reproduction = Literal["REPRODUCED", "NOT REPRODUCED", "INCONCLUSIVE"]
Regression = Literal["SAME", "DRIFTED", "UNCHECKED"]


@with_config(CLOSED)
class Number(TypedDict, total=False):
    """A number and its 95 % interval."""

    value: Real | None
    low: Real | None
    high: Real | None


class NullNumber(Number, total=False):
    """A null: the p of the measured number, and the quantiles of its draws, 0 to 100 % in steps of 5."""

    p: Real | None
    quantiles: list[Real]


@with_config(OPEN)
class SetScores(TypedDict, total=False):
    """What one set of features predicts."""

    accuracy: Ends | None
    auc: Ends | None


@with_config(OPEN)
class EffectDetail(TypedDict, total=False):
    """What one replacement costs."""

    drop: Ends | None


@with_config(OPEN)
class Detail(TypedDict, total=False):
    """What a row says beside its number: reasons in words, and what figures are drawn from."""

    validity: str
    fragile: bool
    decide: Count | None
    no_validity: str
    no_interval: str
    reproduction: str
    note: str
    code: str
    formula: str
    replaced_by: str
    reference: str
    over: str | Ends  # what a gain is over, or the difference from it with its interval
    problems: str
    outcomes: str | None
    grid: Grid
    p_value_max_auc: Grid
    p_conditional: Grid
    layers: list[int]
    latent_pos: list[int | str]
    by_steps: dict[Steps, Ends]
    sets: dict[str, SetScores]
    effects: dict[str, EffectDetail]


@with_config(OPEN)
class ClaimText(TypedDict, total=False):
    """A claim in words."""

    position: int
    family: str | None
    kind: str | None
    sentence: str | None
    source: str | None
    protocol: str | None
    sound: str | None


@with_config(CLOSED)
class Difference(TypedDict):
    """The difference of two models, all of it there."""

    value: Real
    low: Real | None
    high: Real | None


@with_config(CLOSED)
class Winner(TypedDict):
    """Two models on one claim, and who is better."""

    claim: str
    metric: str
    unit: str
    models: Annotated[list[str], Field(min_length=2, max_length=2)]
    winner: str | None
    p: Real | None
    difference: Difference
    test: str


@with_config(OPEN)
class StepPlace(TypedDict, total=False):
    """Where step values are read."""

    layer: int | None
    latent_pos: int | str | None


@with_config(OPEN)
class StepCell(TypedDict, total=False):
    """What a probe reads of one step at one place."""

    accuracy: Number
    control: Real | None
    p: Real | None
    selectivity: Real | None


@with_config(OPEN)
class Step(TypedDict, total=False):
    """One step's value over the places; left_out: why nothing was probed."""

    step: int
    n: Count
    left_out: str
    majority: Real | None
    by_template: Real | None
    cells: Annotated[list[StepCell], Field(max_length=1000)]


@with_config(OPEN)
class StepValuesFile(TypedDict, total=False):
    """Which step's value can be read where: of one model, as a file of baselines/_values holds it too."""

    inputs: dict[str, str]
    cells: list[StepPlace]
    steps: Annotated[list[Step], Field(max_length=20)]


@with_config(OPEN)
class NoiseText(TypedDict):
    """What the study's probes read on pure noise, in words."""

    text: str


@with_config(OPEN)
class RunEnvironment(TypedDict, total=False):
    """Where a run took place, on which inputs, and what its report says beside the rows."""

    date: str | None
    device: str | None
    instructions: str | None
    torch: str | None
    dtype: str | None
    options: str | None
    families: Count | None
    noise: NoiseText | None
    devices: dict[str, str] | None
    inputs: dict[str, dict[str, str]] | None
    layers: dict[str, list[int]] | None
    claims: dict[Name, ClaimText] | None
    winners: dict[str, Winner] | None
    values: dict[Name, StepValuesFile] | None
