"""`python -m server.connect kafka|file|stream TARGET …`: delivers what a shop already writes as events.

Exit status 0 when the source has ended or SIGTERM asked to stop, 1 when the delivery cannot go on, 2 for wrong options.
"""

from __future__ import annotations

import signal
import socket
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from twinrank_client.settings import Tls

from server.connect.delivery import MESSAGES_IN_FLIGHT_MAX, Delivery
from server.connect.errors import BadRow, ConnectError, MappingInvalid, SourceUnusable
from server.connect.mapper import Mapper
from server.connect.mapping import read_mapping
from server.connect.progress import ProgressLine, print_summary
from server.connect.pump import Pump
from server.connect.quarantine import Quarantine
from server.connect.record import Source

GROUP = "twinrank"
IN_FLIGHT_LIMIT = 64

Flush = Callable[[], None]
"""Waits for what is under way and commits it."""

Target = Annotated[str, typer.Argument(help="host:port of the Twinrank server", metavar="TARGET")]
MappingOption = Annotated[
    Path | None,
    typer.Option("--mapping", help="TOML: which field is which; default: named as in the proto", dir_okay=False),
]
QuarantineOption = Annotated[
    Path, typer.Option("--quarantine", help="JSON lines: rows that are no events, and why", dir_okay=False)
]
StrictOption = Annotated[bool, typer.Option("--strict", help="stop at the first row that is no event")]
InFlightOption = Annotated[
    int, typer.Option("--in-flight", help="messages of 100 events in flight", min=1, max=IN_FLIGHT_LIMIT)
]
IdleOption = Annotated[
    float | None, typer.Option("--idle-exit-s", help="end when nothing came for so long; default: never", min=0.1)
]
CaOption = Annotated[
    Path | None, typer.Option("--tls-ca", help="PEM: authorities of the server's certificate", exists=True)
]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command("file")
def file_(
    target: Target,
    files: Annotated[list[Path], typer.Argument(help=".parquet, .csv, .tsv or .jsonl files", dir_okay=False)],
    offsets: Annotated[Path, typer.Option(help="where the committed offsets are kept", dir_okay=False)] = Path(
        "connect-offsets.json"
    ),
    mapping: MappingOption = None,
    quarantine: QuarantineOption = Path("connect-quarantine.jsonl"),
    strict: StrictOption = False,
    in_flight: InFlightOption = MESSAGES_IN_FLIGHT_MAX,
    tls_ca: CaOption = None,
) -> None:
    """Deliver files to their end; started again, it goes on where it stood."""

    def open_source(console: Console, _: Flush) -> Source:
        from server.connect.files import FileSource
        from server.connect.offsets import OffsetFile

        source = FileSource(files, lambda: OffsetFile(offsets))
        for file in source.replaced:
            console.print(Text(f"{file} is not the file that {offsets} knows: it is delivered from its start"))
        return source

    _run("file", target, open_source, mapping, quarantine, strict, in_flight, None, tls_ca)


@app.command()
def kafka(
    target: Target,
    brokers: Annotated[str, typer.Option(help="host:port[,host:port…]")],
    topic: Annotated[list[str], typer.Option(help="topic to read; may be repeated")],
    group: Annotated[str, typer.Option(help="consumer group")] = GROUP,
    settings: Annotated[
        Path | None, typer.Option(help='TOML of librdkafka\'s settings, such as "sasl.password" = …', exists=True)
    ] = None,
    mapping: MappingOption = None,
    quarantine: QuarantineOption = Path("connect-quarantine.jsonl"),
    strict: StrictOption = False,
    in_flight: InFlightOption = MESSAGES_IN_FLIGHT_MAX,
    idle_exit_s: IdleOption = None,
    tls_ca: CaOption = None,
) -> None:
    """Deliver Kafka topics of JSON messages, as a member of a consumer group."""

    def open_source(_: Console, flush: Flush) -> Source:
        from server.connect.kafka import KafkaSource

        return KafkaSource(brokers, topic, group, _read_settings(settings), flush)

    _run("kafka", target, open_source, mapping, quarantine, strict, in_flight, idle_exit_s, tls_ca)


