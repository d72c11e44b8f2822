"""The common scenarios, played with aiokafka: client.py SCENARIO HOST:PORT."""
import asyncio
import logging
import os
import sys
import time
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

SCENARIO, BOOTSTRAP = sys.argv[1:3]
TOPIC = f"aiokafka-{SCENARIO}-{uuid.uuid4()}"
PARTITION = TopicPartition(TOPIC, 0)
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
HEADERS = [("h", b"1"), ("h", b"2"), ("empty", b""), ("absent", None)]
logging.disable(logging.CRITICAL)


def same(what, expected, got):
    assert expected == got, f"{what}: expected {expected!r:.200} but got {got!r:.200}"


def value(number):
    return f"a value that repeats, repeats, repeats {number}".encode()


async def until(seconds, what, condition):
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        await asyncio.sleep(0.02)


async def fails(error, action):
    try:
        await action
    except error:
        return
    raise AssertionError(f"expected {error.__name__} but it succeeded")


def code_of(response):
    """The error code of the only topic in an answer to an admin request."""
    fields = response.to_object()
    topics = fields.get("topic_errors") or fields.get("topic_error_codes") or fields.get("topics")
    return topics[0]["error_code"]


async def create(partitions, name=TOPIC, replicas=1, configs=None):
    return code_of(await admin.create_topics([NewTopic(name, partitions, replicas, topic_configs=configs)], timeout_ms=10000))


async def producer(**options):
    sender = AIOKafkaProducer(**{"bootstrap_servers": BOOTSTRAP, "request_timeout_ms": 40000} | options)
    await sender.start()
    return sender


async def send_numbers(sender, numbers, partitions):
    """Each number goes to the partition number modulo partitions; returns when all are acknowledged."""
    sent = [await sender.send(TOPIC, str(n).encode(), b"k", partition=n % partitions) for n in numbers]
    await asyncio.wait_for(asyncio.gather(*sent), 40)


async def consumer(*topics, **options):
    reader = AIOKafkaConsumer(*topics, **{"bootstrap_servers": BOOTSTRAP, "auto_offset_reset": "earliest", "enable_auto_commit": False,
                                          "session_timeout_ms": 6000, "heartbeat_interval_ms": 200, "fetch_max_wait_ms": 100} | options)
    await reader.start()
    return reader


async def poll(reader, count):
    records, end = [], time.monotonic() + 20
    while len(records) < count:
        assert time.monotonic() < end, f"only {len(records)} of {count} records came"
        for batch in (await reader.getmany(timeout_ms=100)).values():
            records += batch
    return records


async def read_all(count, partitions=1):
    reader = await consumer()
    reader.assign([TopicPartition(TOPIC, p) for p in range(partitions)])
    same("end offsets", count, sum((await reader.end_offsets(reader.assignment())).values()))
    await reader.seek_to_beginning()
    records = await poll(reader, count)
    await reader.stop()
    return records


async def in_order_once(count):
    records = await read_all(count, 3)
    for partition in range(3):
        same(f"partition {partition}", list(range(partition, count, 3)), [int(r.value) for r in records if r.partition == partition])


