"""The common scenarios, played with kafka-python: client.py SCENARIO HOST:PORT."""
import logging
import os
import subprocess
import sys
import threading
import time
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType

SCENARIO, BOOTSTRAP = sys.argv[1:3]
TOPIC = f"kafka-python-{SCENARIO}-{uuid.uuid4()}"
PARTITION = TopicPartition(TOPIC, 0)
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
HEADERS = [("h", b"1"), ("h", b"2"), ("empty", b"")]  # the producer refuses headers without a value
logging.disable(logging.CRITICAL)
admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP, request_timeout_ms=10000)


def same(what, expected, got):
    assert expected == got, f"{what}: expected {expected!r:.200} but got {got!r:.200}"


def value(number):
    return f"a value that repeats, repeats, repeats {number}".encode()


def until(seconds, what, condition):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.02)


def fails(error, action):
    try:
        action()
    except error:
        return
    raise AssertionError(f"expected {error.__name__} but it succeeded")


def create(partitions, **options):
    admin.create_topics({TOPIC: {"num_partitions": partitions, "replication_factor": 1} | options})


def producer(**options):
    return KafkaProducer(**{"bootstrap_servers": BOOTSTRAP, "request_timeout_ms": 10000, "max_block_ms": 10000, "delivery_timeout_ms": 60000,
                            "reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 200} | options)


def send_numbers(sender, numbers, partitions):
    """Each number goes to the partition number modulo partitions; returns when all are acknowledged."""
    for future in [sender.send(TOPIC, str(n).encode(), b"k", partition=n % partitions) for n in numbers]:
        future.get(40)


def consumer(**options):
    return KafkaConsumer(**{"bootstrap_servers": BOOTSTRAP, "group_id": None, "auto_offset_reset": "earliest", "enable_auto_commit": False,
                            "session_timeout_ms": 6000, "heartbeat_interval_ms": 200, "fetch_max_wait_ms": 100,
                            "request_timeout_ms": 10000} | options)


def poll(reader, count):
    records, end = [], time.monotonic() + 20
    while len(records) < count:
        assert time.monotonic() < end, f"only {len(records)} of {count} records came"
        # A shorter poll that ends in the middle of joining a group can lose the join (kafka-python 3.0.12).
        for batch in reader.poll(2000).values():
            records += batch
    return records


def read_all(count):
    reader = consumer()
    partitions = [TopicPartition(TOPIC, p) for p in reader.partitions_for_topic(TOPIC)]
    same("end offsets", count, sum(reader.end_offsets(partitions).values()))
    reader.assign(partitions)
    reader.seek_to_beginning()
    records = poll(reader, count)
    reader.close()
    return records


def in_order_once(count):
    records = read_all(count)
    for partition in range(3):
        same(f"partition {partition}", list(range(partition, count, 3)), [int(r.value) for r in records if r.partition == partition])


def produce_consume():
    create(1)
    base = int(time.time() * 1000) - 100_000
    for number, codec in enumerate(CODECS):
        sender = producer(compression_type=codec, linger_ms=20)
        sent = [sender.send(TOPIC, None if i == 9 else value(i), None if i == 7 else f"{codec}-{i}".encode(), HEADERS, timestamp_ms=base + i)
                for i in range(50)]
        same(f"{codec}: offsets", list(range(50 * number, 50 * number + 50)), [future.get(10).offset for future in sent])
        sender.close(5)
    for offset, record in enumerate(read_all(250)):
        codec, i = CODECS[offset // 50], offset % 50
        same("offset", offset, record.offset)
        same("key", None if i == 7 else f"{codec}-{i}".encode(), record.key)
        same("value", None if i == 9 else value(i), record.value)
        same("timestamp", base + i, record.timestamp)
        same("headers", HEADERS, [tuple(header) for header in record.headers])


def idempotent():
    create(3)
    send_numbers(producer(enable_idempotence=True, batch_size=500), range(1500), 3)
    in_order_once(1500)


class Member(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.owned, self.leaving, self.error = [], False, None
        self.start()

    def run(self):
        try:
            reader = consumer(group_id=TOPIC)
            reader.subscribe([TOPIC])
            while not self.leaving:
                reader.poll(1000)
                self.owned = [p.partition for p in reader.assignment()]
            reader.close()
        except errors.KafkaError as error:
            self.error = error

    def close(self):
        self.leaving = True
        self.join(10)
        assert not self.is_alive(), "a member did not leave in time"
        assert not self.error, repr(self.error)


def group_rebalance():
    create(6)
    members = [Member() for _ in range(3)]

    def shared(each):
        return all(len(m.owned) == each for m in members) and sorted(p for m in members for p in m.owned) == list(range(6))

    until(60, "2 partitions for each of 3 members", lambda: shared(2))
    members.pop(1).close()
    until(60, "3 partitions for each of 2 members", lambda: shared(3))
    group = admin.describe_groups([TOPIC])[TOPIC]
    same("state", "Stable", group["group_state"])
    same("members", 2, len(group["members"]))
    for member in members:
        member.close()


def commit_resume():
    create(1)
    send_numbers(producer(), range(100), 1)
    first = consumer(group_id=TOPIC)
    first.subscribe([TOPIC])
    poll(first, 40)
    first.commit({PARTITION: OffsetAndMetadata(40, "forty", -1)})
    first.close()
    second = consumer(group_id=TOPIC)
    second.subscribe([TOPIC])
    same("first record after the commit", 40, poll(second, 60)[0].offset)
    committed = second.committed(PARTITION, metadata=True)
    same("committed", (40, "forty"), (committed.offset, committed.metadata))
    second.close()


def list_offset(timestamp):
    return admin.list_partition_offsets({PARTITION: timestamp})[PARTITION].offset


def offsets_by_time():
    create(1)
    base = int(time.time() * 1000) - 1_000_000
    sender = producer()
    for future in [sender.send(TOPIC, b"v", timestamp_ms=base + i * 1000) for i in range(20)]:
        future.get(10)
    reader = consumer()
    for what, timestamp, expected in [("exact", base + 5000, 5), ("between", base + 5001, 6), ("before all", 0, 0), ("after all", base + 10_000_000, None)]:
        found = reader.offsets_for_times({PARTITION: timestamp})[PARTITION]
        same(what, expected, found and found.offset)
    same("beginning", {PARTITION: 0}, reader.beginning_offsets([PARTITION]))
    same("end", {PARTITION: 20}, reader.end_offsets([PARTITION]))
    for what, timestamp, expected in [("earliest", -2, 0), ("latest", -1, 20), ("largest timestamp", -3, 19), ("earliest local", -4, 0)]:
        same(what, expected, list_offset(timestamp))


def administration():
    create(2, configs={"retention.ms": "123456"})
    fails(errors.TopicAlreadyExistsError, lambda: create(1))
    fails(errors.InvalidReplicationFactorError, lambda: admin.create_topics({TOPIC + "-2": {"num_partitions": 1, "replication_factor": 3}}))
    assert TOPIC in admin.list_topics(), "the new topic is not in the list"

    def config(name):
        return admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC)], config_filter="all")["topic"][TOPIC][name]["value"]

    def set_config(op, name, new):
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, {name: (op, new)})])

    same("retention.ms", "123456", str(config("retention.ms")))
    set_config(AlterConfigOp.SET, "retention.ms", "654321")
    until(60, "the new retention", lambda: str(config("retention.ms")) == "654321")
    set_config(AlterConfigOp.DELETE, "retention.ms", None)
    until(60, "the default retention", lambda: str(config("retention.ms")) == "604800000")
    admin.create_partitions({TOPIC: 4})
    until(60, "4 partitions", lambda: len(admin.describe_topics([TOPIC])[0]["partitions"]) == 4)
    fails(errors.InvalidPartitionsError, lambda: admin.create_partitions({TOPIC: 3}))

    sender = producer()
    for future in [sender.send(TOPIC, b"v", partition=0) for _ in range(10)]:
        future.get(10)
    same("low watermark", 4, admin.delete_records({PARTITION: 4})[PARTITION]["low_watermark"])
    same("earliest after the deletion", 4, list_offset(-2))

    admin.alter_group_offsets(TOPIC, {PARTITION: OffsetAndMetadata(7, "", -1)})
    assert TOPIC in [g["group_id"] for g in admin.list_groups()], "the group is not in the list"
    same("group offset", 7, admin.list_group_offsets({TOPIC: None})[TOPIC][PARTITION].offset)
    admin.delete_group_offsets(TOPIC, [PARTITION])
    same("group offsets after their deletion", {}, admin.list_group_offsets({TOPIC: None}).get(TOPIC, {}))
    admin.alter_group_offsets(TOPIC, {PARTITION: OffsetAndMetadata(7, "", -1)})
    admin.delete_groups([TOPIC])
    assert TOPIC not in [g["group_id"] for g in admin.list_groups()], "the deleted group is in the list"

    cluster = admin.describe_cluster()
    same("nodes", 1, len(cluster["brokers"]))
    same("length of the cluster id", 22, len(cluster["cluster_id"]))
    assert admin.describe_log_dirs(), "no log directories"
    assert admin.describe_metadata_quorum(), "no metadata quorum"
    admin.delete_topics([TOPIC])
    until(60, "the topic is gone", lambda: TOPIC not in admin.list_topics())
    fails(errors.UnknownTopicOrPartitionError, lambda: admin.delete_topics([TOPIC]))