@app.command()
def stream(
    target: Target,
    key: Annotated[str, typer.Option(help="key of the stream")],
    url: Annotated[
        str, typer.Option(help="valkey://[:password@]host:port/db or unix:///path", envvar="TWINRANK_CONNECT_URL")
    ],
    group: Annotated[str, typer.Option(help="consumer group; made when it is not there")] = GROUP,
    consumer: Annotated[str, typer.Option(help="this consumer's name; default: the host's")] = "",
    json_field: Annotated[
        str | None, typer.Option(help="the field that holds a JSON object; default: the fields are the row")
    ] = None,
    claim_idle_s: Annotated[
        float, typer.Option(help="take over what another consumer left pending for so long", min=0.001)
    ] = 60.0,
    mapping: MappingOption = None,
    quarantine: QuarantineOption = Path("connect-quarantine.jsonl"),
    strict: StrictOption = False,
    in_flight: InFlightOption = MESSAGES_IN_FLIGHT_MAX,
    idle_exit_s: IdleOption = None,
    tls_ca: CaOption = None,
) -> None:
    """Deliver a Valkey stream, as a member of a consumer group."""

    def open_source(_: Console, __: Flush) -> Source:
        from server.connect.streams import StreamSource

        return StreamSource(
            url,
            key,
            group,
            consumer or socket.gethostname(),
            json_field=json_field,
            claim_idle_ms=max(1, round(claim_idle_s * 1000)),
        )

    _run("stream", target, open_source, mapping, quarantine, strict, in_flight, idle_exit_s, tls_ca)


def _run(
    name: str,
    target: str,
    open_source: Callable[[Console, Flush], Source],
    mapping: Path | None,
    quarantine: Path,
    strict: bool,
    in_flight: int,
    idle_exit_s: float | None,
    tls_ca: Path | None,
) -> None:
    console = Console(stderr=True, soft_wrap=True)
    started_s = time.monotonic()
    running: list[Pump] = []

    def flush() -> None:
        for pump in running:
            pump.flush()

    try:
        try:
            mapper = Mapper(read_mapping(mapping))
        except BadRow as error:
            raise MappingInvalid(f"{mapping}: [constants]: {error.detail}") from error
        source = open_source(console, flush)
    except ConnectError as error:
        console.print(Text(f"{name}: {error}", style="red"))
        raise typer.Exit(2) from error
    tls = Tls(root_certificates=tls_ca.read_bytes()) if tls_ca else None
    delivery = Delivery(target, messages_in_flight_max=in_flight, tls=tls)
    failure: ConnectError | None = None
    try:
        with Quarantine(quarantine, strict=strict) as bad_rows, ProgressLine(console, name) as progress:
            pump = Pump(source, mapper, delivery, bad_rows, idle_exit_s=idle_exit_s, on_progress=progress)
            _stop_on_signals(pump)
            running.append(pump)
            try:
                pump.run()
            except ConnectError as error:
                failure = error
            running.clear()  # all that can be committed is
    finally:
        source.close()
        delivery.close()
    print_summary(pump, console, time.monotonic() - started_s)
    if pump.tally.quarantined:
        console.print(Text(f"quarantined rows: {quarantine}"))
    if failure is not None:
        console.print(Text(f"{name}: {failure}", style="red"))
        raise typer.Exit(1)


def _stop_on_signals(pump: Pump) -> None:
    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second one does not wait
        pump.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _read_settings(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceUnusable(f"{file}: {error}") from error
    wrong = [name for name, value in settings.items() if isinstance(value, dict | list)]
    if wrong:
        raise SourceUnusable(f'{file}: {wrong[0]} is a table; quote names with dots: "sasl.password" = …')
    return settings


if __name__ == "__main__":
    app()
