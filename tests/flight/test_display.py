"""What a person watches."""

import pytest

from pipeline.flight.display import Display, View, clock

VIEW = View(
    step=120, steps=1449, loss=3.25, tokens_per_s=12345.6, orbit=2, sunlit=0.0, charge=0.713, mode="TRAIN",
    next_save_s=222.0, eta_s=3725.0,
)  # fmt: skip


def test_without_a_terminal_a_plain_line_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    display.show(VIEW)
    display.close()
    line = capsys.readouterr().err
    for part in ("120/1,449", "3.250", "12,346 tok/s", "orbit 2", "shadow", "71%", "TRAIN", "3:42", "1:02:05"):
        assert part in line
    assert "\x1b" not in line
    assert line.count("\n") == 1


def test_plain_lines_do_not_flood_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    for _ in range(100):
        display.show(VIEW)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_quiet_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=True)
    display.say("hello")
    display.show(VIEW)
    display.close()
    assert capsys.readouterr() == ("", "")


def test_before_the_first_step_there_is_no_loss_and_no_eta(capsys: pytest.CaptureFixture[str]) -> None:
    Display().show(VIEW._replace(loss=None, eta_s=None))
    line = capsys.readouterr().err
    assert "loss -" in line
    assert "ETA -" in line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (600, "10:00"), (3600, "1:00:00"), (-5, "0:00")]
)
def test_durations_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
