"""The machine's facts, the table and the JSON."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import buffers, search

OUT = Path(__file__).resolve().parent / "out"


def machine() -> dict[str, Any]:
    """What the figures depend on: kernel, processor, cores, memory, socket limits."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        "unknown",
    )
    memory = next(
        (int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0
    )
    return {
        "kernel": platform.release(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_kib": memory,
        "python": platform.python_version(),
        "rmem_max": int("".join(_lines("/proc/sys/net/core/rmem_max")) or 0),
        "load_average_at_start": os.getloadavg()[0],
    }


def stolen_seconds() -> float:
    """CPU time that the hypervisor gave to others, of all cores so far."""
    columns = _lines("/proc/stat")[0].split()
    return int(columns[8]) / os.sysconf("SC_CLK_TCK")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def write(results: Mapping[str, Any]) -> Path:
    """Writes `bench/out/results.json`."""
    OUT.mkdir(exist_ok=True)
    path = OUT / "results.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def table(results: Mapping[str, Any]) -> str:
    """All figures as text; ratios are peer / forwarder for costs, forwarder / peer for rates."""
    receivers: list[str] = results["receivers"]
    out = []
    facts = results["machine"]
    out.append(
        f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}; median (min..max) of the runs"
    )
    rate = f"{results['plan']['rate']:,}/s"
    for key, figure, title, unit, better in (
        ("cpu", "us_per_event", f"CPU us per event at {rate} or the row's own rate", "{:.2f}", "less"),
        ("lossless", "rate", "highest lossless UDP rate, 1/s", "{:,.0f}", "more"),
        ("cpu", "rss_peak_kib", "peak memory, KiB", "{:,.0f}", "less"),
        ("cpu", "missing", "events lost at that offered rate", "{:,.0f}", ""),
        ("cpu", "doubled", "events that came twice", "{:,.0f}", ""),
        ("relay", "us_per_event", "relays: CPU us per event, as fast as it goes", "{:.3f}", "less"),
        ("relay", "rate", "relays: events/s", "{:,.0f}", "more"),
        ("relay", "megabytes_per_second", "relays: MB/s", "{:,.0f}", "more"),
        (
            "relay",
            "core_percent",
            "relays: % of the one core (well below 100: it was not the limit)",
            "{:.0f}",
            "",
        ),
        ("relay", "rss_peak_kib", "relays: peak memory, KiB", "{:,.0f}", "less"),
        ("relay", "missing", "relays: events lost", "{:,.0f}", ""),
        ("relay", "doubled", "relays: events that came twice", "{:,.0f}", ""),
        ("tail", "us_per_event", "tail: CPU us per line, as fast as it goes", "{:.3f}", ""),
        ("tail", "rate", "tail: lines/s on the one core", "{:,.0f}", ""),
        ("tail", "rss_peak_kib", "tail: peak memory, KiB", "{:,.0f}", ""),
        ("tail", "missing", "tail: lines lost", "{:,.0f}", ""),
        ("tail", "doubled", "tail: lines that came twice", "{:,.0f}", ""),
    ):
        rows = results.get(key) or {}
        if rows:
            columns = (
                list(dict.fromkeys(n for row in rows.values() for n in row))
                if key in ("relay", "tail")
                else receivers
            )
            out += ["", *_figure(rows, figure, title, unit=unit, better=better, receivers=columns)]
    out += buffers.table(results.get("buffers") or {})
    out += search.table(results.get("search") or {})
    alone = results.get("forwarder") or {}
    if alone:
        out += ["", "forwarder alone"]
        out += [f"  {name:<44} {_spread(spread, '{:.2f}')}" for name, spread in alone.items()]
    books = results.get("metrics")
    if books:
        out += [
            "",
            f"metrics page, read {books['pages']} times, {books['while_moving']} times while events came in:",
            "  received = delivered + buffered + lost + in flight each time;",
            f"  at rest {books['received']:,} received = {books['delivered']:,} delivered (so says the sink) "
            f"+ {books['buffered']:,} buffered",
            f"  + {books['lost']:,} lost (so says the kernel) + {books['in_flight']:,} in flight",
        ]
    if results.get("failed"):
        out += ["", "failed", *(f"  {line}" for line in results["failed"])]
    return "\n".join(out)


def _figure(
    rows: Mapping[str, Any], figure: str, title: str, *, unit: str, better: str, receivers: list[str]
) -> list[str]:
    lines = [title, "  " + " " * 52 + "".join(f"{name:>28}" for name in receivers)]
    for row, cells in rows.items():
        line = f"  {row:<52}"
        own = cells.get("forwarder", {}).get(figure, {}).get("median")
        for name in receivers:
            spread = cells.get(name, {}).get(figure)
            text = _spread(spread, unit) if spread else "-"
            if spread and better and name != "forwarder" and own and spread["median"]:
                ratio = spread["median"] / own if better == "less" else own / spread["median"]
                text += f" x{ratio:.1f}"
            line += f"{text:>28}"
        lines.append(line)
    return lines


def _spread(spread: Mapping[str, float], unit: str) -> str:
    middle = unit.format(spread["median"])
    if spread["runs"] < 2:
        return middle
    return f"{middle} ({unit.format(spread['minimum'])}..{unit.format(spread['maximum'])})"
