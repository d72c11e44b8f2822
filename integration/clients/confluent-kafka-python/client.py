"""The common scenarios, played with confluent-kafka-python (librdkafka): client.py SCENARIO HOST:PORT."""
import os
import subprocess
import sys
import threading
import time
import uuid

from confluent_kafka import (OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException,
                             Producer, TopicPartition)
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   OffsetSpec, ResourceType)

SCENARIO, BOOTSTRAP = sys.argv[1:3]
TOPIC = f"confluent-python-{SCENARIO}-{uuid.uuid4()}"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
HEADERS = [("h", b"1"), ("h", b"2"), ("empty", b""), ("absent", None)]
# Its metadata requests would create a topic again that has just been deleted.
admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "socket.timeout.ms": 10000, "log_level": 2, "allow.auto.create.topics": False})


def same(what, expected, got):
    assert expected == got, f"{what}: expected {expected!r:.200} but got {got!r:.200}"


def value(number):
    return f"a value that repeats, repeats, repeats {number}".encode()


def until(seconds, what, condition):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.02)


def fails(code, action):
    try:
        action()
    except KafkaException as error:
        same("error", KafkaError(code).name(), error.args[0].name())
        return
    raise AssertionError(f"expected {KafkaError(code).name()} but it succeeded")


def done(futures):
    """The results of an admin request: one future, or a dictionary of futures."""
    if isinstance(futures, dict):
        return {key: future.result(15) for key, future in futures.items()}
    return futures.result(15)


def only(futures):
    return next(iter(done(futures).values()))


def create(partitions):
    done(admin.create_topics([NewTopic(TOPIC, partitions, 1)]))


class Sender:
    """A producer that keeps what was acknowledged."""

    def __init__(self, **options):
        self.delivered = []
        self.errors = []
        self.producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 1, "message.timeout.ms": 60000, "log_level": 2,
                                  "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}
                                 | {name.replace("_", "."): option for name, option in options.items()})

    def send(self, **record):
        self.producer.produce(TOPIC, on_delivery=self.on_delivery, **record)
        self.producer.poll(0)

    def on_delivery(self, error, message):
        if error:
            self.errors.append(error)
        else:
            self.delivered.append(message.offset())

    def flush(self):
        same("records not delivered in time", 0, self.producer.flush(40))
        assert not self.errors, f"delivery failed: {self.errors[0]}"

    def send_numbers(self, numbers, partitions):
        for number in numbers:
            self.send(value=str(number), key="k", partition=number % partitions)
        self.flush()


def consumer(**options):
    # Where the broker assigns, it says how often it wants to hear of its members.
    times = {} if options.get("group_protocol") == "consumer" else {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200}
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": TOPIC, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "fetch.wait.max.ms": 100} | times
                    | {name.replace("_", "."): option for name, option in options.items()})


def poll(reader, count):
    records, end = [], time.monotonic() + 20
    while len(records) < count:
        assert time.monotonic() < end, f"only {len(records)} of {count} records came"
        message = reader.poll(0.1)
        if message is not None:
            assert not message.error(), message.error()
            records.append(message)
    return records


def read_all(count):
    reader = consumer()
    partitions = list(reader.list_topics(TOPIC, 10).topics[TOPIC].partitions)
    same("end offsets", count, sum(reader.get_watermark_offsets(TopicPartition(TOPIC, p), 10)[1] for p in partitions))
    reader.assign([TopicPartition(TOPIC, p, OFFSET_BEGINNING) for p in partitions])
    records = poll(reader, count)
    reader.close()
    return records


def in_order_once(count):
    records = read_all(count)
    for partition in range(3):
        same(f"partition {partition}", list(range(partition, count, 3)),
             [int(record.value()) for record in records if record.partition() == partition])


