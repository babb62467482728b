"""Every bound in Penstock, by name, with its reason. Relations between bounds are checked at the end, at import.

Units stand last in a name: `_rows`, `_bytes`, `_seconds`. What a user may change has the same name in `settings.py`;
the value here is its default.
"""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# -- records and batches ----------------------------------------------------------------------------------------------

RECORD_BYTES_MAX = 16 * MIB
"""A larger record is kept as a hash and a length. Room for a 10 MB message; small enough that a batch of them fits."""

MEMORY_PER_RECORD_BYTE = 150
"""Bytes of memory that refining one record may take for each of its bytes: JSON of nothing but open brackets."""

BATCH_ROWS_MAX = 200_000
"""Rows in one batch. Larger ones gain little speed and cost memory; see benchmarks/README.md."""

BATCH_ROWS_MIN = 20_000
"""However long batches take, they are not made smaller than this: a batch costs about as much as 40,000 of its rows,
whatever it holds, so on a busy machine ever smaller ones would only make what waits grow."""

BATCH_BYTES_MAX = 128 * MIB
"""Raw bytes in one batch; bounds memory when records are large."""

BATCH_INTERVAL_MIN_SECONDS = 0.25
"""Time between two commits of a busy pipeline; bounds the growth of the logs."""

if BATCH_BYTES_MAX < 2 * RECORD_BYTES_MAX:
    raise AssertionError("a batch must hold at least two of the largest records")

# -- run --------------------------------------------------------------------------------------------------------------

KEYS_PER_RUN_MAX = 1 << 21
"""Keys in one sorted run of a bucket, 64 MiB: a merge needs as much again, and each lookup visits all runs."""

KEY_INDEX_BYTES_MAX = 256 * MIB
"""Memory for the keys of accepted events; older buckets are forgotten, runs of a larger bucket go to files."""

OPEN_WINDOWS_MAX = 500_000
"""Partial aggregates of open windows in memory, per gold table; what exceeds it is computed from silver at close."""

CLOSED_WINDOWS_CACHED_MAX = 200_000
"""Partial aggregates of closed windows kept for late rows, per gold table; evicted ones are recomputed from silver."""

GOLD_KEYS_BYTES_MAX = 32 * MIB
"""Keys of gold's files kept in memory, per gold table, so that late rows need not open every file that may hold theirs:
a million windows of short names."""

RECOMPUTE_ROWS_MAX = 2_000_000
"""Silver rows aggregated at once when windows are computed from silver; longer ranges are halved."""

BATCH_SECONDS_TARGET = 2.0
"""A batch is sized so that it takes about this long: large enough to be cheap, short enough to stop and to show."""

REFERENCE_CHECK_SECONDS = 1.0
"""How often the loop looks whether a reference file has changed."""

SIGNAL_REPEAT_SECONDS = 1.0
"""Signals closer together are one request to stop; somebody who presses Ctrl-C again has waited longer."""

IDLE_WAIT_SECONDS = 0.2
"""The longest sleep of an idle loop between two looks at its source; a stop is seen after at most this long."""

# -- lake: small tables -----------------------------------------------------------------------------------------------

LEDGER_ROWS_PER_READ = 2_000
"""Ledger rows made into objects at a time: some kilobytes each."""

REFERENCE_BYTES_MAX = 256 * MIB
"""Bytes of a reference, uncompressed: it is held in memory, once per version in use, and joined to every batch."""

REFERENCE_DUPLICATES_SHOWN = 5
"""Keys that an error about duplicate keys names."""

# -- serving: queries --------------------------------------------------------------------------------------------------

QUERY_MEMORY_BYTES = 1 * GIB
"""Memory of one query; what needs more spills to a temporary folder."""

QUERY_SPILL_BYTES_MAX = 16 * GIB
"""Disk one query may use for spilling: a careless cross join fails instead of filling the disk the lake is on."""

QUERY_ROWS_PER_BATCH = 8_192
"""Rows handed over at a time: a batch of the largest usual values (100 kB each) still fits in memory."""

JOIN_POLL_SECONDS = 0.2
"""How often the main thread looks up from waiting for pipelines; bounds how late it sees a signal."""

INGEST_PUSH_BYTES = 8 * MIB
"""Bytes `ingest` gathers before it appends: the wait for the disk is then small beside the writing."""

