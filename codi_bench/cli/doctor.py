"""`codi-bench doctor`."""


def doctor(): ...
