"""avro.py produce BOOTSTRAP URL TOPIC VERSION FROM COUNT | avro.py consume BOOTSTRAP URL TOPIC COUNT | avro.py refuse - URL TOPIC

Produces and consumes Avro by the schema registry at URL. Version 2 of the schema has a field more, with a default."""
import json
import sys

from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext


def schema(version):
    fields = [{"name": "name", "type": "string"}, {"name": "age", "type": "int"}]
    if version == 2:
        fields.append({"name": "city", "type": "string", "default": "nowhere"})
    return json.dumps({"type": "record", "name": "User", "fields": fields})


def produce(bootstrap, registry, topic, version, start, count):
    serializer = AvroSerializer(registry, schema(int(version)))
    context = SerializationContext(topic, MessageField.VALUE)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(int(start), int(start) + int(count)):
        user = {"name": f"user-{number}", "age": number}
        if version == "2":
            user["city"] = f"city-{number}"
        producer.produce(topic, key=str(number), value=serializer(user, context))
    if producer.flush(60):
        sys.exit("not everything was acknowledged")


def consume(bootstrap, registry, topic, count):
    # The reader's schema is the second one: what was written by the first one has its default.
    deserializer = AvroDeserializer(registry, schema(2))
    context = SerializationContext(topic, MessageField.VALUE)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"readers-{count}", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    for _ in range(int(count)):
        message = consumer.poll(60)
        if message is None or message.error():
            sys.exit(f"no more messages: {message and message.error()}")
        user = deserializer(message.value(), context)
        print("user", message.key().decode(), user["name"], user["age"], user["city"])
    consumer.close()


def refuse(_bootstrap, registry, topic):
    registry.set_compatibility(f"{topic}-value", "BACKWARD")
    incompatible = {"type": "record", "name": "User", "fields": [{"name": "size", "type": "int"}]}
    try:
        registry.register_schema(f"{topic}-value", Schema(json.dumps(incompatible), "AVRO"))
    except SchemaRegistryError as error:
        print("refused:", error.http_status_code)


what, bootstrap, url, *arguments = sys.argv[1:]
{"produce": produce, "consume": consume, "refuse": refuse}[what](bootstrap, SchemaRegistryClient({"url": url}), *arguments)
