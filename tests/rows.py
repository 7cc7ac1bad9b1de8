"""Rows and environments of results, built by hand for the tests of the report."""

from codi_bench.records.results import Row

LAYERS = {"gpt2": [4, 8, 11], "llama-3.2-1b": [8, 14, 15], "gpt2-mini": [1, 2, 3], "llama-mini": [2, 3, 4]}


def value(x, low=None, high=None, **more):
    return {"value": x, "low": low, "high": high, **more}


def row(claim="probe-accuracy", model="gpt2-mini", metric="mean", protocol="reported", status="ok", **more):
    """A measured row as recorded; one of another status has no number."""
    ok = status == "ok"
    given = {"n": 100, "measured": value(0.887, 0.851, 0.919) if ok else None, "regression": "SAME" if ok else "UNCHECKED"}
    return Row(claim, model, metric, protocol, status, **{"unit": "fraction", **given, **more})


def printed(model="gpt2", x=0.9206, **more):
    """A number of the study that was not measured here."""
    return row(model=model, status="not-run", reported=value(x), reason="not asked for", **more)


def environment(family_of, **more):
    """family_of: claims in the source's order, with their families."""
    claims = {
        name: {
            **{"position": i, "family": family, "sentence": f"{name} holds.", "source": "a study, §1"},
            "protocol": f"50 right and 50 wrong {name} problems; scored on the same 100",
            "sound": f"400 {name} problems; scored on problems held out",
        }
        for i, (name, family) in enumerate(family_of.items())
    }
    return {"device": "cpu", "claims": claims, "layers": LAYERS, "winners": {}, **more}
