"""`kafka:` of a source: the topic, how to reach and be let in by its brokers, and how the topic is made."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.declare.composites import MapOf, Record
from penstock.declare.durations import DURATION_SHAPE
from penstock.declare.nodes import shorten
from penstock.declare.shapes import FILE_PATH_SHAPE, TEXT_SHAPE, TRUTH_SHAPE, Word, Wrong, choice, whole
from penstock.declare.spec import Field, Parsed, Section
from penstock.limits import KAFKA_OPTIONS_MAX, KAFKA_PARTITIONS_MAX
from penstock.model.kafka import KafkaCluster, KafkaSecurity, KafkaSource, RejectsTopic, Secret, TopicShape

if TYPE_CHECKING:
    from penstock.declare.nodes import Scalar
    from penstock.declare.report import Report
    from penstock.model.pipeline import Origin

TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")

KEPT_OPTIONS = {
    "bootstrap.servers": "Write it as `brokers`.",
    "metadata.broker.list": "Write it as `brokers`.",
    "group.id": "Write it as `group`.",
    "group.instance.id": "Penstock reads by position, not as a member of a group.",
    "group.protocol": "Penstock reads by position, not as a member of a group.",
    "enable.auto.commit": "The lake holds the position.",
    "enable.auto.offset.store": "The lake holds the position.",
    "auto.commit.interval.ms": "The lake holds the position.",
    "auto.offset.reset": "A loss stops the pipeline, or is recorded with `on_data_loss: record`.",
    "isolation.level": "Only committed records are read.",
    "check.crcs": "Damage on the way has to be found.",
    "enable.partition.eof": "Penstock needs to see the end of a partition.",
    "allow.auto.create.topics": "Use `penstock topics create`.",
    "topic.blacklist": "It would hide the topic.",
    "enable.idempotence": "The producer must not double or reorder records.",
    "transactional.id": "Use `penstock simulate --transactional`.",
    "acks": "A record is acknowledged when all replicas have it.",
    "request.required.acks": "A record is acknowledged when all replicas have it.",
    "security.protocol": "Write it as `security: {protocol: ...}`.",
    "sasl.mechanism": "Write it as `security: {mechanism: ...}`.",
    "sasl.mechanisms": "Write it as `security: {mechanism: ...}`.",
    "sasl.username": "Write it as `security: {username: ...}`.",
    "sasl.password": "Write it as `security: {password: ...}`.",
    "ssl.key.password": "Write it as `security: {key_password: ...}`.",
}
"""Settings of librdkafka that would break a promise or have a place of their own, with what to do instead."""


def parse_topic(node: Scalar) -> str:
    if not TOPIC_NAME.fullmatch(node.text) or node.text in (".", ".."):
        message = f"`{shorten(node.text)}` is not a topic's name"
        raise Wrong("bad-name", message, "Up to 249 letters, digits, `.`, `_` and `-`.")
    return node.text


TOPIC_SHAPE = Word("a topic's name", parse_topic, {"type": "string"})

SECRET_VALUE = Field("value", TEXT_SHAPE, "The secret.", 'value: "${KAFKA_PASSWORD}"', connection=True)
SECRET_FILE = Field(
    "file", FILE_PATH_SHAPE, "A file that holds it, read at each start.", "file: /run/secrets/kafka", connection=True
)
SECRET = Section(
    "secret",
    "a secret",
    "Better from the environment or a file than in the declaration, which the lake keeps as it is written.",
    (SECRET_VALUE, SECRET_FILE),
    example="file: /run/secrets/kafka",
)
SECRET_SHAPE = Record(SECRET, short=SECRET_VALUE)

PROTOCOL = Field(
    "protocol",
    choice("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
    "How the connection is protected.",
    "protocol: sasl_ssl",
    "`plaintext`",
    connection=True,
)
MECHANISM = Field(
    "mechanism",
    choice("plain", "scram-sha-256", "scram-sha-512", "oauthbearer", "gssapi"),
    "How the user is checked. What `oauthbearer` and `gssapi` need besides goes into `options`.",
    "mechanism: scram-sha-512",
    connection=True,
)
USERNAME = Field("username", TEXT_SHAPE, "The user.", "username: penstock", connection=True)
PASSWORD = Field("password", SECRET_SHAPE, "The user's password.", 'password: "${KAFKA_PASSWORD}"', connection=True)
CA = Field(
    "ca", FILE_PATH_SHAPE, "Certificates (PEM) that the brokers' are checked against.", "ca: ca.pem", connection=True
)
CERTIFICATE = Field(
    "certificate", FILE_PATH_SHAPE, "The client's own (PEM).", "certificate: client.pem", connection=True
)
KEY = Field("key", FILE_PATH_SHAPE, "The key of the client's certificate (PEM).", "key: client.key", connection=True)
KEY_PASSWORD = Field(
    "key_password", SECRET_SHAPE, "What the key is locked with.", "key_password: {file: key.txt}", connection=True
)
SECURITY = Section(
    "security",
    "security settings",
    "How the client proves who it is. Paths are relative to the project folder.",
    (PROTOCOL, MECHANISM, USERNAME, PASSWORD, CA, CERTIFICATE, KEY, KEY_PASSWORD),
    example=(
        'protocol: sasl_ssl\nmechanism: scram-sha-512\nusername: penstock\npassword: "${KAFKA_PASSWORD}"\nca: ca.pem'
    ),
)

TOPIC = Field("topic", TOPIC_SHAPE, "The topic.", "topic: ticks", required=True, connection=True)
BROKERS = Field(
    "brokers",
    TEXT_SHAPE,
    "Brokers to begin with, as `host:port`, with commas between.",
    'brokers: "${KAFKA_BROKERS}"',
    required=True,
    connection=True,
)
SECURITY_FIELD = Field(
    "security",
    Record(SECURITY),
    "How the client proves who it is.",
    "security: {protocol: ssl, ca: ca.pem}",
    connection=True,
)
GROUP = Field(
    "group",
    TEXT_SHAPE,
    "The group whose offsets tell lag tools how far the lake is. Penstock never reads them.",
    "group: shop",
    "`penstock.` and the pipeline's name",
    connection=True,
)
OPTIONS = Field(
    "options",
    MapOf(TEXT_SHAPE, KAFKA_OPTIONS_MAX, "settings", free=True),
    "Further settings of librdkafka, except those that would break a promise.",
    "options: {client.rack: eu-1a}",
    connection=True,
)
PARTITIONS = Field(
    "partitions",
    whole(1, KAFKA_PARTITIONS_MAX),
    "Partitions that `penstock topics create` makes.",
    "partitions: 12",
    "the brokers'",
    connection=True,
)
REPLICATION = Field(
    "replication",
    whole(1, 100),
    "Copies of each record that it makes.",
    "replication: 3",
    "the brokers'",
    connection=True,
)
RETENTION = Field(
    "retention",
    DURATION_SHAPE,
    "How long it keeps records, at least until the lake has them.",
    "retention: 7 days",
    "the brokers'",
    connection=True,
)
COMPACTION = Field(
    "compaction",
    TRUTH_SHAPE,
    "Keep the last record of each key for ever.",
    "compaction: true",
    "`false`",
    connection=True,
)
KAFKA = Section(
    "kafka",
    "a Kafka source",
    "A topic. Needs the extra `penstock[kafka]`.",
    (TOPIC, BROKERS, SECURITY_FIELD, GROUP, OPTIONS, PARTITIONS, REPLICATION, RETENTION, COMPACTION),
    example='topic: ticks\nbrokers: "${KAFKA_BROKERS}"\nsecurity: {protocol: ssl, ca: ca.pem}\npartitions: 12',
)


REJECTS_BROKERS = replace(BROKERS, required=False, default="the source's")
REJECTS_SECURITY = replace(SECURITY_FIELD, default="at the source's brokers, the source's")
REJECTS_OPTIONS = replace(OPTIONS, default="at the source's brokers, the source's")
REJECTS_KAFKA = Section(
    "rejects-kafka",
    "a topic for rejects",
    "Every quarantined and duplicate event, with its key, bytes and headers as they came, and headers that say where "
    "it was and why it was rejected: those of Kafka Connect, and `penstock.*`. At least once, and beside the batches.",
    (TOPIC, REJECTS_BROKERS, REJECTS_SECURITY, REJECTS_OPTIONS),
    example="topic: ticks-rejected\nbrokers: localhost:9092",
)
REJECTS_KAFKA_FIELD = Field(
    "kafka",
    Record(REJECTS_KAFKA),
    "A topic that gets the rejects, too.",
    "kafka: {topic: ticks-rejected}",
    required=True,
)
REJECTS = Section(
    "rejects",
    "where rejects go",
    "Besides the lake's table `rejects/<pipeline>`, which always has them.",
    (REJECTS_KAFKA_FIELD,),
)


def build_rejects(parsed: Parsed, source: Origin | None, report: Report) -> RejectsTopic | None:
    """The topic for rejects as a noun; None with findings. Without brokers of its own it is at the source's."""
    declared = parsed.get(REJECTS_KAFKA_FIELD)
    if declared is None:
        return None
    topic = declared.value.maybe(TOPIC)
    if isinstance(source, KafkaSource) and topic == source.topic:
        message = "the rejects would go to the topic they came from"
        report.add(declared.value.mark(TOPIC), "conflicting-fields", message, "Name another topic.")
        return None
    beside = source.cluster if isinstance(source, KafkaSource) and not declared.value.has(BROKERS) else None
    cluster = build_cluster(declared.value, report, beside)
    if beside is None and not declared.value.has(BROKERS):
        repair = 'Write for example `brokers: "${KAFKA_BROKERS}"`.'
        report.add(declared.mark, "missing-field", "a topic for rejects needs `brokers`", repair)
        return None
    return None if topic is None or cluster is None else RejectsTopic(topic, cluster)


