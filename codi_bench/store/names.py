"""The one rule for names that become names of files and folders."""

from __future__ import annotations

import re

from codi_bench.errors import CodiBenchError, arguments

LONGEST = 100
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?", re.IGNORECASE)  # Windows makes no file of that name
RULE = (
    f"use at most {LONGEST} characters of a-z, A-Z, 0-9 and . _ -, beginning with a letter or digit and without a dot at the end"
)


def check_name(name: object, what: str) -> str:
    """Check that every system accepts the name for a visible file or folder, and return it. what: the beginning of the message.

    Raises CodiBenchError, in one line, for other characters (blanks, slashes, ü), for `..`, for a name that is hidden or looks
    like an option or one of our folders (`_gate`), for names of devices, and for anything but text.
    """
    name = arguments.text(what, name, error=CodiBenchError)
    shown = repr(name if len(name) <= LONGEST else f"{name[:40]}…")
    if len(name) > LONGEST or not NAME.fullmatch(name) or name.endswith("."):
        raise CodiBenchError(f"{what} {shown}: {RULE}")
    if DEVICE.fullmatch(name):
        raise CodiBenchError(f"{what} {shown}: this is the name of a device on Windows; give another name")
    return name
