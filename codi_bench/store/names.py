"""Names that become the names of files and folders: one rule, whoever gives them."""

from __future__ import annotations

import re

from codi_bench.errors import CodiBenchError, arguments

LONGEST = 100
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?", re.IGNORECASE)  # Windows makes no file of that name
RULE = f"a name has letters a-z, A-Z, digits and . _ -, at most {LONGEST}; it begins with a letter or digit and ends with no dot"


def check_name(name: object, what: str) -> str:
    """The name, which every system takes for one visible file or folder. what: whose it is, as the message begins.

    Raises CodiBenchError, in one line, for other signs (blanks, slashes, ü), for `..`, what is hidden or looks like an option or
    like a folder of ours (`_gate`), for names of devices, and for what is no text.
    """
    name = arguments.text(what, name, error=CodiBenchError)
    shown = repr(name if len(name) <= LONGEST else f"{name[:40]}…")
    if len(name) > LONGEST or not NAME.fullmatch(name) or name.endswith("."):
        raise CodiBenchError(f"{what} {shown}: {RULE}")
    if DEVICE.fullmatch(name):
        raise CodiBenchError(f"{what} {shown}: that is a device on Windows; give another name")
    return name