def large_message():
    create(1)
    # An idempotent producer of this library cannot send any more after a batch was refused.
    sender = producer(max_request_size=4_000_000, enable_idempotence=False)
    sender.send(TOPIC, b"x" * 921_600).get(10)
    fails(errors.MessageSizeTooLargeError, lambda: sender.send(TOPIC, b"x" * 1_200_000).get(10))
    sender.send(TOPIC, b"small").get(10)
    same("lengths", [921_600, 5], [len(record.value) for record in read_all(2)])


def unknown_topic():
    reader = consumer(allow_auto_create_topics=False)
    assert not reader.partitions_for_topic(TOPIC), "partitions of a topic that does not exist"
    same("error", errors.UnknownTopicOrPartitionError.errno, admin.describe_topics([TOPIC])[0]["error_code"])
    fails(errors.InvalidTopicError, lambda: admin.create_topics({"not/a/topic": {"num_partitions": 1, "replication_factor": 1}}))
    assert TOPIC not in admin.list_topics(), "the topic was created"


def broker_restart():
    create(3)
    sender = producer(enable_idempotence=True)
    send_numbers(sender, range(500), 3)
    subprocess.run(["bash", "-c", os.environ["KLAMM_RESTART_CMD"]], check=True, timeout=60, stdout=subprocess.DEVNULL)
    send_numbers(sender, range(500, 1000), 3)
    in_order_once(1000)


if __name__ == "__main__":
    try:
        {"admin": administration}.get(SCENARIO, globals().get(SCENARIO.replace("-", "_")))()
    except Exception as problem:
        at = problem.__traceback__
        while at.tb_next and at.tb_next.tb_frame.f_code.co_filename == __file__:
            at = at.tb_next
        sys.stderr.write(f"kafka-python: {SCENARIO}: {problem!r:.600} (line {at.tb_lineno})\n")
        sys.stderr.flush()
        os._exit(1)
    # Not every client object was closed on the way: do not wait for their threads.
    os._exit(0)