TABLE_ROWS_MAX = 1_000
"""Rows `sql --format table` prints: nobody reads more on a terminal, and a table is laid out in memory."""

# -- sources ----------------------------------------------------------------------------------------------------------

CSV_RECORD_LINES_MAX = 1_000
"""Physical lines in one CSV record; a quote that is not closed by then was a stray one, and must not swallow the
file."""

# -- proof ------------------------------------------------------------------------------------------------------------

VIOLATION_EXAMPLES_MAX = 5
"""Places shown per violation; the total is always counted. Enough to look at, short enough to read."""

LOSSES_SHOWN_MAX = 100
"""Recorded losses that an audit names one by one; all are counted."""

AUDIT_CHUNK_ROWS_MAX = 2_000_000
"""Rows an audit compares at once; about 100 bytes each, so that it stays far below 1 GiB."""

AUDIT_MEMORY_BYTES_MIN = 256 * MIB
"""DuckDB needs about this much to read wide Parquet files with two threads at all."""

AUDIT_KEYS_MAX = 16_000_000
"""Digests of keys sorted at once when an audit looks for duplicates: 128 MiB, twice while they are sorted."""

AUDIT_WINDOW_ROWS_MAX = 4_000_000
"""Silver rows recomputed into windows at once; windows are never split."""

TRACE_ROWS_MAX = 20
"""Rows a trace starts from, and silver rows it shows per window, unless more are asked for: a person reads them."""

PUSH_LOG_BYTES_MAX = 4 * GIB
"""Records waiting in a push log; beyond it an append waits, so that a stopped pipeline cannot fill the disk."""

PUSH_BLOCK_ROWS_MAX = 1_000
"""Records in one row of the push log: one commit's cost is shared, and a damaged row loses no more."""

PUSH_BLOCK_BYTES_MAX = 4 * MIB
"""Bytes in one row of the push log, unless one record is larger; keeps what is read at once small."""

PUSH_COMMIT_BYTES_MAX = 32 * MIB
"""Bytes in one transaction of the push log; a larger append takes several, so that the write-ahead log stays short."""

PUSH_TRIM_BLOCKS_MAX = 64
"""Rows deleted in one transaction when the push log is trimmed; appends get their turn in between."""

PUSH_WAL_BYTES = 64 * MIB
"""Write-ahead log of the push log before it is copied into the file: two commits' worth, written once each."""

PUSH_SPACE_BYTES_MIN = 64 * KIB
"""With less space on the disk, an I/O error of the push log means a full disk: SQLite's index grows by 32 KiB."""

PUSH_BUSY_SECONDS = 30.0
"""How long one process waits for another's transaction on the push log; a commit takes milliseconds."""

PUSH_FULL_SECONDS = 60.0
"""How long an append waits for room before it gives up with an error."""

PUSH_POLL_SECONDS = 0.02
"""How often a waiting reader or appender looks at the push log; one look takes microseconds."""

PUSH_PARTITIONS_MAX = 1_024
"""Partitions of a push log: their number has ten bits in a row's key."""

if PUSH_COMMIT_BYTES_MAX < RECORD_BYTES_MAX + PUSH_BLOCK_BYTES_MAX:
    raise AssertionError("one transaction must hold the largest record and a block beside it")

# -- plan -------------------------------------------------------------------------------------------------------------

JSON_NESTING_MAX = 500
"""Brackets inside brackets in a record; deeper ones are malformed. Half of what the strict parser takes (1,024), far
above any real record."""

DETAIL_VALUE_CHARACTERS_MAX = 80
"""Of an offending value in a reject's `detail`; the raw record beside it has all of it."""

EXPRESSION_DEPTH_MAX = 100
"""Levels of one SQL expression: several times what a person writes, and far below what Python and DuckDB can
recurse."""

EXPRESSION_TEXT_MAX = 10_000
"""Characters a padding or repeating function may make of one value: a column is not a way to fill the memory."""

SUM_DIGITS_MAX = 28
"""Digits of a decimal whose sums are safe in 38 digits: up to 10,000,000,000 rows in one window. Longer ones take two
sums."""

FILE_BLOCK_BYTES = MIB
"""Content read and framed at once: long enough to be cheap per record, short enough to stay in the processor's
cache."""

FILE_SETTLE_SECONDS = 2.0
"""A file that changed less than this ago may still be written, and waits."""

