"""What the tests of alerts share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from support.webhooks import Webhook


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with closing(Webhook()) as hook:
        yield hook