async def produce_consume():
    await create(1)
    base = int(time.time() * 1000) - 100_000
    for number, codec in enumerate(CODECS):
        sender = await producer(compression_type=codec, linger_ms=20)
        sent = [await sender.send(TOPIC, None if i == 9 else value(i), None if i == 7 else f"{codec}-{i}".encode(),
                                  timestamp_ms=base + i, headers=HEADERS) for i in range(50)]
        delivered = await asyncio.wait_for(asyncio.gather(*sent), 10)
        same(f"{codec}: offsets", list(range(50 * number, 50 * number + 50)), [record.offset for record in delivered])
        await sender.stop()
    for offset, record in enumerate(await read_all(250)):
        codec, i = CODECS[offset // 50], offset % 50
        same("offset", offset, record.offset)
        same("key", None if i == 7 else f"{codec}-{i}".encode(), record.key)
        same("value", None if i == 9 else value(i), record.value)
        same("timestamp", base + i, record.timestamp)
        same("headers", HEADERS, list(record.headers))


async def idempotent():
    await create(3)
    sender = await producer(enable_idempotence=True, max_batch_size=500)
    await send_numbers(sender, range(1500), 3)
    await sender.stop()
    await in_order_once(1500)


class Member:
    def __init__(self):
        self.owned, self.leaving = [], False
        self.task = asyncio.create_task(self.run())

    async def run(self):
        reader = await consumer(TOPIC, group_id=TOPIC)
        while not self.leaving:
            await reader.getmany(timeout_ms=50)
            self.owned = [p.partition for p in reader.assignment()]
        await reader.stop()

    async def close(self):
        self.leaving = True
        await asyncio.wait_for(self.task, 10)


async def group_rebalance():
    await create(6)
    members = [Member() for _ in range(3)]

    async def shared(each):
        return all(len(m.owned) == each for m in members) and sorted(p for m in members for p in m.owned) == list(range(6))

    await until(60, "2 partitions for each of 3 members", lambda: shared(2))
    await members.pop(1).close()
    await until(60, "3 partitions for each of 2 members", lambda: shared(3))
    group = (await admin.describe_consumer_groups([TOPIC]))[0].to_object()["groups"][0]
    same("state", "Stable", group["state"])
    same("members", 2, len(group["members"]))
    for member in members:
        await member.close()


async def commit_resume():
    await create(1)
    sender = await producer()
    await send_numbers(sender, range(100), 1)
    await sender.stop()
    first = await consumer(TOPIC, group_id=TOPIC)
    await poll(first, 40)
    await first.commit({PARTITION: (40, "forty")})
    await first.stop()
    second = await consumer(TOPIC, group_id=TOPIC)
    same("first record after the commit", 40, (await poll(second, 60))[0].offset)
    same("committed", 40, await second.committed(PARTITION))
    await second.stop()
    offsets = await admin.list_consumer_group_offsets(TOPIC)
    same("committed, as the admin sees it", (40, "forty"), (offsets[PARTITION].offset, offsets[PARTITION].metadata))


async def offsets_by_time():
    await create(1)
    base = int(time.time() * 1000) - 1_000_000
    sender = await producer()
    for i in range(20):
        await sender.send_and_wait(TOPIC, b"v", timestamp_ms=base + i * 1000)
    await sender.stop()
    reader = await consumer()
    for what, timestamp, expected in [("exact", base + 5000, 5), ("between", base + 5001, 6), ("before all", 0, 0), ("after all", base + 10_000_000, None)]:
        found = (await reader.offsets_for_times({PARTITION: timestamp}))[PARTITION]
        same(what, expected, found and found.offset)
    same("beginning", {PARTITION: 0}, await reader.beginning_offsets([PARTITION]))
    same("end", {PARTITION: 20}, await reader.end_offsets([PARTITION]))
    await reader.stop()


async def administration():
    same("create", 0, await create(2, configs={"retention.ms": "123456"}))
    same("create again", errors.TopicAlreadyExistsError.errno, await create(1))
    same("3 replicas", errors.InvalidReplicationFactorError.errno, await create(1, TOPIC + "-2", 3))
    assert TOPIC in await admin.list_topics(), "the new topic is not in the list"

    async def config(name):
        answer = (await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC)]))[0].to_object()
        return {entry["config_names"]: entry["config_value"] for entry in answer["resources"][0]["config_entries"]}[name]

    async def partitions():
        return len((await admin.describe_topics([TOPIC]))[0]["partitions"])

    same("retention.ms", "123456", await config("retention.ms"))
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, {"retention.ms": "654321"})])

    async def altered():
        return await config("retention.ms") == "654321"

    await until(60, "the new retention", altered)
    same("more partitions", 0, code_of(await admin.create_partitions({TOPIC: NewPartitions(4)})))

    async def four():
        return await partitions() == 4

    await until(60, "4 partitions", four)
    await fails(errors.InvalidPartitionsError, admin.create_partitions({TOPIC: NewPartitions(3)}))

    sender = await producer()
    for _ in range(10):
        await sender.send_and_wait(TOPIC, b"v", partition=0)
    await sender.stop()
    same("low watermark", {PARTITION: 4}, await admin.delete_records({PARTITION: RecordsToDelete(4)}))
    reader = await consumer(TOPIC, group_id=TOPIC)
    same("first record after the deletion", 4, (await poll(reader, 6))[0].offset)
    await reader.commit({PARTITION: 7})
    await reader.stop()
    assert TOPIC in [group[0] for group in await admin.list_consumer_groups()], "the group is not in the list"
    same("group offset", 7, (await admin.list_consumer_group_offsets(TOPIC))[PARTITION].offset)

    cluster = await admin.describe_cluster()
    same("nodes", 1, len(cluster["brokers"]))
    same("length of the cluster id", 22, len(cluster["cluster_id"]))
    same("delete", 0, code_of(await admin.delete_topics([TOPIC], timeout_ms=10000)))

    async def gone():
        return TOPIC not in await admin.list_topics()

    await until(60, "the topic is gone", gone)
    same("delete again", errors.UnknownTopicOrPartitionError.errno, code_of(await admin.delete_topics([TOPIC], timeout_ms=10000)))


async def large_message():
    await create(1)
    sender = await producer(max_request_size=4_000_000)
    await sender.send_and_wait(TOPIC, b"x" * 921_600)
    await fails(errors.MessageSizeTooLargeError, sender.send_and_wait(TOPIC, b"x" * 1_200_000))
    await sender.send_and_wait(TOPIC, b"small")
    await sender.stop()
    same("lengths", [921_600, 5], [len(record.value) for record in await read_all(2)])


async def unknown_topic():
    # Not by describe_topics, which creates the topic.
    same("delete", errors.UnknownTopicOrPartitionError.errno, code_of(await admin.delete_topics([TOPIC], timeout_ms=10000)))
    same("invalid name", errors.InvalidTopicError.errno, await create(1, "not/a/topic"))
    assert TOPIC not in await admin.list_topics(), "the topic was created"


async def broker_restart():
    await create(3)
    sender = await producer(enable_idempotence=True)
    await send_numbers(sender, range(500), 3)
    restart = await asyncio.create_subprocess_exec("bash", "-c", os.environ["KLAMM_RESTART_CMD"], stdout=asyncio.subprocess.DEVNULL)
    same("exit code of the restart command", 0, await asyncio.wait_for(restart.wait(), 60))
    await send_numbers(sender, range(500, 1000), 3)
    await sender.stop()
    await in_order_once(1000)


async def main():
    global admin
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP, request_timeout_ms=10000)
    await admin.start()
    await {"admin": administration}.get(SCENARIO, globals().get(SCENARIO.replace("-", "_")))()


if __name__ == "__main__":
    try:
        asyncio.run(asyncio.wait_for(main(), 90))
    except Exception as problem:
        at = problem.__traceback__
        line = 0
        while at:
            line = at.tb_lineno if at.tb_frame.f_code.co_filename == __file__ else line
            at = at.tb_next
        sys.stderr.write(f"aiokafka: {SCENARIO}: {problem!r:.600} (line {line})\n")
        os._exit(1)
    os._exit(0)
