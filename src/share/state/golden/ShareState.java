// Writes what Apache Kafka's own classes make of random share states: combined.txt, the batches that
// PersisterStateBatchCombiner gives, and records.txt, the records of __share_group_state in its bytes.
//
// `make test` does not run it; what it writes is committed. To write it anew, with the jars of Apache Kafka 4.3.1 in
// KAFKA_LIBS:
//
//     cd src/share/state/golden
//     javac -cp "$KAFKA_LIBS/*" -d /tmp/share-state ShareState.java
//     java -cp "/tmp/share-state:$KAFKA_LIBS/*" ShareState .
//
// A batch is written first-last/state/count. A line of combined.txt has the start offset, what was known, what is new,
// and what comes of it; one of records.txt has the fields of a record and its key and value in hex.

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.share.PersisterStateBatchCombiner;
import org.apache.kafka.coordinator.share.ShareCoordinatorRecordHelpers;
import org.apache.kafka.coordinator.share.ShareCoordinatorRecordSerde;
import org.apache.kafka.coordinator.share.ShareGroupOffset;
import org.apache.kafka.server.share.persister.PersisterStateBatch;

public class ShareState {
    private static final byte[] STATES = {0, 2, 4};

    private final Random random = new Random(932);

    public static void main(String[] arguments) throws Exception {
        Path directory = Path.of(arguments[0]);
        ShareState state = new ShareState();
        Files.write(directory.resolve("combined.txt"), state.combined(1000));
        Files.write(directory.resolve("records.txt"), state.records(60));
    }

    private List<String> combined(int count) {
        List<String> lines = new ArrayList<>();
        for (int line = 0; line < count; line++) {
            int width = 5 + random.nextInt(60);
            long start = random.nextInt(3) == 0 ? -1 : random.nextInt(width);
            // What is known is what came of something before, or anything at all.
            List<PersisterStateBatch> known = batches(width, random.nextInt(7));
            if (random.nextBoolean()) {
                known = new PersisterStateBatchCombiner(List.of(), known, -1).combineStateBatches();
            }
            List<PersisterStateBatch> more = batches(width, random.nextInt(5));
            List<PersisterStateBatch> combined =
                new PersisterStateBatchCombiner(known, more, start).combineStateBatches();
            lines.add(start + "|" + text(known) + "|" + text(more) + "|" + text(combined));
        }
        return lines;
    }

    private List<PersisterStateBatch> batches(int width, int count) {
        List<PersisterStateBatch> batches = new ArrayList<>();
        for (int number = 0; number < count; number++) {
            long first = random.nextInt(width);
            long last = first + random.nextInt(1 + width / 3);
            byte state = STATES[random.nextInt(STATES.length)];
            batches.add(new PersisterStateBatch(first, last, state, (short) (1 + random.nextInt(3))));
        }
        return batches;
    }

    private static String text(List<PersisterStateBatch> batches) {
        return batches.stream()
            .map(batch -> batch.firstOffset() + "-" + batch.lastOffset() + "/" + batch.deliveryState() + "/"
                + batch.deliveryCount())
            .collect(Collectors.joining(" "));
    }

    private List<String> records(int count) {
        List<String> lines = new ArrayList<>();
        ShareCoordinatorRecordSerde serde = new ShareCoordinatorRecordSerde();
        for (int line = 0; line < count; line++) {
            String group = List.of("g", "a:b", "gruppe-größe").get(random.nextInt(3));
            Uuid topic = new Uuid(random.nextLong(), random.nextLong());
            int partition = random.nextInt(1000);
            ShareGroupOffset offset = new ShareGroupOffset.Builder()
                .setSnapshotEpoch(random.nextInt(100))
                .setStateEpoch(random.nextInt(100))
                .setLeaderEpoch(random.nextInt(100) - 1)
                .setStartOffset(random.nextInt(3) == 0 ? -1 : random.nextLong(1L << 40))
                .setDeliveryCompleteCount(random.nextInt(3) - 1)
                .setCreateTimestamp(1_700_000_000_000L + random.nextInt(1000))
                .setWriteTimestamp(1_700_000_000_000L + random.nextInt(1000))
                .setStateBatches(batches(1000, random.nextInt(4)))
                .build();
            String name = List.of("snapshot", "update", "tombstone").get(line % 3);
            CoordinatorRecord record = switch (name) {
                case "snapshot" ->
                    ShareCoordinatorRecordHelpers.newShareSnapshotRecord(group, topic, partition, offset);
                case "update" ->
                    ShareCoordinatorRecordHelpers.newShareUpdateRecord(group, topic, partition, offset);
                default -> ShareCoordinatorRecordHelpers.newShareStateTombstoneRecord(group, topic, partition);
            };
            String fields = String.join(" ", offset.snapshotEpoch() + "", offset.stateEpoch() + "",
                offset.leaderEpoch() + "", offset.startOffset() + "", offset.deliveryCompleteCount() + "",
                offset.createTimestamp() + "", offset.writeTimestamp() + "");
            lines.add(String.join("|", name, group, topic.toString(), partition + "", fields,
                text(offset.stateBatches()), hex(serde.serializeKey(record)), hex(serde.serializeValue(record))));
        }
        return lines;
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "" : HexFormat.of().formatHex(bytes);
    }
}
