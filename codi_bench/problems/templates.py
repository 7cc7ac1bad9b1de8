"""The stories of the generated word problems: facts in words, a question, and the program that answers it.

A template is data. `program` lists the steps as (operator, left, right); an operand is a letter of `ranges` or `r1`,
`r2` … for the result of an earlier step. Facts are worded so that they can stand in any order unless `fixed` is set, so
numbers need not appear in the order in which they are used.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES = ("Mia", "Omar", "Nora", "Ivan", "Lena", "Raj", "Sara", "Tom", "Uma", "Paul", "Ana", "Kofi")
THINGS = ("apples", "books", "stamps", "marbles", "pens", "cards", "shells", "coins", "lemons", "ribbons", "nuts", "stickers")

SMALL = (2, 6)  # factors and divisors
PART = (2, 9)  # things added or taken away
MANY = (8, 30)  # things there are to begin with


@dataclass(frozen=True)
class Template:
    """One story. Slots in the text: {P} {Q} two different people, {x} {y} two different things, letters for numbers."""

    name: str
    facts: tuple[str, ...]
    question: str
    program: tuple[tuple[str, str, str], ...]
    ranges: dict[str, tuple[int, int]]
    fixed: bool = False


# fmt: off
TEMPLATES: tuple[Template, ...] = (
    # one step
    Template("buy", ("{P} has {a} {x} at home.", "{P} buys {b} more {x}."), "How many {x} does {P} have now?",
             (("+", "a", "b"),), {"a": (2, 30), "b": (2, 9)}),
    Template("give", ("{P} had {a} {x}.", "{P} gave {b} {x} to {Q}."), "How many {x} does {P} still have?",
             (("-", "a", "b"),), {"a": MANY, "b": (2, 9)}),
    Template("boxes", ("There are {a} boxes.", "Each box holds {b} {x}."), "How many {x} are there?",
             (("*", "a", "b"),), {"a": (2, 9), "b": (2, 9)}),
    Template("share", ("{b} children share {a} {x} equally.",), "How many {x} does each child get?",
             (("/", "a", "b"),), {"a": (4, 60), "b": (2, 9)}),
    Template("walk", ("{P} walks {a} km a day.", "The walk takes {b} days."), "How many km does {P} walk?",
             (("*", "a", "b"),), {"a": (2, 9), "b": (2, 9)}),
    Template("price", ("The price fell by {b} dollars.", "A lamp did cost {a} dollars."), "What does a lamp cost now?",
             (("-", "a", "b"),), {"a": MANY, "b": (2, 9)}),
    # two steps
    Template("bags", ("{P} has {a} bags with {b} {x} each.", "{P} loses {c} {x}."), "How many {x} does {P} still have?",
             (("*", "a", "b"), ("-", "r1", "c")), {"a": SMALL, "b": SMALL, "c": PART}),
    Template("day", ("In the morning {P} has {a} {x}.", "At noon {P} buys {b} {x}.", "In the evening {P} gives {c} {x} away."),
             "How many {x} does {P} have at night?", (("+", "a", "b"), ("-", "r1", "c")), {"a": (2, 30), "b": PART, "c": PART}),
    Template("tank", ("A pump moves {a} liters an hour into a tank.", "The pump runs for {b} hours.", "The tank held {c} liters before."),
             "How many liters does the tank hold now?", (("*", "a", "b"), ("+", "r1", "c")), {"a": SMALL, "b": SMALL, "c": PART}),
    Template("change", ("{P} pays with {c} dollars.", "{P} buys {b} {x} for {a} dollars each."), "How many dollars does {P} get back?",
             (("*", "b", "a"), ("-", "c", "r1")), {"a": SMALL, "b": SMALL, "c": (8, 40)}),
    Template("pack", ("{P} picks {a} {x}.", "{Q} picks {b} {x}.", "They pack all {x} into bags of {c}."), "How many bags do they fill?",
             (("+", "a", "b"), ("/", "r1", "c")), {"a": PART, "b": PART, "c": SMALL}, fixed=True),
    Template("teams", ("{b} children went home.", "There were {a} children at the camp.", "The others form {c} equal teams."),
             "How many children are in each team?", (("-", "a", "b"), ("/", "r1", "c")), {"a": MANY, "b": PART, "c": SMALL}, fixed=True),
    Template("runs", ("On Monday {P} runs {a} km.", "On Tuesday {P} runs {b} times as far as on Monday."),
             "How many km does {P} run on both days?", (("*", "a", "b"), ("+", "a", "r1")), {"a": (2, 9), "b": (2, 6)}),
    # three steps
    Template("shop", ("The {x} cost {a} dollars each.", "The {y} cost {b} dollars each.", "{P} buys {c} {x} and {d} {y}."),
             "How many dollars does {P} pay?", (("*", "c", "a"), ("*", "d", "b"), ("+", "r1", "r2")),
             {"a": SMALL, "b": SMALL, "c": SMALL, "d": SMALL}),
    Template("stock", ("A shop has {a} boxes with {b} {x} each.", "On Monday it sells {c} {x}.", "On Tuesday it sells {d} {x}."),
             "How many {x} does the shop still have?", (("*", "a", "b"), ("-", "r1", "c"), ("-", "r2", "d")),
             {"a": SMALL, "b": SMALL, "c": (2, 9), "d": (2, 9)}),
    Template("saving", ("{P} saves {a} dollars a week for {b} weeks.", "{Q} gives {c} dollars to {P}.", "{P} pays {d} dollars for a game."),
             "How many dollars does {P} have left?", (("*", "a", "b"), ("+", "r1", "c"), ("-", "r2", "d")),
             {"a": SMALL, "b": SMALL, "c": (2, 9), "d": (2, 9)}),
    Template("trip", ("The whole trip is {c} km long.", "{P} drives {a} km an hour for {b} hours.", "The rest is walked in {d} equal days."),
             "How many km does {P} walk a day?", (("*", "a", "b"), ("-", "c", "r1"), ("/", "r2", "d")),
             {"a": SMALL, "b": SMALL, "c": (8, 40), "d": (2, 6)}),
    Template("seats", ("{c} men and {d} women take a seat.", "A train has {a} cars with {b} seats each."), "How many seats are free?",
             (("*", "a", "b"), ("+", "c", "d"), ("-", "r1", "r2")), {"a": SMALL, "b": (3, 8), "c": (2, 9), "d": (2, 9)}),
    # four steps
    Template("cinema", ("{a} men and {b} women go to the cinema.", "Each ticket costs {c} dollars.", "The cinema pays {d} dollars for rent.",
                        "The rest is shared by {e} owners."), "How many dollars does each owner get?",
             (("+", "a", "b"), ("*", "r1", "c"), ("-", "r2", "d"), ("/", "r3", "e")),
             {"a": SMALL, "b": SMALL, "c": (2, 5), "d": (2, 9), "e": (2, 6)}, fixed=True),
    Template("farm", ("{a} hens lay {b} eggs each.", "{c} ducks lay {d} eggs each.", "{e} eggs break."), "How many eggs are left?",
             (("*", "a", "b"), ("*", "c", "d"), ("+", "r1", "r2"), ("-", "r3", "e")),
             {"a": SMALL, "b": SMALL, "c": SMALL, "d": SMALL, "e": (2, 9)}),
    Template("reading", ("On Monday {P} reads {a} pages.", "On Tuesday {P} reads {b} pages more than on Monday.",
                         "On Wednesday {P} reads {c} times as many pages as on Tuesday."), "How many pages does {P} read in all?",
             (("+", "a", "b"), ("*", "r1", "c"), ("+", "a", "r1"), ("+", "r3", "r2")), {"a": (2, 9), "b": (2, 9), "c": (2, 4)}),
    Template("bakery", ("A bakery fills {a} trays with {b} rolls each.", "{c} rolls burn.", "The others are packed into bags of {d}.",
                        "There were {e} full bags before."), "How many full bags are there now?",
             (("*", "a", "b"), ("-", "r1", "c"), ("/", "r2", "d"), ("+", "r3", "e")),
             {"a": SMALL, "b": SMALL, "c": (2, 9), "d": (2, 6), "e": (2, 9)}, fixed=True),
    # five steps
    Template("market", ("{P} sells {a} {x} at {b} dollars each.", "{P} sells {c} {y} at {d} dollars each.", "{P} pays {e} dollars for the stand.",
                        "{P} shares the rest with friends, {f} people in all."), "How many dollars does each of them get?",
             (("*", "a", "b"), ("*", "c", "d"), ("+", "r1", "r2"), ("-", "r3", "e"), ("/", "r4", "f")),
             {"a": SMALL, "b": SMALL, "c": SMALL, "d": SMALL, "e": (2, 9), "f": (2, 6)}, fixed=True),
    Template("club", ("A club has {a} girls and {b} boys.", "Each of them brings {c} {x}.", "{d} {x} are lost.",
                      "The rest is put into {e} equal bags.", "{P} adds {f} {x} to each bag."), "How many {x} are in each bag?",
             (("+", "a", "b"), ("*", "r1", "c"), ("-", "r2", "d"), ("/", "r3", "e"), ("+", "r4", "f")),
             {"a": SMALL, "b": SMALL, "c": (2, 6), "d": (2, 9), "e": (2, 6), "f": (2, 9)}, fixed=True),
    Template("well", ("Each hour {a} liters flow into a well.", "The well is filled for {b} hours.", "The well held {c} liters before.",
                      "{P} takes {d} liters out.", "Rain brings {e} liters.", "All the water goes into {f} equal cans."),
             "How many liters are in each can?",
             (("*", "a", "b"), ("+", "r1", "c"), ("-", "r2", "d"), ("+", "r3", "e"), ("/", "r4", "f")),
             {"a": SMALL, "b": SMALL, "c": (2, 9), "d": (2, 9), "e": (2, 9), "f": (2, 6)}, fixed=True),
)
# fmt: on
