"""Expressions of Prometheus, compared with the samples of a scrape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import promql_parser
from prometheus_client.parser import text_string_to_metric_families

#: Labels that Prometheus adds when it scrapes.
OF_PROMETHEUS = {"instance", "job"}
# Grafana's variables where PromQL has a duration. Those in strings do not disturb the parser.
_DURATION = re.compile(r"\$__rate_interval")
_LEGEND = re.compile(r"\{\{ *(?:\$labels\.)?(\w+) *\}\}|\{\{ *\$labels\.(\w+)")


class Scrape:
    """The samples of a scrape: the values of each label of each metric."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, set[str]] = {}
        self.samples: dict[str, dict[str, set[str]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.families.setdefault(family.name, set()).add(sample.name)
                labels = self.samples.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)

    def labels(self, metric: str) -> set[str]:
        """Return the names of a metric's labels; without a metric, those of all metrics."""
        if metric:
            return {*self.samples.get(metric, ()), *OF_PROMETHEUS}
        return {*OF_PROMETHEUS, *(label for each in self.samples.values() for label in each)}

    def values(self, metric: str, label: str) -> set[str]:
        metrics = [metric] if metric else self.samples
        return {value for each in metrics for value in self.samples.get(each, {}).get(label, set())}


def parsed(expression: str) -> Any:
    """Return the expression's tree.

    :raises ValueError: it is not PromQL.
    """
    return promql_parser.parse(_DURATION.sub("5m", expression))


def selectors(tree: Any) -> Iterator[promql_parser.VectorSelector]:
    """Return the selectors of a tree."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(tree, visit)
    return iter(found)


def metrics(tree: Any) -> set[str]:
    """Return the names of the metrics in a tree."""
    return {selector.name for selector in selectors(tree) if selector.name}


def problems(expression: str, scrape: Scrape, legend: str = "") -> list[str]:
    """Return what an expression and its legend name and the scrape does not have.

    :param legend: a text with the result's labels, as Grafana or Prometheus writes them.
    """
    tree = parsed(expression)
    found: list[str] = []
    for selector in selectors(tree):
        found += _selector_problems(selector, scrape)
    result = _result_labels(tree, scrape, found)
    named = {one or other for one, other in _LEGEND.findall(legend)}
    return found + [f"the legend has {label}" for label in sorted(named - result)]


def _selector_problems(selector: promql_parser.VectorSelector, scrape: Scrape) -> Iterator[str]:
    metric = selector.name or ""
    if metric and metric not in scrape.samples:
        yield f"no metric {metric}"
        return
    for matcher in selector.matchers.matchers:
        if matcher.name not in scrape.labels(metric):
            yield f"no label {matcher.name} on {metric}"
        elif matcher.name not in OF_PROMETHEUS and "$" not in matcher.value:
            values = scrape.values(metric, matcher.name)
            if not any(_matches(matcher, value) for value in values):
                yield f"no value for {matcher} on {metric}"


def _matches(matcher: promql_parser.Matcher, value: str) -> bool:
    is_pattern = matcher.op in (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe)
    is_negated = matcher.op in (promql_parser.MatchOp.NotEqual, promql_parser.MatchOp.NotRe)
    found = re.fullmatch(matcher.value, value) if is_pattern else matcher.value == value
    return bool(found) != is_negated


def _result_labels(tree: Any, scrape: Scrape, found: list[str]) -> set[str]:
    """Return the labels that a tree's result has; add the problems to ``found``."""

    def check(named: Iterable[str], there: set[str], where: str) -> None:
        found.extend(f"{where} has {label}" for label in named if label not in there)

    match tree:
        case promql_parser.VectorSelector():
            return scrape.labels(tree.name or "")
        case promql_parser.MatrixSelector():
            return scrape.labels(tree.vector_selector.name or "")
        case promql_parser.Call():
            labels = {label for each in tree.args for label in _result_labels(each, scrape, found)}
            if tree.func.name == "histogram_quantile":
                check(["le"], labels, "histogram_quantile")
                return labels - {"le"}
            return labels
        case promql_parser.AggregateExpr():
            labels = _result_labels(tree.expr, scrape, found)
            if tree.modifier is None:
                # Without "by", topk keeps the labels and sum drops them.
                return labels if tree.param is not None else set()
            check(tree.modifier.labels, labels, "by")
            is_by = tree.modifier.type == promql_parser.AggModifierType.By
            named = set(tree.modifier.labels)
            return named if is_by else labels - named
        case promql_parser.BinaryExpr():
            left, right = (_result_labels(side, scrape, found) for side in (tree.lhs, tree.rhs))
            matching = tree.modifier.matching if tree.modifier else None
            if matching is not None:
                check(matching.labels, left | right, "on or ignoring")
            return left or right
        case promql_parser.ParenExpr() | promql_parser.SubqueryExpr() | promql_parser.UnaryExpr():
            return _result_labels(tree.expr, scrape, found)
    return set()
