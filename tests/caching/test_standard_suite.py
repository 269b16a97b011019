"""LangChain's own tests of a cache, on each of ours."""

from __future__ import annotations

import pytest
from langchain_core.caches import BaseCache
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from tests.caching.conftest import Kind


class TestSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, every_kind: Kind) -> BaseCache:
        return every_kind.make()


@pytest.mark.asyncio
class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture
    def cache(self, every_kind: Kind) -> BaseCache:
        return every_kind.make()
