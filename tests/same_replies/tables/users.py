"""Users, and what they may do."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..entries import Group, call
from ..outcomes import in_order, kinds


def _keys(plain: Any) -> None:
    plain.set("{k}a", "x")


def _no_users(plain: Any) -> None:
    plain.acl_deluser("anna")
    plain.acl_log_reset()


def port_of(plain: Any) -> Any:
    """Return where a server, or a Cluster's default node, listens."""
    if isinstance(plain, redis.RedisCluster):
        return plain.get_default_node().port
    return plain.get_connection_kwargs()["port"]


def _denied(plain: Any) -> None:
    plain.acl_setuser("anna", enabled=True, passwords=["+pw"], categories=["+@all"], keys=["x"])
    with (
        redis.Redis(port=port_of(plain), retry=Retry(NoBackoff(), 0)) as client,
        suppress(redis.AuthenticationError),
    ):
        client.auth("no", "anna")


def _anna(plain: Any) -> None:
    plain.acl_setuser(
        "anna",
        enabled=True,
        passwords=["+pw"],
        categories=["+@read", "-@admin"],
        commands=["+set"],
        keys=["a:*"],
        channels=["news"],
        selectors=[("+get", "b:*")],
    )


ACL = Group(
    "the users",
    _keys,
    [
        call.acl_cat(),
        call.acl_cat("geo").by(in_order),
        call.acl_cat("none"),
        call.acl_genpass().by(kinds),
        call.acl_genpass(64).by(kinds),
        call.acl_help(),
        call.acl_list(),
        call.acl_users(),
        call.acl_whoami(),
        call.acl_getuser("default"),
        call.acl_getuser("anna"),
        call.acl_getuser("anna").after(_anna),
        call.acl_setuser("anna", enabled=True, nopass=True),
        call.acl_setuser("anna", commands=["+nosuchcommand"]),
        call.acl_deluser("anna").after(_anna),
        call.acl_deluser("nobody"),
        call.acl_dryrun("default", "get", "x"),
        call.acl_dryrun("anna", "get", "x").after(_anna),
        call.acl_log(),
        call.acl_log().after(_denied).by(kinds),
        call.acl_log(1).after(_denied).by(kinds),
        call.acl_log_reset(),
        call.acl_save(),
        call.acl_load(),
    ],
    _no_users,
)