FILE_LOOK_SECONDS = 0.25
"""The shortest time between two looks at a folder; a look that takes long makes it longer."""

FILE_PLANS_CACHED_MAX = 2
"""Planned batches whose records are kept until they are read and forgotten: rounds may overlap by one."""

FILE_DIGESTS_MAX = 256
"""Fingerprints of recent positions kept in memory; another one is computed from the file again."""

CSV_HEADER_BYTES_MAX = 256 * KIB
"""Header line of a CSV file: it goes with every record, so a longer one is taken for damage."""

PARQUET_ROWS_PER_READ = 8_192
"""Rows of a Parquet file turned into JSON at once; bounds the memory of wide rows."""

REFERENCE_LOCK_SECONDS_MAX = 30.0
"""How long a pipeline waits for another one that loads the same reference: longer than loading the largest takes."""

REFERENCE_LOCK_WAIT_SECONDS = 0.05
"""Between two looks at whether a reference is free."""

# -- lake: upkeep ------------------------------------------------------------------------------------------------------

FILE_BYTES_TARGET = 128 * MIB
"""Size of a file that upkeep leaves alone: large enough that few of them make a table, small enough to rewrite."""

GOLD_FILE_BYTES_TARGET = 16 * MIB
"""The same for gold, whose files are rewritten when a late row corrects one of their windows."""

GOLD_RUN_ROWS = 4_096
"""Rows between two corrected windows from which on they become a file of their own, when their file is replaced: to
write them once more would cost as much."""

GOLD_RUNS_MAX = 8
"""Such files that come of one: each is a put and an fsync, which the batch waits for, and is merged again later."""

MERGE_BYTES_MAX = 256 * MIB
"""Decoded bytes that one merge holds, as far as file sizes tell; what needs more is merged in several steps."""

MERGE_ROWS_AT_ONCE = 65_536
"""Rows that are put in order at a time when all of a merge is in memory."""

DECODED_BYTES_PER_BYTE = 8
"""Bytes in memory for a byte of Parquet, taken for planning: JSON and repetitive columns compress that well."""

DECODED_BYTES_PER_ROW = 256
"""Bytes in memory for a row at least, taken for planning: a dozen columns, whatever they compress to, and a copy."""

COLD_FILES_MAX = 3
"""Unfinished files that a partition may keep once nothing is written into it any more."""

ZORDER_BUCKETS_MAX = 256
"""Temporary files of a Z-order whose rows do not fit in memory; all of them are open at once."""

UPKEEP_EVERY_VERSIONS = 64
"""Commits of a table between two looks at its log folder."""

UPKEEP_NICENESS = 10
"""By how much the thread that merges large files stands back behind the others, on the scale of `nice`."""

VACUUM_EVERY_SECONDS = 6 * 3600
"""Between two vacuums of a table by the loop: each lists all its files, and they are kept for days anyway."""

CHECKPOINT_SPACING_VERSIONS = 200
"""Versions between the old checkpoints that stay: an old version is read from the one before it and so many entries,
and the log is shortened to one of them."""

LOG_ENTRIES_MAX = 1_000
"""Entries in a table's log folder before the older half goes into its history. delta-rs lists the folder at each
commit, 2 microseconds an entry: this many are some percent of a small batch, a day's (345,600) would be most of it."""

LOG_KEPT_SECONDS_MIN = 120
"""No younger entry leaves the log, however many there are: a reader lists the folder first, and reads then."""

COMMIT_FILE_SECONDS_MAX = 12 * 3600
"""A file that was written longer ago is written again rather than committed: a vacuum deletes what is not live after
`kept_days`, which is 24 hours at least."""

ZORDER_BITS_MAX = 16
"""Bits of rank per column of a Z-order: 65,536 places along each are finer than any file's share."""

ZORDER_COLUMNS_MAX = 8
"""Columns of a Z-order; with more, each has so few bits that none of them prunes files."""

ZORDER_SAMPLE_ROWS = 200_000
"""Rows sampled to find where a Z-order's boundaries lie: some 50 for each file of a table of 4,000 files."""

# -- settings and upkeep ----------------------------------------------------------------------------------------------

MEMORY_BYTES_MAX = 4 * GIB
"""Memory the engine takes by default, or half of the machine's, whichever is less: others live on the machine too."""

KEPT_DAYS = 7
"""Days for which unreferenced files stay, and with them old cuts and running queries; at least 1."""

