"""What bench/ makes of its measurements: ratios that point the right way, verdicts, tables that stay in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import micro, report, results
from bench.rows import LWS, MEMORY_ROWS, PURE, ROWS, SHORT, WSD, Goal, Row
from bench.servers import Visit

ROW = Row("echo", "an echo", "--mode echo", 10, {LWS: Goal(cpu=2.0, rate=1.5)})


def visit(rate: float, cpu_us: float, bad: str = "") -> Visit:
    return Visit(rate=rate, cpu_us=cpu_us, p99_us=100, opened=10, held=3000, before=1000, bad=bad)


def measured(ours: Visit, theirs: Visit) -> results.Results:
    found = results.empty()
    found["rows"]["echo"] = results.row_result(ROW, {WSD: [ours], LWS: [theirs]})
    return found


def test_above_1_wsd_is_ahead() -> None:
    against = measured(visit(rate=300, cpu_us=2.0), visit(rate=200, cpu_us=6.0))["rows"]["echo"]["against"][LWS]
    assert against == {"cpu": 3.0, "rate": 1.5, "cpu_goal": 2.0, "rate_goal": 1.5}


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    """One round in which the machine did something else counts for as much as any other."""
    ours = [visit(100, 1.0), visit(100, 1.0), visit(1, 99.0)]
    theirs = [visit(50, 2.0), visit(25, 4.0), visit(25, 4.0)]
    against = results.row_result(ROW, {WSD: ours, LWS: theirs})["against"][LWS]
    assert (against["cpu"], against["rate"]) == (2.0, 2.0)


def test_who_could_not_be_built_is_left_out() -> None:
    assert results.row_result(ROW, {WSD: [visit(1, 1.0)]})["against"] == {}


@pytest.mark.parametrize(
    ("cpu", "rate", "verdict"),
    [(2.0, 1.5, "met"), (9.0, 1.49, "short"), (1.99, 9.0, "short"), (1.59, 9.0, "far off"), (9.0, 1.19, "far off")],
)
def test_the_ratio_that_is_further_off_decides(cpu: float, rate: float, verdict: str) -> None:
    assert results.row_verdict({"cpu": cpu, "rate": rate, "cpu_goal": 2.0, "rate_goal": 1.5}) == verdict


@pytest.mark.parametrize(("value", "verdict"), [(1.0, "met"), (1.2, "short"), (1.3, "far off"), (0.0, "met")])
def test_what_should_be_small(value: float, verdict: str) -> None:
    assert results.most_verdict(value, 1.0) == verdict


def test_memory_of_a_connection() -> None:
    assert results.memory_result(MEMORY_ROWS[0], {WSD: visit(0, 0.0)})["servers"] == {WSD: 200}


def test_whoever_miscounts_is_named() -> None:
    found = measured(visit(1, 1.0), visit(1, 1.0, bad="failed 1"))
    assert results.complaints(found) == ["echo: lws: failed 1"]
    assert any("failed 1" in line for line in report.row_lines(found["rows"]["echo"]))


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    found = measured(visit(300, 2.0), visit(200, 6.0))
    results.save(tmp_path / "new" / "results.json", found)
    assert results.load(tmp_path / "new" / "results.json") == found
    assert results.load(tmp_path / "none.json") == results.empty()


def test_tables_replace_what_stands_between_their_markers_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("above\n<!-- bench:rows -->\nold\n<!-- /bench:rows -->\nbelow <!-- bench:memory -->\n")
    found = measured(visit(300, 2.0), visit(200, 6.0))
    assert report.write_blocks(path, found) == ["rows"]
    once = path.read_text()
    assert once.startswith("above\n<!-- bench:rows -->\n\n| workload | against |")
    assert "| an echo | lws | 2.00 / 6.00 | 3.00 | 2.0 | 300 / 200 | 1.50 | 1.5 | met |" in once
    assert once.endswith("\n<!-- /bench:rows -->\nbelow <!-- bench:memory -->\n")
    assert "old" not in once
    report.write_blocks(path, found)
    assert path.read_text() == once


def test_what_is_behind_is_said() -> None:
    table = report.rows_table(measured(visit(200, 6.0), visit(200, 6.0)))
    assert "0 of 1 rows meet their goal. Behind it:\n\n- an echo, against lws: far off" in table


def test_the_page_has_a_place_for_every_table() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "performance.md").read_text()
    missing = [name for name in report.BLOCKS if name != "summary" and f"<!-- bench:{name} -->\n" not in page]
    assert missing == []


def test_rows_have_names_of_their_own_and_count_what_they_open() -> None:
    names = [row.name for row in (*ROWS, *MEMORY_ROWS)]
    assert len(set(names)) == len(names)
    assert [row.name for row in ROWS if f"--conns {row.connections} " not in f"{row.load} "] == []
    assert [row.name for row in ROWS if ("--tls" in row.load) != (row.kind == "tls")] == []
    assert [row.name for row in ROWS if ("--deflate" in row.load) != (row.kind == "deflate")] == []
    assert [row.name for row in ROWS if row.ours == PURE] == ["pure"]
    assert SHORT < 1


def test_the_machine_s_speed_drops_out_of_a_ratio_of_times() -> None:
    then = {"calibration": 100, "ns": {"mask": 50}, "instructions": {"mask": 400}}
    now = {"calibration": 200, "ns": {"mask": 110}, "instructions": {"mask": 440}}
    found = micro.ratios(now, then)
    assert found == {"ns": {"mask": 1.1}, "instructions": {"mask": 1.1}}
    assert micro.regressions(found) == ["mask: 1.10 times the instructions"]
    assert micro.regressions({**found, "instructions": {}}) == []
