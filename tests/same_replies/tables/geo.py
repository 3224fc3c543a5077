"""Geospatial indices."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call

P, EMPTY, STRING = "{k}p", "{k}none", "{k}string"
HERE: dict[str, Any] = {"longitude": 13.4, "latitude": 52.5, "radius": 1000, "unit": "km"}


def _keys(plain: Any) -> None:
    plain.geoadd(P, (13.4, 52.5, "Berlin", 2.35, 48.85, "Paris"))
    plain.set(STRING, "x")


_WITH: list[dict[str, Any]] = [
    {},
    {"withdist": True},
    {"withcoord": True},
    {"withhash": True},
    {"withdist": True, "withcoord": True, "withhash": True},
    {"sort": "ASC", "count": 1},
]

_SEARCHES = [
    entry
    for options in _WITH
    for entry in (
        call.geosearch(P, **{**HERE, **options}),
        call.geosearch(P, member="Paris", radius=10, unit="km", **options),
        call.georadius(P, 13.4, 52.5, 1000, unit="km", **options),
        call.georadiusbymember(P, "Paris", 10, unit="km", **options),
    )
]

GEO = Group(
    "geo",
    _keys,
    [
        *_SEARCHES,
        call.geoadd(P, (9.9, 53.5, "Hamburg")),
        call.geoadd(P, (13.4, 52.5, "Berlin"), ch=True),
        call.geoadd(P, (1, 2)),
        call.geodist(P, "Berlin", "Paris"),
        call.geodist(P, "Berlin", "Paris", unit="km"),
        call.geodist(P, "Berlin", "x"),
        call.geodist(EMPTY, "a", "b"),
        call.geohash(P, "Berlin", "x"),
        call.geohash(EMPTY, "a"),
        call.geohash(P, "Berlin"),
        call.geopos(P, "Berlin", "x"),
        call.geopos(EMPTY, "a"),
        call.geopos(STRING, "a"),
        call.geosearch(EMPTY, **HERE),
        call.geosearch(P, member="x", radius=10),
        call.geosearch(P, member="Paris", width=10, height=10, unit="km", withdist=True),
        call.geosearchstore("{k}d", P, **HERE),
        call.georadius(P, 13.4, 52.5, 1000, unit="km", store="{k}d"),
    ],
)
