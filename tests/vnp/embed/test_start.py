"""With --verbose a worker says what each step of its start took."""

import logging
import re

from vnp.embed import start


def test_each_step_is_told_once_with_its_seconds(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, logger="vnp.embed.start")
    ages = iter([1.5, 4.0])
    monkeypatch.setattr(start, "process_age", lambda: next(ages))
    begin = start.Start()
    for step in ("imports", "the store is open", "imports"):
        begin(step)
    assert [re.sub(" +", " ", text).strip() for text in caplog.messages] == [
        "1.50 s after the process began: imports (1.50 s)",
        "4.00 s after the process began: the store is open (2.50 s)",
    ]


def test_the_age_of_a_process_grows():
    before = start.process_age()
    assert 0 <= before <= start.process_age()
