"""The file of ``foo.url_file``, which is read once when a client is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyramid_baseplate_redis import ClusterRedisClient, RedisClient, SentinelRedisClient
from pyramid_baseplate_redis.settings import sources


@pytest.mark.parametrize(
    ("client", "url"),
    [
        (RedisClient, "redis://localhost"),
        (SentinelRedisClient, "redis+sentinel://localhost/mymaster"),
        (ClusterRedisClient, "redis+cluster://localhost"),
    ],
)
def test_it_is_read_once(
    client: type[RedisClient], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "url"
    file.write_text(url)
    read, file_content = [], sources.file_content

    def counted(path: str) -> tuple[str, str]:
        read.append(path)
        return file_content(path)

    monkeypatch.setattr(sources, "file_content", counted)
    client().parse("foo", {"foo.url_file": str(file)})

    assert read == [str(file)]
