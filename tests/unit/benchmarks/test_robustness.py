"""The table of attacks and rules: a column for each rule, and none twice."""

from benchmarks.robustness import Cell, _parser, shown


def cell(attack: str, robust: str) -> Cell:
    return Cell("digits", "iid", "none", robust, attack, 0.9, 0.5, None)


def test_rules_of_a_plain_run_differ() -> None:
    rules = _parser().parse_args([]).rules

    assert len(set(rules)) == len(rules) > 1


def test_table_has_a_titled_column_for_each_rule() -> None:
    rules = _parser().parse_args([]).rules
    cells = [cell(attack, rule) for attack in ("none", "mimic") for rule in rules]

    table = shown(cells, "digits", "iid", "none")

    assert [column.header for column in table.columns] == ["attack", *rules]
    assert table.row_count == 2