LOG_KEPT_DAYS = 1
"""Days for which a table's log entries stay in its log, unless there are too many; then they go into its history."""

COMPACT_EVERY_BATCHES = 64
"""Batches whose small files become one; bounds a table's live files, and with them what a commit costs."""

# -- declare ----------------------------------------------------------------------------------------------------------

DECLARATION_BYTES_MAX = 1 * MIB
"""One YAML file. The parser reads some 250 kB a second, so that a file of this size still answers in seconds."""

YAML_DEPTH_MAX = 64
"""Mappings and lists inside each other. Declarations need 6; events in tests may be deep."""

YAML_NODES_MAX = 200_000
"""Values in one file with every alias written out: what a walk over the file costs. Stops alias bombs."""

FINDINGS_MAX = 200
"""Findings reported per file: nobody repairs more before looking again."""

EXPRESSION_CHARACTERS_MAX = 10_000
"""One SQL expression; its parser is recursive, and a person has to read it."""

TEXT_CHARACTERS_MAX = 10_000
"""One text of a declaration: a description, a pattern, a path."""

COLUMNS_MAX = 1_000
"""Columns of one table: every batch holds all of them in memory, and every file keeps statistics on them."""

RULES_MAX = 500
"""Rules of one pipeline: all of them are evaluated for every event, in one query."""

GOLD_TABLES_MAX = 100
"""Gold tables of one pipeline: each keeps its own open windows in memory."""

MEASURES_MAX = 500
"""Measures of one gold table, as many aggregates in one query."""

REFERENCES_MAX = 100
"""References of one pipeline: each is held in memory while its pipeline runs."""

KEY_COLUMNS_MAX = 32
"""Columns of a key, of `by`, of `order` or of `on`; one digest is made of all of them for every event."""

PATH_STEPS_MAX = 32
"""Steps of a field path, below the deepest JSON that is read."""

PATH_INDEX_MAX = 1_000_000
"""The largest list index in a field path; a record of the largest size holds fewer elements of any use."""

DURATION_DAYS_MAX = 36_525
"""A hundred years, in days; a longer duration is a mistake, and microseconds still fit 64 bits by far."""

UNIQUE_WITHIN_SECONDS_MIN = 1
"""Buckets of keys are kept one by one: a batch that spans an hour would touch millions of shorter ones."""

WINDOWS_PER_ROW_MAX = 1_440
"""Hopping windows that one row falls into (a day by the minute): each of them costs a row of partial aggregates."""

SIMULATED_RATE_MAX = 10_000_000
"""Records a second asked of the simulator: above what any machine makes."""

TEST_FILES_MAX = 10_000
"""Files read from one folder of a project; more of them are not declarations."""

if DECLARATION_BYTES_MAX < 4 * EXPRESSION_CHARACTERS_MAX:
    raise AssertionError("a file must hold the longest expression, whatever its characters")

PARQUET_BYTES_PER_READ = 16 * MIB
"""Bytes of a Parquet row group, as its footer says, turned into JSON at once; JSON is a few times as long."""

NOTICES_MAX = 100
"""Sentences a source keeps until they are told; of more only the number is told."""

SIMULATED_ROWS_PER_STEP = 16_384
"""Records of a simulated world made at once; their columns stay in the processor's cache."""

SIMULATED_DOUBLE_DISTANCE_MAX = 1_000
"""How many records after its original a doubled one may come."""

# -- sources: Kafka ----------------------------------------------------------------------------------------------------

KAFKA_PARTITIONS_MAX = 10_000
"""Partitions asked of a new topic; brokers carry some thousands each."""

KAFKA_OPTIONS_MAX = 100
"""Further settings of the Kafka client: it has some two hundred."""

KAFKA_AHEAD_BYTES = 128 * MIB
"""Records read ahead of a plan: those of the next batch, while this one is refined."""

KAFKA_QUEUE_KIB = 32 * 1024
"""Records that the client holds which were not taken from it yet; with more the reader gets no faster."""

KAFKA_FETCH_BYTES = 16 * MIB
"""One answer of a broker; a larger record still comes, alone."""

KAFKA_ANSWER_BYTES_MAX = 1 * GIB
"""The longest answer that the client takes: one compressed set of records, whatever its producer made."""

