// Writes the golden corpus: random messages that are valid by Kafka's schemas, in the bytes of Kafka's own classes.
//
// `make test` does not run it; the corpus is committed. To write it anew (the same bytes come out, unless Kafka's jars
// are others), with the jars of Apache Kafka 4.3.1 in KAFKA_LIBS:
//
//     cd protocol-tests/golden
//     javac -cp "$KAFKA_LIBS/*" -d /tmp/golden Golden.java
//     java -cp "/tmp/golden:$KAFKA_LIBS/*" Golden .
//
// messages/<Api>.txt holds lines "request <version> <header version> <hex>" and "response …" of the same form;
// metadata/<Record>.txt and group/<Record>.txt hold lines "record <version> <type id> <hex>", without the frame that
// a log puts around a record. Known tagged fields and unknown ones are set at random.

import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.function.Supplier;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.metadata.MetadataRecordType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.coordinator.group.generated.CoordinatorRecordType;

public class Golden {
    private static final int SAMPLES = 4;
    private static final String[] WORDS = {"", "a", "topic-1", "größe", "x.y_z", "日本", "client"};

    private final Random random;

    private Golden(long seed) {
        random = new Random(seed * 0x9E3779B97F4A7C15L);
    }

    public static void main(String[] arguments) throws Exception {
        Path root = Path.of(arguments[0]);
        for (ApiMessageType api : ApiMessageType.values()) {
            if (api.lowestSupportedVersion() > api.highestSupportedVersion(true)) {
                continue; // An API that Kafka has removed.
            }
            List<String> lines = new ArrayList<>();
            samples(lines, "request", api::newRequest, api::requestHeaderVersion);
            samples(lines, "response", api::newResponse, api::responseHeaderVersion);
            save(root.resolve("messages"), MessageName.of(api.newRequest()).replace("Request", ""), lines);
        }
        for (MetadataRecordType type : MetadataRecordType.values()) {
            List<String> lines = new ArrayList<>();
            samples(lines, "record", type::newMetadataRecord, version -> type.id());
            save(root.resolve("metadata"), MessageName.of(type.newMetadataRecord()), lines);
        }
        for (CoordinatorRecordType type : CoordinatorRecordType.values()) {
            for (Supplier<ApiMessage> message : List.<Supplier<ApiMessage>>of(type::newRecordKey, type::newRecordValue)) {
                List<String> lines = new ArrayList<>();
                samples(lines, "record", message, version -> type.id());
                save(root.resolve("group"), MessageName.of(message.get()), lines);
            }
        }
    }

    private interface Number {
        short of(short version);
    }

    private static final class MessageName {
        static String of(ApiMessage message) {
            String name = message.getClass().getSimpleName();
            return name.endsWith("Data") ? name.substring(0, name.length() - 4) : name;
        }
    }

    private static void save(Path directory, String name, List<String> lines) throws Exception {
        if (!lines.isEmpty()) {
            Files.createDirectories(directory);
            Files.writeString(directory.resolve(name + ".txt"), String.join("\n", lines) + "\n");
        }
    }

    private static void samples(List<String> lines, String kind, Supplier<ApiMessage> factory, Number number) throws Exception {
        Field schemas = factory.get().getClass().getField("SCHEMAS");
        Schema[] versions = (Schema[]) schemas.get(null);
        String name = factory.get().getClass().getSimpleName();
        for (short version = 0; version < versions.length; version++) {
            if (versions[version] == null) {
                continue; // A version that Kafka has removed.
            }
            for (int sample = 0; sample < SAMPLES; sample++) {
                Golden golden = new Golden((name + version + "/" + sample).hashCode());
                Object struct = golden.struct(versions[version], sample);
                ByteBuffer draft = ByteBuffer.allocate(versions[version].sizeOf(struct));
                versions[version].write(draft, struct);
                draft.flip();
                // Read and written again by the class itself: what is at its default is left out, as on the wire.
                ApiMessage message = factory.get();
                message.read(new ByteBufferAccessor(draft), version);
                ByteBuffer bytes = MessageUtil.toByteBufferAccessor(message, version).buffer();
                byte[] array = new byte[bytes.remaining()];
                bytes.get(array);
                String hex = array.length == 0 ? "-" : HexFormat.of().formatHex(array);
                lines.add(kind + " " + version + " " + number.of(version) + " " + hex);
            }
        }
    }

    private Struct struct(Schema schema, int sample) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, value(field.def.type, sample));
        }
        return struct;
    }

    // Sample 0 has everything set, the later ones leave out and empty at random.
    private boolean leaveOut(int sample) {
        return sample > 0 && random.nextInt(3) == 0;
    }

    private Object value(Type type, int sample) {
        if (type.isNullable() && leaveOut(sample)) {
            return null;
        }
        if (type instanceof TaggedFields) {
            return tags((TaggedFields) type, sample);
        }
        if (type instanceof Schema) {
            return struct((Schema) type, sample);
        }
        if (type.isArray()) {
            Object[] elements = new Object[leaveOut(sample) ? 0 : 1 + random.nextInt(2)];
            for (int i = 0; i < elements.length; i++) {
                elements[i] = value(type.arrayElementType().get(), sample);
            }
            return elements;
        }
        switch (type.toString().replace("COMPACT_", "").replace("NULLABLE_", "")) {
            case "BOOLEAN": return random.nextBoolean();
            case "INT8": return (byte) random.nextInt();
            case "INT16": return (short) random.nextInt();
            case "UINT16": return random.nextInt(65536);
            case "INT32": return random.nextInt();
            case "INT64": return random.nextLong();
            case "FLOAT64": return random.nextDouble();
            case "UUID": return new Uuid(random.nextLong(), random.nextLong());
            case "STRING": return WORDS[random.nextInt(WORDS.length)];
            case "BYTES": return ByteBuffer.wrap(bytes(6));
            case "RECORDS": return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(80)));
            default: throw new IllegalStateException(type.toString());
        }
    }

    private byte[] bytes(int max) {
        byte[] bytes = new byte[random.nextInt(max)];
        random.nextBytes(bytes);
        return bytes;
    }

    private TreeMap<Integer, Object> tags(TaggedFields type, int sample) {
        TreeMap<Integer, Object> tags = new TreeMap<>();
        for (Map.Entry<Integer, org.apache.kafka.common.protocol.types.Field> known : type.fields().entrySet()) {
            if (!leaveOut(sample)) {
                tags.put(known.getKey(), value(known.getValue().type, sample));
            }
        }
        if (random.nextInt(4) == 0) {
            int tag = 40 + random.nextInt(200);
            tags.put(tag, new RawTaggedField(tag, "later".getBytes(StandardCharsets.UTF_8)));
        }
        return tags;
    }
}
