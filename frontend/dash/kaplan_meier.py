"""Kaplan-Meier curves of a cohort: choose endpoint, grouping and unit; take the numbers away."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from frontend.figures.plotly_km import draw
from frontend.figures.survival import UNITS, SurvivalFigure, survival_figure
from tissueboard.errors import Code, TissueboardError

from .app import FramedDash, current, make_app, serving

NO_GROUPS = "-"


def build() -> FramedDash:
    """The application; its layout and its one callback ask the platform at each request, with the user of that request."""
    from dash import Input, Output

    app = make_app("kaplan-meier")
    app.layout = layout
    app.callback(
        Output("curves", "figure"),
        Output("said", "children"),
        Output("download", "href"),
        Input("endpoint", "value"),
        Input("group-by", "value"),
        Input("unit", "value"),
        Input("bands", "value"),
    )(update)
    return app


def layout() -> Any:
    """Controls over the figure. The choices are those of this cohort; the first callback draws."""
    from dash import dcc, html

    from tissueboard.outcomes.selectors import endpoints_in, groupings

    if not serving():
        # Dash asks once while the application is built; there is no cohort then.
        return html.Div()
    context = current()
    cohort = context.subject
    endpoints = endpoints_in(context.user, cohort)
    if not endpoints:
        return html.Div(html.P("This cohort has no outcomes yet. Import a clinical table that has survival times.", className="note"))
    groups = [{"label": "all patients", "value": NO_GROUPS}]
    groups += [{"label": g.label, "value": g.name} for g in groupings(context.user, cohort)]
    return html.Div(
        [
            html.Div(
                [
                    _control(
                        "Endpoint", "endpoint", dcc.Dropdown(endpoints, endpoints[0], id="endpoint", clearable=False, searchable=False)
                    ),
                    _control("Group by", "group-by", dcc.Dropdown(groups, NO_GROUPS, id="group-by", clearable=False)),
                    _control("Time in", "unit", dcc.RadioItems(list(UNITS), "months", id="unit", inline=True, className="choices")),
                    _control(
                        "Intervals",
                        "bands",
                        dcc.Checklist([{"label": "95% bands", "value": "on"}], ["on"], id="bands", className="choices"),
                    ),
                ],
                className="km-controls",
            ),
            html.Div(
                dcc.Graph(id="curves", config={"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}),
                className="km-figure",
                role="img",
                **{"aria-describedby": "said"},
            ),
            html.Div(id="said", className="km-said", **{"aria-live": "polite"}),
            html.P(html.A("Download the data behind this figure (CSV)", id="download", href="#")),
        ],
        className="km-view",
    )


def _control(label: str, control_id: str, control: Any) -> Any:
    from dash import html

    return html.Div([html.Div(label, className="label", id=f"{control_id}-label"), control], className="km-control")


def update(endpoint: Any, group_by: Any, unit: Any, bands: Any) -> tuple[Any, Any, str]:
    """The figure, the sentences under it and the address of its numbers. What the platform refuses is said in its place."""
    from dash import html

    for value in (endpoint, group_by, unit):
        if not isinstance(value, str) or not value.isprintable():
            raise TissueboardError(Code.BAD_REQUEST, "A choice of this figure is not a text.", "Reload the page and try again.")
    if unit not in UNITS:
        raise TissueboardError(Code.BAD_REQUEST, f"{unit[:20]!r} is no unit of time.", "Choose months or days.")
    context = current()
    address = csv_address(context.subject, endpoint, group_by)
    try:
        figure = figure_of(context.user, context.subject, endpoint, group_by, unit)
    except TissueboardError as error:
        return _empty(), html.P(f"{error.sentence} {error.hint}", className="note warn"), address
    picture = draw(figure, bands=isinstance(bands, list) and "on" in bands) if figure.drawn else _empty()
    return picture, _said(figure), address


def figure_of(user: Any, cohort: Any, endpoint: str, group_by: str, unit: str) -> SurvivalFigure:
    """The figure for this user; group_by "-" draws all patients as one."""
    from tissueboard.outcomes.services import survival

    return survival_figure(survival(user, cohort, endpoint, None if group_by == NO_GROUPS else group_by), unit)


def csv_address(cohort: Any, endpoint: str, group_by: str) -> str:
    query = {"endpoint": endpoint} | ({} if group_by == NO_GROUPS else {"group_by": group_by})
    return f"{reverse('km_csv', kwargs={'cohort_id': cohort.pk})}?{urlencode(query)}"


def _empty() -> dict[str, Any]:
    return {"data": [], "layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}, "height": 120}}


def _said(figure: SurvivalFigure) -> Any:
    from dash import html

    rows = [
        html.Tr([html.Th(c.name, scope="row"), html.Td(c.n), html.Td("–" if c.events is None else c.events), html.Td(c.median)])
        for c in figure.curves
    ]
    head = html.Thead(html.Tr([html.Th(text, scope="col") for text in ("Group", "n", "Events", "Median")]))
    return [html.Table([head, html.Tbody(rows)]), html.P(figure.caption, className="small"), *[html.P(s) for s in figure.statements]]