def build_kafka(parsed: Parsed, report: Report) -> KafkaSource | None:
    """The topic as a noun; None with findings."""
    topic = parsed.maybe(TOPIC)
    cluster = build_cluster(parsed, report)
    if topic is None or cluster is None:
        return None
    shape = TopicShape(
        parsed.maybe(PARTITIONS), parsed.maybe(REPLICATION), parsed.maybe(RETENTION), parsed.value(COMPACTION, False)
    )
    return KafkaSource(topic, cluster, parsed.maybe(GROUP), shape)


def build_cluster(parsed: Parsed, report: Report, beside: KafkaCluster | None = None) -> KafkaCluster | None:
    """Brokers, security and options of a section that has these fields; None with findings. What it leaves out is that
    of `beside`."""
    options: dict[str, str] = {} if beside is None or parsed.has(OPTIONS) else dict(beside.options)
    for entry in parsed.value(OPTIONS, ()):
        if entry.name in KEPT_OPTIONS:
            message = f"`{entry.name}` is not for `options`"
            report.add(entry.mark, "kept-option", message, KEPT_OPTIONS[entry.name])
        elif entry.value is not None:
            options[entry.name] = entry.value.value
    security = parsed.get(SECURITY_FIELD)
    if security is None:
        built: KafkaSecurity | None = KafkaSecurity() if beside is None else beside.security
    else:
        built = build_security(security.value, report)
    brokers = parsed.maybe(BROKERS) if beside is None else beside.brokers
    if brokers is None or built is None:
        return None
    return KafkaCluster(brokers, built, tuple(sorted(options.items())))


