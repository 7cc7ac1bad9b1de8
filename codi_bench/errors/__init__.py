"""The errors that a user can cause. The command line and the plugin print each as one line and exit with status 2."""

from __future__ import annotations


class CodiBenchError(ValueError):
    """Base of every error a user can cause. The message says, in one line, which file and field are wrong and what to do."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # a name that somebody gave may hold anything


def one_line(error: BaseException) -> str:
    """The message of an exception, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class ProblemError(CodiBenchError):
    """A problem file or a problem that cannot be used."""


class CheckpointError(CodiBenchError):
    """A folder of weights that cannot be loaded strictly."""


class MissingError(CodiBenchError):
    """Something that is missing and cannot be fetched. The rows of its model get the status not-run."""


class MissingWeightsError(CheckpointError, MissingError):
    """Weights, configuration or tokenizer that are not in the cache and cannot be downloaded."""


class MissingProblemsError(ProblemError, MissingError):
    """A problem set that is not in the cache and cannot be downloaded."""


class EditError(CodiBenchError):
    """An edit that is unknown, out of range or an identity."""


class UnknownNameError(CodiBenchError):
    """The name of a model, claim or problem set that is not registered. The message suggests the nearest known name."""

    def __init__(self, kind: str, name: str, known):
        import difflib

        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(known)
        super().__init__(f"unknown {kind} {name[:60]!r}: {hint}")


class MeasureError(CodiBenchError):
    """A measurement that its input does not allow (only one class, too few problems). The row gets the status blocked."""


class InputError(CodiBenchError):
    """An argument, array or table that cannot be used. The message names argument or column and row, and what to do."""


class BaselineError(CodiBenchError):
    """A baseline file that is missing, damaged or breaks the schema."""
