"""Real servers for tests and by hand, without containers: Kafka (KRaft) on Java, and versitygw, an S3 server in Go.

    python -m tools.servers up kafka|s3     start one that stays, and print how to reach it
    python -m tools.servers down            stop what `up` started

`running.py` starts and stops them, `fetch.py` brings their programs.
"""

from tools.servers.fetch import ServerMissing, jars
from tools.servers.running import KafkaServer, S3Server, start_kafka, start_s3

__all__ = ["KafkaServer", "S3Server", "ServerMissing", "jars", "start_kafka", "start_s3"]
