"""The report of a session: one file, no script, what is wrong on top, pictures that can be read."""

from __future__ import annotations

import html.parser
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from drift.alerts.presets import default
from drift.alerts.rules import Rule, evaluate
from drift.metrics import cusum, psi, sharpe
from drift.metrics.cusum import Baseline
from drift.report import axes, drawing
from drift.report import page as report
from drift.report.contents import _model_url
from drift.report.page import Report, figures, render
from mlflow_timescale.common.text import printable

BASELINE = Baseline(0.04, 0.08)
SESSIONS = [date(2019, 6, 3) + timedelta(days=d) for d in range(200)]


def a_report(*, fallen: bool = True, name: str = "momentum_us") -> Report:
    generator = np.random.default_rng(3)
    ic = generator.normal(0.04, 0.08, 200)
    ic[50] = np.nan
    if fallen:
        ic[150:] -= 0.10
    returns = generator.normal(0.001, 0.01, 200)
    references = {feature: psi.fit(generator.normal(size=4000)) for feature in ("rsi", "beta<5>")}
    current = {"rsi": generator.normal(size=500) + fallen, "beta<5>": generator.normal(size=500)}
    series = {
        "ic": ic,
        "ic_cusum": cusum.path(BASELINE.shortfall(ic), cap=15),
        "sharpe_20d": sharpe.rolling(returns, 20),
        "sharpe_60d": sharpe.rolling(returns, 60),
    }
    return Report(
        name,
        SESSIONS[-1],
        SESSIONS,
        series,
        evaluate(default(), series, {"ic": BASELINE}),
        BASELINE,
        cusum.onset(ic, BASELINE) if fallen else None,
        {"rsi": generator.uniform(0, 3, 200), "beta<5>": np.full(200, np.nan)},
        {name: (r, psi.psi(r, current[name])) for name, r in references.items()},
        {"model": "momentum_xgb version 3"},
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render(a_report(name="momentum <us>"))


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes, and that each is closed."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_well_formed_file_without_script_or_link(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags.found}
    sources = [attrs["src"] or "" for tag, attrs in tags.found if tag == "img"]
    assert len(sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page.replace("data:image", "")


def test_names_are_escaped(page: str) -> None:
    assert "momentum &lt;us&gt;" in page
    assert "beta&lt;5&gt;" in page
    assert "<us>" not in page


def test_what_is_wrong_is_on_top_with_its_action(page: str) -> None:
    assert '<span class="status emergency">emergency</span> 1 open: ic drift emergency.' in page
    assert "Halt the strategy and have a person review it." in page
    assert page.index("ic drift emergency") < page.index("under a louder alert")


def test_the_page_says_when_it_started_to_go_wrong(page: str) -> None:
    onset = a_report().onset
    assert onset is not None
    assert f"The latest fall began on {SESSIONS[onset.index]}" in page
    assert abs(onset.index - 150) <= 10


def test_a_healthy_session_says_so() -> None:
    page = render(a_report(fallen=False))
    assert '<span class="status ok">ok</span> Nothing is out of its accepted range.' in page
    assert "fall began" not in page


def test_a_value_that_is_not_there_is_a_dash(page: str) -> None:
    empty = Report("new", SESSIONS[0], SESSIONS[:1], {"ic": [np.nan]}, evaluate([], {}))
    text = render(empty)
    assert '<td class="number">–</td>' in text
    assert "nan" not in text.split("base64")[0]


def test_pictures_given_are_not_drawn_again() -> None:
    page = render(a_report(), {"ic": b"one", "sharpe": b"two"})
    assert page.count("data:image/png;base64,") == 2
    assert "b25l" in page


def test_every_picture_is_a_png_with_something_on_it(tmp_path) -> None:
    drawn = figures(a_report())
    assert list(drawn) == ["ic", "psi", "distributions", "sharpe", "alerts"]
    for name, data in drawn.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        pixels = imread(path)[..., :3]
        assert pixels.shape[1] == axes.WIDTH * axes.DPI
        ink = (pixels.min(axis=2) < 0.9).mean()
        assert ink > 0.02, name


def test_a_report_with_little_data_draws_what_it_has() -> None:
    first = Report("new", SESSIONS[0], SESSIONS[:1], {"ic": [0.1]}, evaluate([], {}))
    assert list(figures(first)) == ["ic"]
    empty = {"sharpe_60d": np.full(200, np.nan)}
    no_returns = Report("new", SESSIONS[-1], SESSIONS, empty, evaluate([], {}))
    assert list(figures(no_returns)) == ["sharpe"]


def test_drawing_leaves_pyplot_alone() -> None:
    import matplotlib.pyplot as plt

    figures(a_report())
    assert plt.get_fignums() == []


def test_the_heat_map_shows_the_worst_features_only() -> None:
    ratios = {f"f{i}": np.full(10, float(i)) for i in range(40)}
    figure = drawing.psi_heatmap(SESSIONS[:10], ratios)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"f{i}" for i in range(39, 14, -1)]


def test_features_beyond_the_table_are_counted() -> None:
    reference = psi.fit(np.arange(100.0))
    result = psi.psi(reference, np.arange(100.0))
    many = {f"f{i}": (reference, result) for i in range(report.MOST_FEATURES + 4)}
    page = render(Report("x", SESSIONS[0], SESSIONS[:1], {}, evaluate([], {}), features=many), {})
    assert "and 4 more, with a smaller PSI" in page


HOSTILE = [
    "cost_$x_$y",
    r"$\frac{",
    "$x_{1}$",
    r"a\$b",
    "two\nlines\x1b[2J",
    "a\u202eb",
    "(0.1, 0.2",
    "(a, b]",
    "$(1, 2]$",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_draw_any_name_as_it_is(name: str) -> None:
    reference = psi.Reference.fit_categories([0.0] * 30 + [1.0] * 20, {0.0: name, 1.0: "x"})
    for figure in (
        drawing.psi_heatmap(SESSIONS[:2], {name: [0.1, 2.0]}),
        drawing.distributions([(name, reference, [10, 40, 0, 0])]),
        drawing.timeline(SESSIONS, evaluate([Rule(name, "ic", "<", 0.0)], {"ic": np.zeros(200)})),
    ):
        axes.png(figure)
        texts = figure.findobj(Text)
        drawn = [text for text in texts if text.get_text() and text.get_text() in printable(name)]
        assert drawn
        assert not any(text.get_parse_math() for text in drawn)
        assert all(text.get_text().isprintable() for text in texts)


def test_control_characters_of_names_are_shown_in_the_page() -> None:
    page = render(a_report(name="a\x1b[2J\u202eb\nc"))
    assert "a\\x1b[2J\\u202eb\\nc" in page
    assert not {"\x1b", "\u202e"} & {*page}


def test_a_link_to_the_model_has_no_user_of_the_tracking_server() -> None:
    run = SimpleNamespace(model_name="a b/<c>", model_version="3")
    url = _model_url("https://ann:s3cret@mlflow.example/x/", run)  # type: ignore[arg-type]
    assert url == "https://mlflow.example/x/#/models/a%20b/%3Cc%3E/versions/3"
