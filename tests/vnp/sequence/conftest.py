"""Every test of this folder runs twice: by NumPy alone, and with the compiled loops."""

import pytest

from store.io import compiled, loops
from vnp.sequence import loops as sequence_loops
from vnp.sequence import parse_loops


@pytest.fixture(scope="module", params=["numpy", "compiled"], autouse=True)
def loops_in_use(request):
    patch = pytest.MonkeyPatch()
    patch.setattr(compiled, "_allowed", 0)
    if request.param == "compiled":
        compiled.allow(compiling=True)
        assert loops.LOOPS.get() is not None
        assert sequence_loops.LOOPS.get() is not None
        assert parse_loops.LOOPS.get() is not None
    yield request.param
    patch.undo()
