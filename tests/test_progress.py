"""What of the packs' progress is worth a line."""

from stilt_assets.progress import Progress, in_lines, waits_in_lines

THEIRS, OTHERS = "another process works on pack 2", "another process works on pack 5"
STATES = [
    Progress(0, 7, 0, 3),
    Progress(2, 7, 0, 3),
    Progress(3, 7, 1, 3),
    Progress(3, 7, 1, 3, waits=THEIRS),
    Progress(3, 7, 1, 3, waits=THEIRS),
    Progress(5, 7, 2, 3, waits=OTHERS),
    Progress(5, 7, 2, 3, waits=THEIRS),
    Progress(7, 7, 3, 3),
]


def test_each_part_and_each_wait_is_a_line_once() -> None:
    said: list[str] = []
    tell = in_lines(said.append, lambda state: state.packs_done)
    for state in STATES:
        tell(state)
    assert said == [
        "0 of 7 pixels, 0 of 3 packs",
        "3 of 7 pixels, 1 of 3 packs",
        f"waits: {THEIRS}",
        "5 of 7 pixels, 2 of 3 packs",
        f"waits: {OTHERS}",
        "7 of 7 pixels, 3 of 3 packs",
    ]


def test_who_hears_of_waits_alone_hears_nothing_of_pixels() -> None:
    said: list[str] = []
    tell = waits_in_lines(said.append)
    for state in STATES:
        tell(state)
    assert said == [f"waits: {THEIRS}", f"waits: {OTHERS}"]
