"""What nvidia-smi says, in words."""

from __future__ import annotations

from tools.gpu_heat import describe

COOL = "1980, 35, 72.60, 0x0000000000000000"
HOT = "345, 92, 223.22, 0x0000000000000068"


def test_a_card_slowed_by_heat_is_told() -> None:
    said = describe([COOL, COOL, COOL, HOT])
    assert said.startswith("SM clock 1,980 MHz (lowest 345), 73 W, 92 degrees C at most")
    assert said.endswith("slowed by heat 25% of the time")


def test_a_line_cut_short_is_left_out() -> None:
    for length in range(len(HOT)):
        assert "lowest 1,980" in describe([COOL, HOT[:length]])


def test_what_is_no_answer_is_shown() -> None:
    assert describe([]) == "clock and temperature not known (nvidia-smi: nothing)"
    assert "Field is not valid" in describe(["Field is not valid"])
    assert "not known" in describe(["[N/A], [N/A], [N/A], [N/A]"])
