"""What is measured, the project and its peers: command line, configuration, where the output is."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

from bench import peers
from bench.tools import Tools

CONFIGS = Path(__file__).resolve().parent / "configs"

FLOOR = "receive only (floor)"

# The Apache combined log format as a Ruby-style regexp; the peers take the same fields.
APACHE_REGEXP = (
    r"/^(?<clientip>\S+) (?<identd>\S+) (?<auth>\S+) \[(?<timestamp>[^\]]+)\] "
    r'"(?<verb>\S+) (?<request>\S+) HTTP\/(?<httpversion>[^"]+)" (?<response>\d+) (?<bytes>\S+) '
    r'"(?<referrer>[^"]*)" "(?<agent>[^"]*)"$/'
)


@dataclass(frozen=True, slots=True)
class Work:
    """What a receiver does with the lines.

    Attributes:
        fields: "header", "regexp" or "grok": what is taken apart.
        sink: "null", "file", "stdout" or "bulk" (Elasticsearch).
        metrics_port: where forwarder shows its metrics; 0: nowhere.
    """

    fields: str
    sink: str
    metrics_port: int = 0

    @property
    def name(self) -> str:
        what = {"header": "header", "regexp": "header + Apache (regexp)", "grok": "header + Apache (grok)"}
        where = {"file": "JSON file", "bulk": "Elasticsearch"}
        return f"{what[self.fields]} -> {where.get(self.sink, self.sink)}"

    @property
    def lines(self) -> str:
        """The load generator's mode."""
        return "header" if self.fields == "header" else "apache"


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a receiver.

    Attributes:
        ports: the UDP ports that it will receive on.
        outputs: a glob, in its folder, of the files that it writes.
    """

    argv: list[str]
    environment: dict[str, str] | None
    ports: tuple[int, ...]
    outputs: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """Something that can be measured.

    Attributes:
        prepare: (folder, work, UDP ports, TCP port of the Elasticsearch sink) -> writes its configuration.
        floor: it only receives, whatever the work: what everybody pays.
    """

    name: str
    version: str
    prepare: Callable[[Path, Work, tuple[int, ...], int], Launch]
    floor: bool = False


def fill(template: str, folder: Path, name: str, **values: str) -> Path:
    """Writes a configuration of `bench/configs` with its values filled in; its path."""
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
    keep_time_key {keep_time}
  </parse>
</source>"""

_METRICS = """<source>
  @type prometheus
  bind 127.0.0.1
  port {port}
</source>"""

_FILTER = """<filter syslog*.**>
  @type parser
  key_name message
  reserve_data true
  remove_key_name_field true
  <parse>
    {parse}
  </parse>
</filter>"""

_FILE = """<match syslog*.**>
  @type file
  path {folder}/out
  append true
  <format>
    @type json
  </format>
  <buffer []>
    @type memory
    flush_mode interval
    flush_interval 1s
  </buffer>
</match>"""

_ELASTICSEARCH = """<match syslog*.**>
  @type elasticsearch
  host 127.0.0.1
  port {port}
  index_name bench
  include_timestamp true
  suppress_type_name true
  <buffer>
    flush_mode interval
    flush_interval 1s
  </buffer>
</match>"""


# omelasticsearch sends what one dequeue gives it, so that it needs a queue, whose batch is the bulk request.
_BATCHES = 'queue.type="FixedArray" queue.size="200000" queue.dequeueBatchSize="8192" queue.workerThreads="1"'


def forwarder() -> Receiver:
    """The project, from the environment that runs the benchmark."""
    program = Path(sys.executable).parent / "forwarder"
    if not program.exists():
        raise peers.UnavailableError(f"forwarder: {program} not found: run `make setup`")

    def prepare(folder: Path, work: Work, ports: tuple[int, ...], sink: int) -> Launch:
        parse = {
            "regexp": f"@type regexp\n    expression {APACHE_REGEXP}",
            "grok": "@type grok\n    grok_pattern %{COMBINEDAPACHELOG}",
        }.get(work.fields)
        # Into Elasticsearch the time goes as @timestamp, with all three receivers.
        keep_time = "false" if work.sink == "bulk" else "true"
        sources = [_SOURCE.format(i=i, port=port, keep_time=keep_time) for i, port in enumerate(ports)]
        if work.metrics_port:
            sources.append(_METRICS.format(port=work.metrics_port))
        match = {
            "file": _FILE.format(folder=folder),
            "bulk": _ELASTICSEARCH.format(port=sink),
        }.get(work.sink, f"<match syslog*.**>\n  @type {work.sink}\n</match>")
        conf = fill(
            "forwarder.conf",
            folder,
            "forwarder.conf",
            SOURCES="\n".join(sources),
            FILTER=_FILTER.format(parse=parse) if parse else "",
            MATCH=match,
        )
        return Launch([str(program), "run", "--no-supervisor", "-c", str(conf)], None, ports, "out*")

    return Receiver("forwarder", version("forwarder"), prepare)