def produce_consume():
    create(1)
    base = int(time.time() * 1000) - 100_000
    for codec in CODECS:
        sender = Sender(compression_type=codec, linger_ms=20)
        for i in range(50):
            sender.send(key=None if i == 7 else f"{codec}-{i}", value=None if i == 9 else value(i), timestamp=base + i, headers=HEADERS)
        sender.flush()
        same(f"{codec}: delivered", 50, len(sender.delivered))
    for offset, record in enumerate(read_all(250)):
        codec, i = CODECS[offset // 50], offset % 50
        same("offset", offset, record.offset())
        same("key", None if i == 7 else f"{codec}-{i}".encode(), record.key())
        same("value", None if i == 9 else value(i), record.value())
        same("timestamp", base + i, record.timestamp()[1])
        same("headers", HEADERS, record.headers())


def idempotent():
    create(3)
    Sender(enable_idempotence=True, batch_num_messages=20).send_numbers(range(1500), 3)
    in_order_once(1500)


class Member(threading.Thread):
    def __init__(self, **options):
        super().__init__(daemon=True)
        self.owned, self.leaving, self.error, self.options = [], False, None, options
        self.start()

    def run(self):
        try:
            reader = consumer(**self.options)
            reader.subscribe([TOPIC])
            while not self.leaving:
                reader.poll(0.05)
                self.owned = [p.partition for p in reader.assignment()]
            reader.close()
        except KafkaException as error:
            self.error = error

    def close(self):
        self.leaving = True
        self.join(10)
        assert not self.is_alive(), "a member did not leave in time"
        assert not self.error, self.error


def group_rebalance():
    create(6)
    members = [Member() for _ in range(3)]

    def shared(each):
        return all(len(m.owned) == each for m in members) and sorted(p for m in members for p in m.owned) == list(range(6))

    until(60, "2 partitions for each of 3 members", lambda: shared(2))
    members.pop(1).close()
    until(60, "3 partitions for each of 2 members", lambda: shared(3))
    group = only(admin.describe_consumer_groups([TOPIC]))
    same("state", "STABLE", group.state.name)
    same("members", 2, len(group.members))
    for member in members:
        member.close()


def consumer_protocol():
    create(6)
    members = [Member(group_protocol="consumer") for _ in range(3)]

    def shared(each):
        return all(len(m.owned) == each for m in members) and sorted(p for m in members for p in m.owned) == list(range(6))

    until(60, "2 partitions for each of 3 members", lambda: shared(2))
    members.pop(1).close()
    until(60, "3 partitions for each of 2 members", lambda: shared(3))
    for member in members:
        member.close()
    Sender().send_numbers(range(60), 6)
    reader = consumer(group_id=f"{TOPIC}-pattern", group_protocol="consumer", group_remote_assignor="range")
    reader.subscribe([f"^{TOPIC[:-3]}.+"])
    same("records of the topics that match", 60, len(poll(reader, 60)))
    committed = reader.commit(asynchronous=False)
    same("committed", 60, sum(partition.offset for partition in committed))
    reader.close()


def commit_resume():
    create(1)
    Sender().send_numbers(range(100), 1)
    first = consumer()
    first.subscribe([TOPIC])
    poll(first, 40)
    first.commit(offsets=[TopicPartition(TOPIC, 0, 40)], asynchronous=False)
    first.close()
    second = consumer()
    second.subscribe([TOPIC])
    same("first record after the commit", 40, poll(second, 60)[0].offset())
    same("committed", 40, second.committed([TopicPartition(TOPIC, 0)], 10)[0].offset)
    second.close()


def list_offset(spec):
    return only(admin.list_offsets({TopicPartition(TOPIC, 0): spec})).offset


def offsets_by_time():
    create(1)
    base = int(time.time() * 1000) - 1_000_000
    sender = Sender()
    for i in range(20):
        sender.send(value=str(i), timestamp=base + i * 1000)
    sender.flush()
    reader = consumer()
    for what, timestamp, expected in [("exact", base + 5000, 5), ("between", base + 5001, 6), ("before all", 0, 0), ("after all", base + 10_000_000, -1)]:
        same(what, expected, reader.offsets_for_times([TopicPartition(TOPIC, 0, timestamp)], 10)[0].offset)
    same("watermarks", (0, 20), reader.get_watermark_offsets(TopicPartition(TOPIC, 0), 10))
    reader.close()
    same("earliest", 0, list_offset(OffsetSpec.earliest()))
    same("latest", 20, list_offset(OffsetSpec.latest()))
    same("largest timestamp", 19, list_offset(OffsetSpec.max_timestamp()))
    same("for timestamp", 6, list_offset(OffsetSpec.for_timestamp(base + 5001)))


def administration():
    done(admin.create_topics([NewTopic(TOPIC, 2, 1, config={"retention.ms": "123456"})]))
    fails(KafkaError.TOPIC_ALREADY_EXISTS, lambda: create(1))
    fails(KafkaError.INVALID_REPLICATION_FACTOR, lambda: done(admin.create_topics([NewTopic(TOPIC + "-2", 1, 3)])))
    assert TOPIC in admin.list_topics(timeout=10).topics, "the new topic is not in the list"
    resource = ConfigResource(ResourceType.TOPIC, TOPIC)

    def config(name):
        return only(admin.describe_configs([resource]))[name].value

    same("retention.ms", "123456", config("retention.ms"))
    change = ConfigEntry("retention.ms", "654321", incremental_operation=AlterConfigOpType.SET)
    done(admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[change])]))
    until(60, "the new retention", lambda: config("retention.ms") == "654321")
    done(admin.create_partitions([NewPartitions(TOPIC, 4)]))
    until(60, "4 partitions", lambda: len(admin.list_topics(TOPIC, 10).topics[TOPIC].partitions) == 4)
    fails(KafkaError.INVALID_PARTITIONS, lambda: done(admin.create_partitions([NewPartitions(TOPIC, 3)])))

    sender = Sender()
    for i in range(10):
        sender.send(value=str(i), partition=0)
    sender.flush()
    same("low watermark", 4, only(admin.delete_records([TopicPartition(TOPIC, 0, 4)])).low_watermark)
    same("earliest after the deletion", 4, list_offset(OffsetSpec.earliest()))

    done(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(TOPIC, [TopicPartition(TOPIC, 0, 7)])]))
    assert TOPIC in [g.group_id for g in done(admin.list_consumer_groups()).valid], "the group is not in the list"
    offsets = only(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(TOPIC)])).topic_partitions
    same("group offset", [(0, 7)], [(p.partition, p.offset) for p in offsets])
    done(admin.delete_consumer_groups([TOPIC]))
    assert TOPIC not in [g.group_id for g in done(admin.list_consumer_groups()).valid], "the deleted group is in the list"

    cluster = done(admin.describe_cluster())
    same("nodes", 1, len(cluster.nodes))
    same("length of the cluster id", 22, len(cluster.cluster_id))
    done(admin.delete_topics([TOPIC]))
    until(60, "the topic is gone", lambda: TOPIC not in admin.list_topics(timeout=10).topics)
    fails(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: done(admin.delete_topics([TOPIC])))


