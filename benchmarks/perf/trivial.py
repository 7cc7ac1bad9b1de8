"""A task that does nothing: workers find it by this module's name."""


def double(number: int) -> dict:
    return {"number": 2 * number}