KAFKA_MESSAGES_PER_STEP = 10_000
"""Messages taken from the client and laid out as Arrow at once: what they cost each does not fall further."""

KAFKA_COLLECT_OBJECTS = 5 * KAFKA_MESSAGES_PER_STEP
"""Objects after which Python looks for cycles in a process that reads messages: more than the messages of two steps."""

KAFKA_STEP_BYTES = 4 * MIB
"""Bytes of messages in one step, by the length of those before: messages of 10 MB come one by one."""

KAFKA_FETCH_WAIT_SECONDS = 0.1
"""How long a broker waits for records before it answers that there are none; so late is the end of what can be read
known where a transaction ends it."""

KAFKA_FILL_SECONDS = 0.2
"""How long a plan waits for more while not all of what there is has come: little beside a batch of catching up."""

KAFKA_REQUEST_SECONDS = 5.0
"""The longest wait for one answer of a broker about topics and offsets."""

KAFKA_READ_SECONDS = 30.0
"""How long reading a range goes on without a record or an end, before it counts as broken off."""

KAFKA_SILENCE_SECONDS = 2.0
"""How long a plan waits for the first record, or the word that there is none: connections are made in between."""

KAFKA_REFRESH_SECONDS = 10.0
"""Between two looks at which topic it is and how many partitions it has, while nothing comes."""

KAFKA_GROUP_SECONDS = 1.0
"""Between two commits of group offsets: lag tools look every few seconds."""

KAFKA_GROUP_CLOSE_SECONDS = 0.5
"""How long the last one is waited for."""

DEAD_LETTER_BATCHES_MAX = 16
"""Batches whose rejects are sent before the next look at whether to end."""

DEAD_LETTER_COMMIT_SECONDS = 5.0
"""Between two commits of how far the topic has the rejects: so much may be sent twice after a crash."""

DEAD_LETTER_END_SECONDS = 10.0
"""How long a run that ends waits until the topic has the rejects; the next run sends the rest."""

KAFKA_LOOK_SECONDS = 0.25
"""Between two looks at where a topic ends, while a loop waits for records."""

KAFKA_LOOK_BYTES = 64 * KIB
"""Fetched of a partition whose next record's time is asked for."""

KAFKA_STEP_WAIT_SECONDS = 0.1
"""The longest wait of the reading thread for one message; so late it sees that it has to end."""

KAFKA_BYTES_PER_RECORD = 1_024
"""Taken for the length of a record while none was seen."""

TRANSIENT_SECONDS_MIN = 0.25
"""The wait after the first failure that may pass; it doubles with each one."""

TRANSIENT_SECONDS_MAX = 15.0
"""The longest wait between two attempts: so late does a pipeline go on after an outage of hours."""

TRANSIENT_ONCE_SECONDS = 30.0
"""How long `run --once` keeps trying without an answer: a restarted broker is back by then."""

# -- lake -------------------------------------------------------------------------------------------------------------

PARQUET_ROW_GROUP_ROWS_MAX = 131_072
"""Rows in a row group: what a reader holds at once, and the grain in which it can skip."""

PARQUET_ROW_GROUP_BYTES_MAX = 64 * MIB
"""Bytes in a row group before compression, so that large records do not make large groups."""

PARQUET_PAGE_BYTES = 1 * MIB
"""Bytes in a page: the grain of checksums; smaller ones compress worse."""

STATISTICS_STRING_CHARACTERS_MAX = 64
"""Characters of a text kept as a bound in the log; enough to tell keys apart, short enough for a thousand files."""

COMMIT_ATTEMPTS_MAX = 8
"""Attempts at one commit. Only the writer's own upkeep gets in its way; more would hide a rival."""

COMMITS_PER_CHECKPOINT = 50
"""Commits of a table between two checkpoints: who opens the table reads the log since the last one."""

REFRESH_TRUST_SECONDS = 60.0
"""Time since a full look at a table's log within which a look at its next entry is enough. Far below the shortest time
log entries are kept: a writer that slept longer must not mistake a cleaned entry for one that was never written."""

if LOG_KEPT_SECONDS_MIN < 2 * REFRESH_TRUST_SECONDS:
    raise AssertionError("the next log entry must stay while one look at it is trusted")

OBJECT_TRIES_MAX = 8
"""Attempts at one request to an object store: the pauses between them are some 11 seconds, in which a store that is
restarted or asks to slow down comes back. Of one that is silent, each also waits OBJECT_REQUEST_SECONDS_MAX: four
minutes in all."""

