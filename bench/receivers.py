"""What is measured, the project and its peers: command line, configuration, where the output is."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

from bench import peers

CONFIGS = Path(__file__).resolve().parent / "configs"

# The Apache combined log format as a Ruby-style regexp; the peers take the same fields.
APACHE_REGEXP = (
    r"/^(?<clientip>\S+) (?<identd>\S+) (?<auth>\S+) \[(?<timestamp>[^\]]+)\] "
    r'"(?<verb>\S+) (?<request>\S+) HTTP\/(?<httpversion>[^"]+)" (?<response>\d+) (?<bytes>\S+) '
    r'"(?<referrer>[^"]*)" "(?<agent>[^"]*)"$/'
)


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the table.

    Attributes:
        fields: "header", "regexp" or "grok": what is taken apart.
        sink: "null", "file" or "stdout".
    """

    fields: str
    sink: str

    @property
    def name(self) -> str:
        what = {"header": "header", "regexp": "header + Apache (regexp)", "grok": "header + Apache (grok)"}
        return f"{what[self.fields]} -> {'JSON file' if self.sink == 'file' else self.sink}"

    @property
    def lines(self) -> str:
        """The load generator's mode."""
        return "header" if self.fields == "header" else "apache"


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a receiver.

    Attributes:
        ports: the UDP ports that it will receive on.
        outputs: a glob below its folder for the files that it writes.
    """

    argv: list[str]
    environment: dict[str, str] | None
    ports: tuple[int, ...]
    outputs: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """Something that can be measured; `prepare(folder, work, ports)` writes its configuration."""

    name: str
    version: str
    prepare: Callable[[Path, Work, tuple[int, ...]], Launch]


def _fill(template: str, folder: Path, name: str, **values: str) -> Path:
    text = Template((CONFIGS / template).read_text()).substitute(DIR=str(folder), **values)
    path = folder / name
    path.write_text(text)
    return path


_SOURCE = """<source>
  @type syslog
  bind 127.0.0.1
  port {port}
  tag syslog{i}
  facility_key facility
  severity_key severity
  <parse>
    message_format rfc3164
    keep_time_key true
  </parse>
</source>"""

_FILTER = """<filter **>
  @type parser
  key_name message
  reserve_data true
  remove_key_name_field true
  <parse>
    {parse}
  </parse>
</filter>"""

_FILE = """<match **>
  @type file
  path {folder}/out
  append true
  <format>
    @type json
  </format>
  <buffer []>
    flush_mode interval
    flush_interval 1s
  </buffer>
</match>"""


def forwarder() -> Receiver:
    """The project, from the environment that runs the benchmark."""
    program = Path(sys.executable).parent / "forwarder"
    if not program.exists():
        raise peers.UnavailableError(f"forwarder: {program} not found: run `make setup`")

    def prepare(folder: Path, work: Work, ports: tuple[int, ...]) -> Launch:
        parse = {
            "regexp": f"@type regexp\n    expression {APACHE_REGEXP}",
            "grok": "@type grok\n    grok_pattern %{COMBINEDAPACHELOG}",
        }.get(work.fields)
        plain = f"<match **>\n  @type {work.sink}\n</match>"
        conf = _fill(
            "forwarder.conf",
            folder,
            "forwarder.conf",
            SOURCES="\n".join(_SOURCE.format(i=i, port=port) for i, port in enumerate(ports)),
            FILTER=_FILTER.format(parse=parse) if parse else "",
            MATCH=_FILE.format(folder=folder) if work.sink == "file" else plain,
        )
        return Launch([str(program), "run", "-c", str(conf)], None, ports, "out*")

    return Receiver("forwarder", version("forwarder"), prepare)


def rsyslog() -> Receiver:
    """rsyslog, all in the receiving thread; fields by mmnormalize."""
    peer = peers.fetch("rsyslog")

    def prepare(folder: Path, work: Work, ports: tuple[int, ...]) -> Launch:
        header = work.fields == "header"
        body = (
            '  constant(value=",")\n  property(outname="message" name="msg" position.from="2" format="jsonf")'
            if header
            else '  constant(value=",\\"apache\\":")\n  property(name="$!all-json-plain")'
        )
        actions = "" if header else f'  action(type="mmnormalize" rulebase="{CONFIGS}/apache.rulebase")\n'
        write = (
            f'action(type="omfile" file="{folder}/out.json" template="json" '
            'asyncWriting="off" ioBufferSize="256k" flushOnTXEnd="off" flushInterval="1")'
        )
        # It refuses to run without an action: "null" is one that no message reaches, so no line is formatted.
        actions += f"  {write}" if work.sink == "file" else f'  if $programname == "nobody" then {write}'
        conf = _fill(
            "rsyslog.conf", folder, "rsyslog.conf", PORT=str(ports[0]), BODY=body, ACTIONS=actions,
            MODULES="" if header else 'module(load="mmnormalize")',
        )  # fmt: skip
        argv = [str(peer.program), "-n", "-M", str(peer.modules), "-f", str(conf), "-i", str(folder / "pid")]
        return Launch(argv, peer.environment, ports[:1], "out.json")

    return Receiver("rsyslog", peer.version, prepare)


def syslog_ng() -> Receiver:
    """syslog-ng; fields by regexp-parser."""
    peer = peers.fetch("syslog-ng")

    def prepare(folder: Path, work: Work, ports: tuple[int, ...]) -> Launch:
        header = work.fields == "header"
        steps = ["" if header else "parser(apache);", "destination(json);" if work.sink == "file" else ""]
        conf = _fill(
            "syslog-ng.conf", folder, "syslog-ng.conf", PORT=str(ports[0]), ACTIONS=" ".join(steps),
            FIELDS="message=$MSG" if header else "apache.*",
        )  # fmt: skip
        argv = [str(peer.program), "--foreground", "--no-caps", "--module-path", str(peer.modules),
                "-f", str(conf), "-R", str(folder / "persist"), "-c", str(folder / "control"),
                "-p", str(folder / "pid")]  # fmt: skip
        return Launch(argv, peer.environment, ports[:1], "out.json")

    return Receiver("syslog-ng", peer.version, prepare)
