"""The same people, apps and servers as of the SMART checks."""

from __future__ import annotations

from tests.smart.conftest import clinic as clinic
from tests.smart.conftest import lasting as lasting
from tests.smart.conftest import quick_passwords as quick_passwords
from tests.smart.conftest import secured as secured
from tests.smart.conftest import smart as smart