OPEN_TRIES_MAX = 3
"""Attempts at opening a table in an object store, each of which repeats unanswered requests by itself."""

OBJECT_RETRY_SECONDS = 0.1
"""Pause before the second attempt; doubled each time."""

OBJECT_RETRY_SECONDS_MAX = 4.0
"""The longest pause between two attempts."""

OBJECT_REQUEST_SECONDS_MAX = 30
"""A request to an object store that is not answered by then has failed."""

OBJECT_CONNECT_SECONDS_MAX = 5
"""A connection to an object store that is not made by then has failed."""

OBJECT_TAIL_BYTES = 1 * MIB
"""Of an object that is opened so much of its end is fetched: footers, and small files whole, in one request."""

OBJECT_READ_BYTES = 4 * MIB
"""The least that is fetched of an object at once; a request costs as much time as some megabytes."""

OBJECT_PART_BYTES = 16 * MIB
"""Objects larger than this are uploaded in parts of this size, each of which is in memory meanwhile."""

OBJECT_PARTS_AT_ONCE = 2
"""Parts of an object that are uploaded at once. All have to arrive within OBJECT_REQUEST_SECONDS_MAX, so a line has to
carry 9 Mbit/s, with two large objects at once 18; more parts would ask for more, and gain little on a fast one."""

OBJECT_DELETES_MAX = 100
"""Objects that are deleted together: so many are asked for again where the store refuses one."""

OBJECT_SIZES_KEPT = 1_000
"""Objects of which it is remembered that they were put: those of some batches, which are about to be committed."""

OBJECT_ENTRIES_BYTES_MAX = 32 * MIB
"""Log entries that are kept, which never change: a start reads each several times, and what shortens the log reads
those of its own process. Most have a few kB, so that the logs of a pipeline's tables fit in."""

OBJECT_ENDS_KEPT = 32
"""Objects whose ends a query keeps: DuckDB opens a file several times."""

REFINE_ROWS_MAX = 100_000
"""Records in one slice of the refine step; a longer batch goes through it in several."""

REFINE_BYTES_MAX = 32 * MIB
"""Bytes of records in one slice: JSON of nothing but tiny members takes some forty times its size in memory."""

REFINE_ROWS_MIN = 4_000
"""Records that are worth a slice of their own: running a planned query costs as much as a thousand records."""

PLAIN_ROWS_MIN = 2_000
"""Records that are worth a query of their own for the plain ones among them."""

PLAIN_SHARE_MIN = 0.3
"""Share of plain records from which on looking for them first costs less than it saves."""

PLAIN_CALLS_SKIPPED = 20
"""Batches that are not searched for plain records after one that had too few: a stream mostly stays what it is."""

PREPARED_ROWS_MAX = 100_000
"""Rows up to which a query is kept planned; a planned one runs in a single thread, which more rows are too many for."""

PREPARED_QUERIES_MAX = 64
"""Queries that an engine keeps planned; those used longest ago are planned again."""

PLANS_KEPT = 4
"""Plans of a pipeline that stay compiled, in the loop, in Spark's driver and in a worker: one for each set of pins in
use. Batches in flight have two at most."""

SPARK_ROOMS_KEPT = 32
"""Pipelines that a worker keeps open, each with an engine and a source; one more, and the one used longest ago goes."""

SPARK_TASK_FAILURES_MAX = 4
"""Times a task may fail before its job does, where Spark's master does not say: Spark's own number on a cluster."""

SPARK_BATCH_SECONDS_TARGET = 8.0
"""The same for Spark: two stages cost some tenths of a second whatever they do."""

SHARE_ROWS_MIN = 5_000
"""Offsets that are worth a share of their own: a task costs about as much."""

SPARK_WATCH_SECONDS = 1.0
"""How often it is looked whether jobs wait without any executor, and whether to stop."""

SPARK_EXECUTORS_SECONDS = 20.0
"""How long a cluster may take to give the first executor before that is told: they start in a few seconds."""

SPARK_EXECUTORS_REPEAT_SECONDS = 120.0
"""How often it is told again: a cluster may be full for hours."""

SPARK_WORKER_BYTES_MIN = 64 * MIB
"""Memory of a worker's queries, whatever the share of its executor: they spill below it for nothing."""
