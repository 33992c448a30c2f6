"""A database that does not keep UTF-8 gives names back as bytes: workers would know no job by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.conftest import empty_database
from tests.serving.server import environment, manage

pytestmark = pytest.mark.processes


def test_a_database_without_utf_8_is_refused_before_there_is_a_table_in_it(tmp_path: Path) -> None:
    with empty_database("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0") as address:
        env = environment(tmp_path, 0, DATABASE_URL=address)
        refused = manage("migrate", env=env)
        assert refused.returncode == 1
        assert "clm.E016" in refused.stderr
        assert "SQL_ASCII" in refused.stderr
        assert "ENCODING 'UTF8'" in refused.stderr
        assert (
            "relation"
            in manage("shell", "-c", "from sessions_app.models import Run; Run.objects.count()", env=env).stderr
        )
