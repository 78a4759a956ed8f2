"""The steps in their order. Each does its part of the story, and returns a line about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

from mlflow_timescale.common import packages

from . import evening, registration, research, retraining
from .evening import BREAK, SKEW
from .registration import logged_metrics
from .story import Story

triggers = packages.attribute("drift", "alerts.retraining").triggers


def write_features(story: Story) -> str:
    """Step 1."""
    count = research.write_features(story.store, story.market, story.settings)
    return f"{count:,} new values of {len(story.market.names)} stocks"


def take_training_set(story: Story) -> str:
    """Step 2."""
    snapshot = story.snapshot
    return f"{snapshot.manifest.rows:,} rows, fingerprint {snapshot.fingerprint[:12]}"


def train_candidates(story: Story) -> str:
    """Steps 3 and 4."""
    return "IC on test data: " + _listed(story, "test", "ic", "{:.4f}")


def backtest(story: Story) -> str:
    """Step 4."""
    for version in story.versions.values():
        registration.backtest(story.registry, version, story.snapshot, story.settings)
    return "Sharpe ratio after costs: " + _listed(story, "backtest", "sharpe_ratio", "{:.2f}")


def _listed(story: Story, dataset: str, metric: str, form: str) -> str:
    name = story.settings.name
    return ", ".join(
        f"{candidate} (version {version}) "
        + form.format(logged_metrics(story.registry, f"{name}/{version}", dataset)[metric])
        for candidate, version in story.versions.items()
    )


def promote_best(story: Story) -> str:
    """Steps 5 and 6."""
    registration.promote_best(story.registry, story.settings)
    return (
        f"version {story.live.model_version} serves; every file has the SHA-256 it was logged with"
    )


def trade_on_paper(story: Story) -> str:
    """Step 7, before the money: the year that the monitor compares all later sessions with."""
    first, last = story.settings.accepted
    story.serve(last)
    story.judge_together(last)
    if all(window.role == "provisional" for window in story.monitor.references()):
        story.monitor.accept(first, last, "a year on paper", accepted_by="demo")
    ics = [metrics.ic for metrics in story.monitor.metrics(first, last) if metrics.ic is not None]
    return f"{len(ics)} sessions, mean IC {sum(ics) / len(ics):.3f}"


def go_live(story: Story) -> str:
    """Step 7: the quiet weeks, which are judged together."""
    before = story.market.sessions(story.settings.live, story.settings.evenings[0])[-2]
    story.serve(before)
    story.judge_together(before)
    return f"from {story.settings.live} on; judged evening by evening from now"


def serve_late_feature(story: Story) -> str:
    """Step 8: a fault of serving, which the first evening shows and names."""
    settings = story.settings
    for _ in story.judge_each_evening(settings.repair):
        pass
    alert = story.alert(SKEW)
    if alert is None:
        return f"{settings.late_feature} agrees with research"
    return f"alert on {alert.session}: {alert.note}; closed {alert.resolved_session}"


def meet_the_break(story: Story) -> str:
    """Step 8: the crash of 2020, up to the evening on which the inputs have left the reference."""
    evenings = story.judge_each_evening(story.settings.evenings[1])
    while (alert := story.alert(BREAK)) is None:
        if next(evenings, None) is None:
            return "no alert"
    if not evening.is_logged(alert.session, story.settings):
        # The same job with MLflow: every session so far becomes a run, this one with its report.
        story.at("log the sessions in MLflow")
        evening.judge(story.monitor, story.market, alert.session)
    [trigger] = [trigger for trigger in triggers([alert]) if trigger.cause == "psi"]
    return f"{alert.note}. Retraining trigger: {trigger.text}"


def retrain(story: Story) -> str:
    """Step 9: the alert starts nothing by itself; here a person answers it."""
    settings, day = story.settings, _trigger(story)
    if day is None:
        return "not needed"
    snapshot = story.training_set(day, f"training-{day}")
    compared = retraining.retrain(story.registry, snapshot, settings)
    ics = {compared.champion: compared.champion_ic, **compared.challengers}
    text = ", ".join(f"version {version} {ic:.4f}" for version, ic in ics.items())
    is_better = retraining.promote(story.registry, compared, day, settings)
    story.live.refresh()
    return f"IC since {settings.retrain_until}: {text}" + (
        f"; version {compared.best} is champion" if is_better else "; no new champion"
    )


def _trigger(story: Story) -> date | None:
    alert = story.alert(BREAK)
    return None if alert is None else alert.session


def live_on(story: Story) -> str:
    """Step 7 again, until the end of the data."""
    for _ in story.judge_each_evening(story.settings.evenings[1]):
        pass
    story.serve(story.settings.end)
    story.judge_together(story.settings.end)
    judged = story.monitor.metrics(story.settings.live, story.settings.end)
    ics = [metrics.ic for metrics in judged if metrics.ic is not None]
    for version in {metrics.model_version for metrics in judged}:
        own = [m.ic for m in judged if m.ic is not None and m.model_version == version]
        registration.log_live_ic(story.registry, version, sum(own) / len(own), story.settings)
    return f"{len(ics)} live sessions, mean IC {sum(ics) / len(ics):.3f}"


def write_pages(story: Story) -> str:
    """What a person reads after the incidents: what was wrong, since when, why, what to decide."""
    for name, first, last in _incidents(story):
        page = story.folder / name
        if not page.exists():
            explained = story.monitor.explain(first, last, log=False)
            draft = page.with_suffix(".draft")
            draft.write_text(explained.html(), encoding="utf-8")
            draft.replace(page)
    return ", ".join(name for name, _, _ in _incidents(story))


def _incidents(story: Story) -> list[tuple[str, date, date]]:
    """The pages, with the sessions that they look at."""
    settings = story.settings
    last_wrong = story.market.sessions(settings.fault, settings.repair)[-2]
    trigger = _trigger(story) or settings.evenings[1]
    return [
        ("late-feature.html", settings.live, last_wrong),
        ("market-break.html", settings.repair, trigger),
    ]


STEPS: tuple[tuple[str, Callable[[Story], str]], ...] = (
    ("1    Write features, each known an hour after its close", write_features),
    ("2    Take a point-in-time training set as Parquet", take_training_set),
    ("3    Train two candidates, and register them", train_candidates),
    ("4    Backtest them on 2016 to 2018", backtest),
    ("5, 6 Make the best on test data champion, and load it verified", promote_best),
    ("7a   Trade 2019 on paper; accept it as the reference", trade_on_paper),
    ("7b   Trade live, session by session", go_live),
    ("8a   Serve a feature one session late", serve_late_feature),
    ("8b   Meet the break of 2020", meet_the_break),
    ("9    Retrain, compare, promote", retrain),
    ("7c   Trade live until the end of 2022", live_on),
    ("     Write the pages of both incidents", write_pages),
)


@dataclass(frozen=True)
class Told:
    """A step that is over, and its result in a line."""

    title: str
    result: str


def tell(story: Story, begin: Callable[[str], object] = print) -> Iterator[Told]:
    """Do every step; `begin` gets the title of each before, and the result comes after."""
    for title, step in STEPS:
        begin(title)
        yield Told(title, step(story))


def what_to_look_at(story: Story) -> list[tuple[str, str]]:
    """Ten questions, and the command or the page that answers each."""
    settings, folder = story.settings, story.folder
    name, end = settings.name, settings.end
    champion = registration.champion(settings)
    pages = _incidents(story)
    (_, first, last), (_, _, trigger) = pages
    return [
        ("What was wrong, and why?", f"incident explain -s {name} {first} {last}"),
        ("The same as pages", " and ".join(str(folder / page) for page, _, _ in pages)),
        ("Which feature was served wrong?", f"incident skew -s {name} {first} {last}"),
        ("What did the model see of AAPL?", f"incident replay {name} AAPL {settings.fault}"),
        ("Which version served, and when?", f"incident version -s {name} {first} {end}"),
        ("Why is that version champion?", f"registry history {name}@champion"),
        ("Which alerts were there?", f"drift alerts -s {name} --all"),
        ("Can the champion be made again?", f"reproduce models:/{name}/{champion} --check"),
        ("Is it the training set?", f"features verify {folder / f'training-{trigger}'} --rebuild"),
        ("Runs, models and sessions", "server"),
    ]
