"""The one family of errors that bad input may raise; the doors (CLI, plugin) turn it into one line and exit status 2."""

from __future__ import annotations


class CodiBenchError(ValueError):
    """Base of every error a user can cause. The message names the file, the field and the mend, in one line."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # a name that somebody gave may hold anything


def one_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class ProblemError(CodiBenchError):
    """A problem file or a problem that cannot be used."""


class CheckpointError(CodiBenchError):
    """A folder of weights that cannot be loaded strictly."""


class MissingError(CodiBenchError):
    """Something that is not here and cannot be had: the rows of its model are not-run."""


class MissingWeightsError(CheckpointError, MissingError):
    """Weights, configuration or tokenizer that are neither in the cache nor to be downloaded."""


class MissingProblemsError(ProblemError, MissingError):
    """A problem set that is neither in the cache nor to be downloaded."""


class EditError(CodiBenchError):
    """An edit that is unknown, out of range or an identity."""


class UnknownNameError(CodiBenchError):
    """A model, claim or problem set that nobody registered; carries the nearest known name."""

    def __init__(self, kind: str, name: str, known):
        import difflib

        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(known)
        super().__init__(f"unknown {kind} {name[:60]!r}: {hint}")


class MeasureError(CodiBenchError):
    """A measurement that its input does not allow (one class only, too few problems): the row is blocked."""


class InputError(CodiBenchError):
    """An argument, array or table that cannot be used: names argument or column, row and mend."""


class BaselineError(CodiBenchError):
    """A baseline file that is missing, damaged or breaks the schema."""