def rsyslog() -> Receiver:
    """rsyslog, all in the receiving thread; fields by mmnormalize."""
    peer = peers.fetch("rsyslog")

    def prepare(folder: Path, work: Work, ports: tuple[int, ...], sink: int) -> Launch:
        header, bulk = work.fields == "header", work.sink == "bulk"
        body = (
            '  constant(value=",")\n  property(outname="message" name="msg" position.from="2" format="jsonf")'
            if header
            else '  constant(value=",\\"apache\\":")\n  property(name="$!all-json-plain")'
        )
        steps = [] if header else [f'action(type="mmnormalize" rulebase="{CONFIGS}/apache.rulebase")']
        if bulk:
            steps.append(
                f'action(type="omelasticsearch" server="127.0.0.1" serverport="{sink}" template="json" '
                'searchIndex="bench" searchType="" bulkmode="on" maxbytes="8m" action.resumeRetryCount="-1")'
            )
        else:
            write = (
                f'action(type="omfile" file="{folder}/out.json" template="json" '
                'asyncWriting="off" ioBufferSize="256k" flushOnTXEnd="off" flushInterval="1")'
            )
            # It refuses to run without an action: "null" is one that no message reaches.
            steps.append(write if work.sink == "file" else f'if $programname == "nobody" then {write}')
        modules = [
            "" if header else 'module(load="mmnormalize")',
            'module(load="omelasticsearch")' if bulk else "",
        ]
        values = {
            "PORT": str(ports[0]), "BODY": body, "ACTIONS": "\n  ".join(steps), "MODULES": "\n".join(modules),
            "QUEUE": 'queue.type="Direct"', "TIME": 'outname="time" name="timereported"', "END": "}\\n",
        }  # fmt: skip
        if bulk:
            time = 'outname="@timestamp" name="timereported" dateFormat="rfc3339"'
            values |= {"QUEUE": _BATCHES, "TIME": time, "END": "}"}
        conf = fill("rsyslog.conf", folder, "rsyslog.conf", **values)
        argv = [str(peer.program), "-n", "-M", str(peer.modules), "-f", str(conf), "-i", str(folder / "pid")]
        return Launch(argv, peer.environment, ports[:1], "out.json")

    return Receiver("rsyslog", peer.version, prepare)


def syslog_ng() -> Receiver:
    """syslog-ng; fields by regexp-parser."""
    peer = peers.fetch("syslog-ng")

    def prepare(folder: Path, work: Work, ports: tuple[int, ...], sink: int) -> Launch:
        header = work.fields == "header"
        destination = {"file": "destination(json);", "bulk": "destination(bulk);"}.get(work.sink, "")
        conf = fill(
            "syslog-ng.conf", folder, "syslog-ng.conf", PORT=str(ports[0]), SINK=str(sink),
            ACTIONS=" ".join(["" if header else "parser(apache);", destination]),
            FIELDS="message=$MSG" if header else "apache.*",
        )  # fmt: skip
        argv = [str(peer.program), "--foreground", "--no-caps", "--module-path", str(peer.modules),
                "-f", str(conf), "-R", str(folder / "persist"), "-c", str(folder / "control"),
                "-p", str(folder / "pid")]  # fmt: skip
        return Launch(argv, peer.environment, ports[:1], "out.json")

    return Receiver("syslog-ng", peer.version, prepare)


def floor(tools: Tools) -> Receiver:
    """Receiving alone: the part of everybody's figure that the kernel takes."""

    def prepare(_: Path, __: Work, ports: tuple[int, ...], ___: int) -> Launch:
        return Launch([tools["udpsink"], "--port", str(ports[0])], None, ports[:1], "")

    return Receiver(FLOOR, "-", prepare, floor=True)