def build_security(parsed: Parsed, report: Report) -> KafkaSecurity | None:
    protocol = parsed.value(PROTOCOL, "plaintext")
    sound = True
    for wanted in (MECHANISM, USERNAME, PASSWORD):
        if parsed.has(wanted) and not protocol.startswith("sasl"):
            message = f"`{wanted.name}` is not used with the protocol {protocol}"
            report.add(parsed.mark(wanted), "option-without-use", message, "Use `protocol: sasl_ssl`.")
            sound = False
    for wanted in (CA, CERTIFICATE, KEY, KEY_PASSWORD):
        if parsed.has(wanted) and not protocol.endswith("ssl"):
            message = f"`{wanted.name}` is not used with the protocol {protocol}"
            report.add(parsed.mark(wanted), "option-without-use", message, "Use `protocol: ssl` or `sasl_ssl`.")
            sound = False
    if protocol.startswith("sasl") and not parsed.has(MECHANISM):
        message = f"the protocol {protocol} needs `mechanism`"
        report.add(parsed.node.mark, "missing-field", message, "Write for example `mechanism: scram-sha-512`.")
        sound = False
    password, key_password = parsed.get(PASSWORD), parsed.get(KEY_PASSWORD)
    secrets = [None if one is None else build_secret(one.value, report) for one in (password, key_password)]
    if not sound:
        return None
    return KafkaSecurity(
        protocol,
        parsed.maybe(MECHANISM),
        parsed.maybe(USERNAME),
        secrets[0],
        parsed.maybe(CA),
        parsed.maybe(CERTIFICATE),
        parsed.maybe(KEY),
        secrets[1],
    )


def build_secret(parsed: Parsed, report: Report) -> Secret | None:
    if parsed.has(SECRET_VALUE) == parsed.has(SECRET_FILE):
        report.add(
            parsed.node.mark,
            "conflicting-fields",
            "a secret is a text or a file",
            'Write `"${NAME}"` or `{file: PATH}`.',
        )
        return None
    return Secret(parsed.value(SECRET_VALUE, ""), parsed.value(SECRET_FILE, ""))