def transactions():
    """Records and offsets that count together or not at all, and a producer that another one replaces."""
    create(2)
    options = {"bootstrap.servers": BOOTSTRAP, "transactional.id": TOPIC}
    first, second, group = Producer(options), Producer(options), consumer(group_id=TOPIC)
    first.init_transactions(15)
    for i in range(20):
        aborts = i % 4 == 3
        first.begin_transaction()
        for partition in range(2):
            first.produce(TOPIC, f"{'aborted' if aborts else 'committed'}-{i}", partition=partition)
        first.send_offsets_to_transaction([TopicPartition(TOPIC, 0, i)], group.consumer_group_metadata(), 15)
        if aborts:
            first.flush(15)
            first.abort_transaction(15)
        else:
            first.commit_transaction(15)
    offsets = only(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(TOPIC)])).topic_partitions
    same("group offset", [(0, 18)], [(p.partition, p.offset) for p in offsets])
    first.begin_transaction()
    first.produce(TOPIC, "zombie", partition=0)
    first.flush(15)
    second.init_transactions(15)
    try:
        first.commit_transaction(15)
    except KafkaException as error:
        same("error", "_FENCED", error.args[0].name())
    else:
        raise AssertionError("the first producer was not fenced")
    second.begin_transaction()
    second.produce(TOPIC, "committed-20", partition=0)
    second.commit_transaction(15)
    reader = consumer(isolation_level="read_committed")
    reader.assign([TopicPartition(TOPIC, partition, 0) for partition in range(2)])
    values, end = [], time.monotonic() + 20
    while len(values) < 31:
        assert time.monotonic() < end, f"only {len(values)} of 31 records came"
        message = reader.poll(0.1)
        if message is not None:
            assert message.error() is None, message.error()
            values.append(message.value().decode())
    assert all(value.startswith("committed-") for value in values), f"aborted records were read: {values}"
    assert "committed-20" in values, "the second producer's record is missing"
    reader.close()
    group.close()


def large_message():
    create(1)
    sender = Sender(message_max_bytes=4_000_000)
    sender.send(value=b"x" * 921_600)
    sender.flush()
    sender.send(value=b"x" * 1_200_000)
    sender.producer.flush(20)
    same("error", ["MSG_SIZE_TOO_LARGE"], [error.name() for error in sender.errors])
    sender.errors.clear()
    sender.send(value=b"small")
    sender.flush()
    same("lengths", [921_600, 5], [len(record.value()) for record in read_all(2)])


def unknown_topic():
    reader = consumer(allow_auto_create_topics=False)
    reader.subscribe([TOPIC])
    end = time.monotonic() + 15
    message = None
    while message is None and time.monotonic() < end:
        message = reader.poll(0.1)
    same("error", "UNKNOWN_TOPIC_OR_PART", message.error().name() if message else None)
    reader.close()
    producer, errors = Producer({"bootstrap.servers": BOOTSTRAP, "message.timeout.ms": 10000}), []
    producer.produce("not/a/topic", b"v", on_delivery=lambda error, _: errors.append(error.name()))
    producer.flush(15)
    same("error", ["TOPIC_EXCEPTION"], errors)
    assert TOPIC not in admin.list_topics(timeout=10).topics, "the topic was created"


def broker_restart():
    create(3)
    sender = Sender(enable_idempotence=True)
    sender.send_numbers(range(500), 3)
    subprocess.run(["bash", "-c", os.environ["KLAMM_RESTART_CMD"]], check=True, timeout=60, stdout=subprocess.DEVNULL)
    sender.send_numbers(range(500, 1000), 3)
    in_order_once(1000)


if __name__ == "__main__":
    try:
        {"admin": administration}.get(SCENARIO, globals().get(SCENARIO.replace("-", "_")))()
    except Exception as problem:
        sys.exit(f"confluent-kafka-python: {SCENARIO}: {type(problem).__name__}: {problem}")
    # Not every client object was closed on the way: do not wait for their threads.
    sys.stdout.flush()
    os._exit(0)
