"""The few kinds of panels that the dashboards consist of, and the dashboard around them."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import stat as build_stat
from grafana_foundation_sdk.builders import timeseries as build_timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common, dashboard

#: Units of Grafana.
PER_SECOND = "ops"
RATIO = "percentunit"
SECONDS = "s"
COUNT = "short"

#: The window of each rate: Grafana derives it from the scrape interval of the data source.
WINDOW = "$__rate_interval"

Panel = build_stat.Panel | build_timeseries.Panel
Target = tuple[str, str]  # the legend and the expression

_DATA_SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")


def rate(metric: str, selector: str, by: str = "") -> str:
    """Return the expression for a counter's increase in a second.

    :param by: labels, separated by commas; without them all series are added up.
    """
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{selector}}}[{WINDOW}]))"


def quantile(q: float, histogram: str, selector: str, by: str = "") -> str:
    """Return the expression for a quantile of a histogram, such as 0.99."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', selector, labels)})"


def quantiles(histogram: str, selector: str) -> list[Target]:
    """Return the targets for the 50th, 95th and 99th percentile of a histogram."""
    return [(f"p{q * 100:.0f}", quantile(q, histogram, selector)) for q in (0.5, 0.95, 0.99)]


def stat(title: str, unit: str, expr: str, description: str, *limits: float) -> build_stat.Panel:
    """Return a single number, a sixth of the dashboard wide.

    :param limits: where it turns orange and red; if there is one, where it turns red.
    """
    options = build_common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)
    return (
        build_stat.Panel()
        .title(title).description(description).unit(unit).datasource(_DATA_SOURCE)
        .thresholds(_thresholds(limits)).reduce_options(options)
        .graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
        .with_target(Dataquery().ref_id("A").expr(expr).range()).height(4).span(4)
    )  # fmt: skip


def graph(
    title: str, unit: str, targets: Iterable[Target], description: str, *limits: float
) -> build_timeseries.Panel:
    """Return a graph over time, a third of the dashboard wide.

    :param limits: as for :func:`stat`, drawn as lines.
    """
    legend = (
        build_common.VizLegendOptions()
        .show_legend(True).placement(common.LegendPlacement.BOTTOM)
        .display_mode(common.LegendDisplayMode.LIST).calcs([])
    )  # fmt: skip
    tooltip = (
        build_common.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )  # fmt: skip
    style = (
        common.GraphThresholdsStyleMode.DASHED if limits else common.GraphThresholdsStyleMode.OFF
    )
    panel = (
        build_timeseries.Panel()
        .title(title).description(description).unit(unit).datasource(_DATA_SOURCE)
        .min(0).fill_opacity(10).show_points(common.VisibilityMode.NEVER)
        .thresholds(_thresholds(limits)).legend(legend).tooltip(tooltip)
        .thresholds_style(build_common.GraphThresholdsStyleConfig().mode(style))
        .height(8).span(8)
    )  # fmt: skip
    for letter, (label, expr) in zip(ascii_uppercase, targets, strict=False):
        panel.with_target(Dataquery().ref_id(letter).expr(expr).legend_format(label).range())
    return panel


def choice(name: str, label: str, values: str, all_values: str = "") -> build.QueryVariable:
    """Return a variable of which the reader may choose several values, at first all of them.

    :param values: the query, ``label_values(...)``.
    :param all_values: the regular expression for all values; without it, the values that
        ``values`` returns.
    """
    everything = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
    variable = (
        build.QueryVariable(name)
        .label(label).query({"query": values, "refId": "StandardVariableQuery"})
        .datasource(_DATA_SOURCE).multi(True).include_all(True).current(everything)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip
    return variable.all_value(all_values) if all_values else variable


def new_dashboard(
    title: str, uid: str, description: str, variables: Iterable[build.QueryVariable],
    rows: dict[str, list[Panel]],
) -> dashboard.Dashboard:  # fmt: skip
    """Return a dashboard.

    :param uid: part of its address in Grafana; importing it again replaces it.
    :param rows: the panels below each row's title, from left to right.
    """
    made = (
        build.Dashboard(title)
        .uid(uid).description(description).tags(["redis", "pyramid"]).editable()
        .time("now-1h", "now").refresh("30s").tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    )  # fmt: skip
    made.with_variable(
        build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    )
    for variable in variables:
        made.with_variable(variable)
    for name, panels in rows.items():
        made.with_row(build.Row(name))
        for panel in panels:
            made.with_panel(panel)
    built = made.build()
    for number, placed in enumerate(built.panels or [], start=1):
        placed.id_val = number
    return built


def _thresholds(limits: tuple[float, ...]) -> build.ThresholdsConfig:
    colors = ["orange", "red"][-len(limits) :] if limits else []
    steps = [dashboard.Threshold(value=None, color="green")]
    steps += [
        dashboard.Threshold(value, color) for value, color in zip(limits, colors, strict=True)
    ]
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
