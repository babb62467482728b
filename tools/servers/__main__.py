"""`python -m tools.servers`: servers that stay until `down`. What runs is noted in `.servers/` of this folder."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from tools.servers import ServerMissing, fetch, start_kafka, start_s3

FOLDER = Path(".servers")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tools.servers", description=__doc__)
    commands = options.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a server, and print what reaches it")
    up.add_argument("server", choices=("kafka", "s3"))
    commands.add_parser("down", help="stop them, and delete their data")
    commands.add_parser("checksums", help="note the jars' checksums anew")
    told = options.parse_args()
    try:
        if told.command == "up":
            print(_up(told.server))
        elif told.command == "down":
            _down()
        else:
            fetch.write_checksums()
    except ServerMissing as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _up(name: str) -> str:
    """Start one, unless it runs; the environment that reaches it, as lines for a shell."""
    note = FOLDER / f"{name}.json"
    if note.exists():
        found = json.loads(note.read_text())
        if _runs(found["pid"]):
            return str(found["environment"])
    folder = (FOLDER / name).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    if name == "kafka":
        kafka = start_kafka(folder)
        pid, lines = kafka.pid, [f"export KAFKA_BROKERS={kafka.address}"]
    else:
        s3 = start_s3(folder)
        pid, lines = (
            s3.pid,
            [
                f"export AWS_ENDPOINT_URL={s3.endpoint} AWS_ALLOW_HTTP=true AWS_REGION={s3.region}",
                f"export AWS_ACCESS_KEY_ID={s3.access_key} AWS_SECRET_ACCESS_KEY={s3.secret_key}",
                f"# lake: s3://{s3.bucket}/shop",
            ],
        )
    note.write_text(json.dumps({"pid": pid, "environment": "\n".join(lines)}))
    note.chmod(0o600)
    return "\n".join(lines)


def _down() -> None:
    for note in FOLDER.glob("*.json"):
        pid = json.loads(note.read_text())["pid"]
        if _runs(pid):
            os.kill(pid, signal.SIGTERM)
            while _runs(pid):
                time.sleep(0.1)
    shutil.rmtree(FOLDER, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"kafka" in command or b"versitygw" in command


if __name__ == "__main__":
    sys.exit(main())
